// Files that stop answering, fail or shrink, and a Cancel that works whatever is waited for.
import assert from 'node:assert/strict';
import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { noiseModel } from './noise.mjs';
import { choose, convert, planFor, sha256, stored, sweepDone, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('patience');
const source = join(folder, 'noise.safetensors');
noiseModel(source, 64);
const digest = sha256(quantized(source, join(folder, 'noise.gguf'), '--type', 'q4_0'));

/**
 * Makes the files of the page's worker misbehave: `stall`, `fail` and `end` are numbers of reads, counted over all
 * streams; `stall` may be 'all'. `slices: 'stall'` lets slices stall too, `fast` lets its clock run 20 times as fast.
 */
function misbehave(page, plan) {
  return page.workers()[0].evaluate((plan) => {
    self.seen = { opened: 0, reads: 0, stalled: 0, slices: 0 };
    const never = () => new Promise(() => {});
    self.real ??= { stream: Blob.prototype.stream, arrayBuffer: Blob.prototype.arrayBuffer };
    const { stream, arrayBuffer } = self.real;
    Blob.prototype.stream = function () {
      self.seen.opened += 1;
      const whole = stream.call(this);
      return {
        getReader: (options) => {
          const reader = whole.getReader(options);
          let stalled = false;
          const read = (view) => {
            const number = (self.seen.reads += 1);
            stalled = plan.stall === 'all' || (plan.stall ?? []).includes(number);
            if (stalled) self.seen.stalled += 1;
            if (stalled) return never();
            if (plan.fail === number) return Promise.reject(new DOMException('made to fail', 'NotReadableError'));
            if (plan.end === number) return Promise.resolve({ done: true, value: new Uint8Array(0) });
            return reader.read(view);
          };
          return { read, cancel: () => (stalled ? never() : reader.cancel()) };
        },
      };
    };
    Blob.prototype.arrayBuffer = function () {
      self.seen.slices += 1;
      return plan.slices === 'stall' ? never() : arrayBuffer.call(this);
    };
    if (!plan.fast) return;
    const { setTimeout } = self;
    self.setTimeout = (call, ms, ...more) => setTimeout(call, ms / 20, ...more);
  }, plan);
}

const seen = (page) => page.workers()[0].evaluate(() => self.seen);

async function openSource(page) {
  await choose(page, [source]);
  await page.getByRole('button', { name: 'Quantize', exact: true }).waitFor();
}

async function planned(page) {
  await openSource(page);
  // The sweep reads the file in the same worker.
  await sweepDone(page);
  await planFor(page, 'GGUF', 'Q4_0');
}

const STALLS = {
  'the first read': [1],
  'a read in mid stream': [7],
  'and again after it was opened again': [7, 8],
};

for (const [name, stall] of Object.entries(STALLS)) {
  test(`a stream that stalls is opened again where it stood: ${name}`, () =>
    withPage(async (page) => {
      await planned(page);
      await misbehave(page, { stall });
      await convert(page);
      await page.getByText('Saved', { exact: true }).waitFor();
      assert.equal((await seen(page)).stalled, stall.length);
      assert.deepEqual(Object.values(await stored(page, '')), [digest]);
    }));
}

test('a stream that stalls again and again is left for slices', () =>
  withPage(async (page) => {
    await planned(page);
    await misbehave(page, { stall: 'all' });
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    const { opened, slices } = await seen(page);
    assert.ok(slices > 10, `${slices} slices`);
    assert.equal(opened, 3, 'it is not tried for ever');
    assert.deepEqual(Object.values(await stored(page, '')), [digest]);
  }));

test('a file that does not answer at all is an error that names it, and nothing is kept', () =>
  withPage(async (page) => {
    await planned(page);
    await misbehave(page, { stall: 'all', slices: 'stall', fast: true });
    await convert(page);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /^The browser did not answer a read for 30 s[\s\S]*noise\.safetensors[\s\S]*io$/);
    assert.deepEqual(await stored(page, ''), {});
  }));

test('headers that do not answer are an error too', () =>
  withPage(async (page) => {
    await page.waitForTimeout(300);
    await misbehave(page, { slices: 'stall', fast: true });
    await choose(page, [source]);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /did not answer a read[\s\S]*noise\.safetensors/);
    await page.getByRole('button', { name: 'Choose files' }).waitFor();
  }));

test('a stream that fails, and one that ends too early, are errors that name file and place', () =>
  withPage(async (page) => {
    await planned(page);
    const cases = [
      [{ fail: 9 }, /^The browser cannot read the file: made to fail[\s\S]*noise\.safetensors[\s\S]*byte[\s\S]*io$/],
      [{ end: 9 }, /^The file ends before its length[\s\S]*noise\.safetensors[\s\S]*byte[\s\S]*truncated$/],
    ];
    for (const [plan, words] of cases) {
      await misbehave(page, plan);
      await convert(page);
      const alert = page.getByRole('alert').filter({ hasText: plan.fail ? 'made to fail' : 'truncated' });
      await alert.waitFor();
      assert.match(await alert.innerText(), words);
      assert.deepEqual(await stored(page, ''), {});
    }
  }));

test('a file that shrinks after it was opened is refused by name', () =>
  withPage(async (page) => {
    const path = join(folder, 'shrinks.safetensors');
    const bytes = noiseModel(path, 24);
    await choose(page, [path]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'GGUF', 'Q4_0');
    truncateSync(path, Math.floor(bytes / 2));
    await convert(page);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /shrinks\.safetensors[\s\S]*(io|truncated)$/);
    assert.deepEqual(await stored(page, ''), {});
  }));

test('looking into a tensor, its rotation and comparing read in the same way', () =>
  withPage(async (page) => {
    await openSource(page);
    await misbehave(page, { stall: [2] });
    await page.locator('.grid-row').first().click();
    // All types are measured: no read of theirs is counted below.
    await page.locator('.exports').first().waitFor({ timeout: 120_000 });
    assert.equal((await seen(page)).stalled, 1);
    await misbehave(page, { stall: [1] });
    await page.getByRole('radio', { name: 'Block 32' }).check();
    await page.getByRole('columnheader', { name: 'SQNR gain (dB)' }).waitFor({ timeout: 120_000 });
    assert.equal((await seen(page)).stalled, 1);
    await misbehave(page, { stall: [3, 5] });
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await choose(page, [source]);
    await page.getByText(/^Pass: all/).waitFor({ timeout: 120_000 });
    assert.equal((await seen(page)).stalled, 2);
  }));

test('cancel of a comparison does not wait for a read either', () =>
  withPage(async (page) => {
    await openSource(page);
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await misbehave(page, { stall: 'all' });
    await choose(page, [source]);
    await page.getByRole('progressbar').waitFor();
    await misbehave(page, { stall: 'all', slices: 'stall' });
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled.', { exact: true }).waitFor();
  }));

/** A method of the worker that never answers, from its call number `from` on. */
function silence(page, type, method, from = 1) {
  return page.workers()[0].evaluate(
    ([type, method, from]) => {
      const real = self[type].prototype[method];
      let calls = 0;
      self[type].prototype[method] = function (...args) {
        calls += 1;
        return calls >= from ? new Promise(() => {}) : real.apply(this, args);
      };
      self.restore = () => (self[type].prototype[method] = real);
    },
    [type, method, from],
  );
}

const WAITS = {
  'a read': (page) => misbehave(page, { stall: 'all', slices: 'stall' }),
  'opening the file': (page) => silence(page, 'FileSystemFileHandle', 'createWritable'),
  'setting its length': (page) => silence(page, 'FileSystemWritableFileStream', 'truncate'),
  'the first write': (page) => silence(page, 'FileSystemWritableFileStream', 'write'),
  'a later write': (page) => silence(page, 'FileSystemWritableFileStream', 'write', 2),
};

for (const [name, hang] of Object.entries(WAITS)) {
  test(`cancel does not wait for ${name} that never answers, and leaves no file`, () =>
    withPage(async (page) => {
      await planned(page);
      await hang(page);
      await convert(page);
      await page.getByRole('progressbar').waitFor();
      await page.waitForTimeout(500);
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('Cancelled. No file was written.').waitFor();
      assert.deepEqual(await stored(page, ''), {});
      if (!(await page.workers()[0].evaluate(() => self.restore?.()))) return;
      // The page works on.
      await convert(page);
      await page.getByText('Saved', { exact: true }).waitFor();
      assert.deepEqual(Object.values(await stored(page, '')), [digest]);
    }));
}

test('cancel while a folder is written removes what was written', () =>
  withPage(async (page) => {
    await openSource(page);
    await planFor(page, 'Lattice', 'Asymmetric');
    await silence(page, 'FileSystemWritableFileStream', 'write', 3);
    await convert(page);
    await page.getByRole('progressbar').waitFor();
    await page.waitForTimeout(500);
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled. No file was written.').waitFor();
    assert.deepEqual(await stored(page, 'folder-'), {});
  }));

test('private storage: cancel during a read, and before its file opens, leaves nothing', () =>
  withPage(
    async (page) => {
      await planned(page);
      await misbehave(page, { stall: 'all', slices: 'stall' });
      await convert(page);
      await page.getByRole('progressbar').waitFor();
      await page.waitForTimeout(500);
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('Cancelled. No file was written.').waitFor();
      assert.deepEqual(await stored(page, 'quantoscope'), {});
      // The handle comes after the cancel: it must not keep its file.
      await page.workers()[0].evaluate(() => {
        const real = FileSystemFileHandle.prototype.createSyncAccessHandle;
        FileSystemFileHandle.prototype.createSyncAccessHandle = async function () {
          const handle = await real.call(this);
          await new Promise((resolve) => (self.comes = resolve));
          return handle;
        };
      });
      await convert(page);
      await page.getByRole('progressbar').waitFor();
      await page.waitForTimeout(500);
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('has not confirmed yet that the unfinished file is gone').waitFor();
      await page.workers()[0].evaluate(() => self.comes());
      const left = async () => Object.keys(await stored(page, 'quantoscope'));
      for (let tries = 0; tries < 50 && (await left()).length > 0; tries += 1) await page.waitForTimeout(100);
      assert.deepEqual(await left(), []);
    },
    { pickers: false },
  ));

test('what cannot be confirmed is not promised', () =>
  withPage(async (page) => {
    await planned(page);
    await silence(page, 'FileSystemWritableFileStream', 'write');
    await silence(page, 'FileSystemWritableFileStream', 'abort');
    await convert(page);
    await page.getByRole('progressbar').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('has not confirmed yet that the unfinished file is gone').waitFor();

    // Without the address of a view, which would be shown again.
    await page.evaluate(() => history.replaceState(null, '', location.pathname));
    await page.reload();
    await planned(page);
    await silence(page, 'FileSystemWritableFileStream', 'close');
    await convert(page);
    await page.getByText('Putting the file in place').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('so it may be there, and whole').waitFor();
  }));

test('a write that never answers is an error that names the file', () =>
  withPage(async (page) => {
    await planned(page);
    await misbehave(page, { fast: true });
    await silence(page, 'FileSystemWritableFileStream', 'write', 2);
    await convert(page);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /The browser did not finish a write within 60 s[\s\S]*noise-q4_0\.gguf[\s\S]*io$/);
    assert.deepEqual(await stored(page, ''), {});
  }));

test('a write that fails is an error that names the file, and nothing is kept', () =>
  withPage(async (page) => {
    await planned(page);
    await page.workers()[0].evaluate(() => {
      const real = FileSystemWritableFileStream.prototype.write;
      let calls = 0;
      FileSystemWritableFileStream.prototype.write = function (chunk) {
        calls += 1;
        if (calls < 3) return real.call(this, chunk);
        return Promise.reject(new DOMException('there is no room', 'QuotaExceededError'));
      };
    });
    await convert(page);
    const alert = page.getByRole('alert');
    await alert.waitFor();
    assert.match(await alert.innerText(), /There is no room[\s\S]*noise-q4_0\.gguf[\s\S]*no_space$/);
    assert.deepEqual(await stored(page, ''), {});
  }));

test('writes are gathered to 4 MiB, with one under way', () =>
  withPage(async (page) => {
    await planned(page);
    await page.workers()[0].evaluate(() => {
      const real = FileSystemWritableFileStream.prototype.write;
      self.writes = [];
      self.buffers = new Set();
      self.most = 0;
      let under = 0;
      FileSystemWritableFileStream.prototype.write = async function (chunk) {
        self.writes.push(chunk.data.byteLength);
        self.buffers.add(chunk.data.buffer);
        self.most = Math.max(self.most, (under += 1));
        await real.call(this, chunk);
        under -= 1;
      };
    });
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    const { writes, most, buffers } = await page.workers()[0].evaluate(() => ({
      writes: self.writes,
      most: self.most,
      buffers: self.buffers.size,
    }));
    const whole = writes.slice(0, -1);
    assert.ok(whole.length > 0 && whole.every((bytes) => bytes === 4 << 20), `${writes}`);
    assert.equal(most, 1);
    assert.ok(buffers <= 3, `${buffers} blocks of memory`);
  }));
