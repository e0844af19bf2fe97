// WebGPU beside the processor: the same bytes and figures, whatever the device does; and what the engines panel says of it.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertAccessible, choose, convert, openSample, planFor, SAMPLE, sha256, sparseModel, stored, wasmMemory, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('engines');
const digest = sha256(quantized(SAMPLE, join(folder, 'expected.gguf'), '--type', 'q4_0'));

/** A page that remembers a choice, and keeps every report that its worker gives, those of the sweep in the background excepted. */
function withEngine(engine, body, options = {}) {
  const prepare = async (page, url, context) => {
    await page.addInitScript((engine) => {
      localStorage.setItem('quantoscope-engine', engine);
      window.reports = [];
      const Plain = window.Worker;
      window.Worker = class extends Plain {
        constructor(...args) {
          super(...args);
          this.calls = new Map();
          this.addEventListener('message', ({ data }) => {
            const report = data.answer?.report ?? data.answer;
            if (report?.run && this.calls.get(data.id) !== 'sweep') window.reports.push(report);
          });
        }
        postMessage(message, ...rest) {
          if (message.call) this.calls.set(message.id, message.call);
          super.postMessage(message, ...rest);
        }
      };
    }, engine);
    await page.reload();
    // The worker answers: what is changed in it now is changed before it opens a device.
    await page.waitForFunction(() => document.querySelector('.chip'));
    await page.waitForTimeout(300);
    await body(page, url, context);
  };
  return withPage(prepare, { webgpu: true, ...options });
}

const reports = (page) => page.evaluate(() => window.reports);
const note = (page) => page.locator('.engine-note').innerText();

async function saveSample(page) {
  await openSample(page);
  await planFor(page, 'GGUF', 'Q4_0');
  await convert(page);
  await page.getByText('Saved', { exact: true }).waitFor({ timeout: 120_000 });
  assert.deepEqual(Object.values(await stored(page, '')), [digest]);
}

/** Looks into one tensor and converts the sample; the reports of both. */
async function lookAndSave(page) {
  await openSample(page);
  await page.getByRole('searchbox').fill('layers.0.self_attn.k_proj');
  await page.locator('.grid-row').first().click();
  await page.locator('.exports').first().waitFor({ timeout: 120_000 });
  await planFor(page, 'GGUF', 'Q4_0');
  await convert(page);
  await page.getByText('Saved', { exact: true }).waitFor({ timeout: 120_000 });
  assert.deepEqual(Object.values(await stored(page, '')), [digest]);
  return reports(page);
}

test('a look and a conversion give the same bytes and reports with WebGPU and without', async () => {
  const found = {};
  for (const engine of ['processor', 'webgpu'])
    await withEngine(engine, async (page) => {
      found[engine] = await lookAndSave(page);
      const words = engine === 'webgpu' ? /GPU \(google swiftshader\): .*blocks, .* spot-checked on the CPU, all identical/ : /CPU \(WASM SIMD\)/;
      assert.match(await note(page), words);
    });
  const plain = (all) => all.map(({ run: _, ...report }) => report);
  // Values, errors of all types in one report or more, and the conversion.
  assert.ok(found.webgpu.length > 2, `${found.webgpu.length} reports`);
  assert.deepEqual(plain(found.webgpu), plain(found.processor));
  for (const { run } of found.processor) assert.deepEqual([run.engine, run.device], ['simd128', undefined]);
  for (const { run } of found.webgpu) {
    assert.equal(run.device.name, 'google swiftshader');
    assert.equal(run.device.differing, 0);
    assert.ok(run.device.blocks === 0 || run.device.checked > 0);
  }
  // Statistics alone have no blocks.
  const blocks = found.webgpu.map(({ run }) => run.device.blocks);
  assert.ok(blocks.at(-1) > 1000 && blocks.slice(0, -1).some((n) => n > 1000), `${blocks}`);
});

/** From its second large result on, the browser's device gives wrong bytes. */
function lie(page) {
  return page.workers()[0].evaluate(() => {
    let large = 0;
    const { getMappedRange } = GPUBuffer.prototype;
    GPUBuffer.prototype.getMappedRange = function (...args) {
      const range = getMappedRange.apply(this, args);
      if (range.byteLength > 100_000 && (large += 1) > 1)
        new Uint8Array(range, 0, range.byteLength - 4).forEach((byte, at, all) => (all[at] = byte ^ 1));
      return range;
    };
  });
}

test('where a device lies, the run is restarted without it: a picked file', () =>
  withEngine('webgpu', async (page) => {
    await lie(page);
    await saveSample(page);
    assert.match(await note(page), /Restarted on the CPU: google swiftshader produced wrong bytes/);
    const [{ run }] = await reports(page);
    assert.ok(run.device.differing > 0);
    await page.getByRole('button', { name: /^Compute/ }).click();
    await page.getByText(/made wrong bytes\. Until this page is loaded again/).waitFor();
  }));

test('where a device lies, the run is restarted without it: a download', () =>
  withEngine(
    'webgpu',
    async (page) => {
      await lie(page);
      await openSample(page);
      await planFor(page, 'GGUF', 'Q4_0');
      const download = page.waitForEvent('download');
      await convert(page);
      assert.equal(sha256(await (await download).path()), digest);
      assert.match(await note(page), /produced wrong bytes/);
    },
    { pickers: false },
  ));

test('a device that is lost half way is done without', () =>
  withEngine('webgpu', async (page) => {
    await page.workers()[0].evaluate(() => {
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        globalThis.device = await requestDevice.apply(this, args);
        return globalThis.device;
      };
      let large = 0;
      const { mapAsync } = GPUBuffer.prototype;
      GPUBuffer.prototype.mapAsync = function (...args) {
        if (this.size > 100_000 && (large += 1) === 3) globalThis.device.destroy();
        return mapAsync.apply(this, args);
      };
    });
    await saveSample(page);
    assert.match(await note(page), /GPU \(google swiftshader\): .*blocks, .* It was disabled: /);
  }));

test('the engines panel: what there is, what was asked, how fast it is, what Auto takes', () =>
  withEngine('auto', async (page) => {
    await page.getByRole('button', { name: 'Compute: Auto' }).click();
    const panel = page.getByRole('dialog', { name: 'Compute settings' });
    await panel.getByText('google swiftshader').waitFor();
    await panel.getByText('software', { exact: true }).waitFor();
    await panel.getByText('simd128', { exact: true }).waitFor();
    await panel.getByText('This is a software GPU: slower than the CPU, never used by Auto.').waitFor();
    const row = (name) => panel.getByRole('row', { name });
    const cells = (name) => row(name).getByRole('cell').allInnerTexts();
    // Nothing is asked of an adapter in software before somebody wants it.
    assert.equal(await panel.getByText('bit-exact', { exact: true }).count(), 0);
    await panel.getByRole('button', { name: 'Self-test and measure' }).click();
    await row(/^Q8_0 ?quantize bit-exact .* CPU$/).waitFor({ timeout: 120_000 });
    const [probe, processor, device, auto] = await cells(/^Q8_0 ?quantize/);
    assert.deepEqual([probe, auto], ['bit-exact', 'CPU']);
    assert.ok(Number(processor) > 0 && Number(device) > 0);
    for (const colorScheme of ['light', 'dark'])
      for (const width of [1440, 390]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 900 });
        await assertAccessible(page, `engines panel, ${colorScheme}, ${width}`);
        const wide = await page.evaluate(() => document.querySelector('dialog').scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${wide} pixels too wide at ${width}`);
      }
    await panel.getByRole('radio', { name: 'CPU' }).focus();
    await page.keyboard.press('ArrowRight');
    assert.ok(await panel.getByRole('radio', { name: 'WebGPU' }).isChecked());
    // Closing it ends the measuring.
    await page.keyboard.press('Escape');
    await panel.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Compute: WebGPU' }).waitFor();
    assert.equal(await page.evaluate(() => localStorage.getItem('quantoscope-engine')), 'webgpu');
  }));

test('Auto takes a device for large work where that is measured to be faster', () =>
  withEngine('auto', async (page) => {
    // A clock on which every measurement takes as long: the device, which is asked for more at once, is the faster one.
    await page.workers()[0].evaluate(() => {
      Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });
      let time = 0;
      performance.now = () => (time += 20);
    });
    const path = join(folder, 'large.safetensors');
    sparseModel(path, 2);
    await choose(page, [path]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'GGUF', 'Q4_0');
    await convert(page);
    await page.getByText(/, with WebGPU$/).waitFor({ timeout: 120_000 });
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled. No file was written.').waitFor({ timeout: 60_000 });
    const bytes = await wasmMemory(page);
    console.log(`windows of a device: ${(bytes / 1e6).toFixed(1)} MB of the core's memory`);
    assert.ok(bytes < 128e6, `${bytes} bytes`);
  }));

test('without an adapter one sentence says so, and nothing else changes', () =>
  withEngine(
    'webgpu',
    async (page) => {
      await page.getByRole('button', { name: 'Compute: WebGPU' }).click();
      const panel = page.getByRole('dialog', { name: 'Compute settings' });
      await panel.getByText('The browser offers this page no graphics adapter').first().waitFor();
      await assertAccessible(page, 'engines panel without an adapter');
      await panel.getByRole('button', { name: 'Close' }).click();
      await saveSample(page);
      assert.equal(await note(page), 'CPU (WASM SIMD), 1 thread.');
    },
    { webgpu: false },
  ));
