// What can be opened, how fast, with how much memory; and what is refused, with which code.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { choose, commandLine, convert, drop, memoryFile, openSample, planFor, safetensorsHeader, SAMPLE, sparseModel, stored, wasmMemory, withPage } from './page.mjs';
import { directoryOf, quantized, safetensors, testFolder, tiny } from './setup.mjs';

const folder = testFolder('opening');

/** Script, document and wasm memory of the page and its worker, in bytes. */
async function memory(page) {
  const cdp = await page.context().newCDPSession(page);
  const worker = new Promise((resolve) => cdp.on('Target.attachedToTarget', (event) => resolve(event.sessionId)));
  await cdp.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const sessionId = await worker;
  const usage = new Promise((resolve) => {
    cdp.on('Target.receivedMessageFromTarget', ({ message }) => {
      const { id, result } = JSON.parse(message);
      if (id === 1) resolve(result);
    });
  });
  await cdp.send('Target.sendMessageToTarget', {
    sessionId,
    message: JSON.stringify({ id: 1, method: 'Runtime.getHeapUsage' }),
  });
  await cdp.send('HeapProfiler.collectGarbage');
  const sum = (u) => u.usedSize + u.embedderHeapUsedSize + u.backingStorageSize;
  const total = sum(await cdp.send('Runtime.getHeapUsage')) + sum(await usage);
  await cdp.detach();
  return total + (await wasmMemory(page));
}

test('a dropped file of 6 GB shows its rows from its header alone, in less than 50 MB', () =>
  withPage(async (page) => {
    const path = join(folder, 'large.safetensors');
    const made = sparseModel(path, 25);
    assert.ok(made.bytes > 6e9);
    await page.evaluate(() => {
      addEventListener('drop', () => (window.droppedAt = performance.now()), true);
      new MutationObserver(() => {
        if (window.droppedAt && !window.rowAfter && document.querySelector('.grid-row'))
          window.rowAfter = performance.now() - window.droppedAt;
      }).observe(document.body, { childList: true, subtree: true });
    });
    await page.waitForTimeout(300);
    await page.workers()[0].evaluate(() => {
      const { stream, arrayBuffer } = Blob.prototype;
      const count = (real) =>
        function () {
          self.read = (self.read ?? 0) + this.size;
          return real.call(this);
        };
      Blob.prototype.stream = count(stream);
      Blob.prototype.arrayBuffer = count(arrayBuffer);
      // The sweep that begins when the model is open reads rows.
      const post = self.postMessage;
      self.postMessage = (message) => {
        if (message.answer?.tensors) self.readByOpening ??= self.read;
        post.call(self, message);
      };
    });
    const before = await memory(page);
    await drop(page, [path]);
    await page.waitForFunction(() => window.rowAfter);
    const milliseconds = await page.evaluate(() => window.rowAfter);
    const grown = (await memory(page)) - before;
    console.log(
      `6 GB: first row after ${milliseconds.toFixed(0)} ms, ${(grown / 1e6).toFixed(1)} MB more than the empty page (${(before / 1e6).toFixed(1)} MB)`,
    );
    assert.equal(await page.getByRole('grid').first().getAttribute('aria-rowcount'), String(made.tensors + 1));
    const read = await page.workers()[0].evaluate(() => self.readByOpening);
    assert.ok(read > 0 && read < 1e6, `${read} bytes were read`);
    assert.ok(grown < 50e6, `${grown} bytes`);

    // Work on it stays small as well: one window at a time.
    await page.locator('.grid-row').first().click();
    await page.getByRole('region', { name: 'Tensor', exact: true }).getByRole('progressbar').waitFor();
    await page.waitForTimeout(1500);
    const working = (await memory(page)) - before;
    console.log(`while a tensor of 788 MB is read: ${(working / 1e6).toFixed(1)} MB`);
    assert.ok(working < 80e6, `${working} bytes`);
  }));

test('a dropped folder with shards and an index', () =>
  withPage(async (page) => {
    const part = (n) => `model-0000${n}-of-00002.safetensors`;
    const index = { metadata: {}, weight_map: { 'layer.1.weight': part(1), 'layer.2.weight': part(2) } };
    const directory = directoryOf(folder, 'sharded', {
      [part(1)]: tiny('layer.1', 1),
      [part(2)]: tiny('layer.2', 2),
      'model.safetensors.index.json': JSON.stringify(index),
      'config.json': readFileSync(join(SAMPLE, 'config.json')),
    });
    await drop(page, [directory]);
    await page.getByRole('heading', { name: 'sharded' }).waitFor();
    await page.getByText('safetensors \u00b7 llama').waitFor();
    assert.equal(await page.locator('.grid-row').count(), 2);
    await page.locator('.grid-row').first().click();
    await page.getByRole('heading', { name: 'Quantization error by type' }).waitFor();
  }));

const header = (json) => {
  const text = Buffer.from(json);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text]);
};

const BAD = {
  'not-a-model.bin': Buffer.from('MZ this is no model at all'),
  'short.safetensors': header('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
  'twice.safetensors': Buffer.concat([
    header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'),
    Buffer.alloc(2),
  ]),
  'far.safetensors': header(
    '{"a":{"dtype":"F32","shape":[4611686018427387903],"data_offsets":[0,18446744073709551612]}}',
  ),
  'old.gguf': Buffer.from('GGUF\u0001\0\0\0\0\0\0\0\0\0\0\0', 'latin1'),
  'empty.safetensors': Buffer.alloc(0),
};

for (const [name, bytes] of Object.entries(BAD)) {
  test(`a bad file has the code and the words of the command line: ${name}`, () =>
    withPage(async (page) => {
      const path = join(folder, name);
      writeFileSync(path, bytes);
      const { status, stderr } = commandLine('inspect', path, '--json');
      assert.equal(status, 4, stderr);
      const { error = JSON.parse(stderr) } = JSON.parse(stderr);
      await choose(page, [memoryFile(name, bytes)]);
      const alert = page.getByRole('alert');
      await alert.waitFor();
      assert.equal(await alert.locator('.code').innerText(), error.code);
      // A sentence begins with a capital.
      assert.ok((await alert.innerText()).includes(error.message.slice(1)), error.message);
      if (error.tensor) assert.ok((await alert.innerText()).includes(error.tensor));
    }));
}

test('NaN is refused with its tensor and element, and nothing is kept', () =>
  withPage(async (page) => {
    const values = new Float32Array(64).fill(0.5);
    values[37] = NaN;
    const { header } = safetensorsHeader([['model.layers.0.mlp.up_proj.weight', 'F32', [2, 32], 256]]);
    await choose(page, [memoryFile('nan.safetensors', Buffer.concat([header, Buffer.from(values.buffer)]))]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'Lattice', 'Asymmetric');
    await convert(page);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /NaN[\s\S]*model\.layers\.0\.mlp\.up_proj\.weight[\s\S]*37[\s\S]*non_finite/);
    assert.deepEqual(await stored(page, 'folder-'), {});
  }));

test('a folder that holds something is refused and left alone', () =>
  withPage(async (page) => {
    await page.evaluate(() => {
      window.showDirectoryPicker = async () => {
        const folder = await (
          await navigator.storage.getDirectory()
        ).getDirectoryHandle('folder-full', { create: true });
        await (await (await folder.getFileHandle('letter.txt', { create: true })).createWritable()).close();
        return folder;
      };
    });
    await openSample(page);
    await planFor(page, 'Lattice', 'Asymmetric');
    await convert(page);
    await page.getByRole('alert').getByText('exists', { exact: true }).waitFor();
    assert.deepEqual(Object.keys(await stored(page, 'folder-full')), ['letter.txt']);
  }));

test('a bad file does not close the model that is open', () =>
  withPage(async (page) => {
    await openSample(page);
    const path = join(folder, 'nothing.gguf');
    writeFileSync(path, 'nothing');
    await drop(page, [path]);
    await page.getByRole('alert').waitFor();
    await page.locator('.grid-row').first().click();
    await page.getByRole('heading', { name: 'Quantization error by type' }).waitFor();
  }));

for (const pickers of [true, false]) {
  test(`cancel stops a long run and leaves nothing behind, ${pickers ? 'picked file' : 'private storage'}`, () =>
    withPage(
      async (page) => {
        const path = join(folder, 'long.safetensors');
        sparseModel(path, 4);
        await choose(page, [path]);
        await page.getByRole('grid', { name: 'Tensors' }).waitFor();
        await planFor(page, 'GGUF', 'Q4_0');
        await convert(page);
        await page.getByText(/\/s, about/).waitFor();
        await page.getByRole('button', { name: 'Cancel' }).click();
        await page.getByText('Cancelled. No file was written.').waitFor();
        assert.deepEqual(await stored(page, pickers ? '' : 'quantoscope'), {});
        // The page works on.
        await page.getByRole('button', { name: 'Tensors', exact: true }).click();
        await page.locator('.grid-row').nth(9).click();
        await page.getByRole('heading', { name: 'Statistics' }).waitFor();
      },
      { pickers },
    ));
}

test('two different models: rows by rmse, findings, and a gate that fails', () =>
  withPage(async (page) => {
    const candidate = quantized(SAMPLE, join(folder, 'candidate.gguf'), '--type', 'q4_0');
    await openSample(page);
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await drop(page, [candidate]);
    await page.getByText(/^Pass: all/).waitFor();
    const { stdout } = commandLine('compare', SAMPLE, candidate, '--json');
    const report = JSON.parse(stdout);
    assert.equal(
      await page.locator('.compare .grid-row .name .whole').first().getAttribute('title'),
      report.tensors[0].tensor,
    );
    const rmse = await page.locator('.compare .grid-row').first().locator('.num').nth(1).innerText();
    assert.equal(Number(rmse), Number(report.tensors[0].rmse.toPrecision(4)));

    const other = safetensors([
      ['model.norm.weight', 'F32', [7], 28],
      ['stranger', 'F32', [2], 8],
    ]);
    await choose(page, [memoryFile('other.safetensors', other)]);
    await page.getByText(/^Fail: /).waitFor();
    await page.getByText('shape_mismatch').waitFor();
    await page.getByText('only_in_candidate').waitFor();

    await page.getByRole('spinbutton').fill('2');
    await page.getByRole('spinbutton').blur();
    await page.getByRole('alert').getByText('usage', { exact: true }).waitFor();
  }));

test('types that search are tried on a sample of a large tensor, and the page says of how much', () =>
  withPage(async (page) => {
    const { header, data } = safetensorsHeader([['a.weight', 'BF16', [4608, 1024], 4608 * 1024 * 2]]);
    const values = Uint16Array.from({ length: data / 2 }, (_, i) => 0x3c00 + ((i * 2654435761) >>> 23) + ((i & 1) << 15));
    await choose(page, [memoryFile('large.safetensors', Buffer.concat([header, Buffer.from(values.buffer)]))]);
    await page.locator('.grid-row').first().click();
    await page.getByText(/Estimated from 4.096 of 4.608 rows/).waitFor({ timeout: 120_000 });
    const types = await page.locator('.figures-table tbody th').allInnerTexts();
    for (const name of ['Q8_0', 'Q4_K', 'IQ4_XS']) assert.ok(types.includes(name), `${name} in ${types}`);
    assert.equal(await page.locator('.figures-table .refused').count(), 0);
  }));
