// The job bar: conversions go on whatever is shown, one at a time, and nothing ends one without asking.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { noiseModel } from './noise.mjs';
import { assertAccessible, choose, convert, drop, pickType, planFor, sha256, stored, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('jobs');
const source = join(folder, 'noise.safetensors');
const other = join(folder, 'other.safetensors');
noiseModel(source, 16);
noiseModel(other, 1);
const digests = {};
for (const type of ['q4_0', 'q8_0'])
  digests[`noise-${type}.gguf`] = sha256(quantized(source, join(folder, `noise-${type}.gguf`), '--type', type));

const bar = (page) => page.getByRole('region', { name: 'Conversions' });
const question = (page) => page.getByRole('alertdialog', { name: 'Stop the conversion?' });
const cancel = (page, type) => page.getByRole('button', { name: `Cancel noise-${type}.gguf` });
const saved = (page) => page.getByText('Saved', { exact: true });
const grid = (page) => page.getByRole('grid', { name: 'Tensors' });
const focused = (page) =>
  page.evaluate(() => document.activeElement.getAttribute('aria-label') || document.activeElement.textContent);

/** The worker's writes into picked files wait from now on; the function that comes back lets them go. */
async function hold(page) {
  const worker = page.workers()[0];
  await worker.evaluate(() => {
    const real = FileSystemWritableFileStream.prototype.write;
    const open = new Promise((resolve) => (self.letGo = resolve));
    self.writing = 0;
    FileSystemWritableFileStream.prototype.write = async function (...args) {
      self.writing += 1;
      await open;
      return real.apply(this, args);
    };
  });
  return () => worker.evaluate(() => self.letGo());
}

/** A page whose conversion of `source` to Q4_0 is under way, and stays so until `go` is called. */
function whileRunning(body, options) {
  return withPage(async (page, url, context) => {
    await choose(page, [source]);
    await grid(page).waitFor();
    await planFor(page, 'GGUF', 'Q4_0');
    const go = await hold(page);
    await convert(page);
    await page.getByRole('progressbar').waitFor();
    await body(page, go, context);
  }, options);
}

async function assertRunning(page) {
  assert.ok(await bar(page).getByRole('progressbar').isVisible());
  assert.ok(await cancel(page, 'q4_0').isVisible());
}

test('it goes on, in sight, when type, container and view change, and its figures are there afterwards', () =>
  whileRunning(async (page, go) => {
    await pickType(page, 'Q8_0');
    await page.locator('.plan-result[aria-busy=false]').waitFor();
    await assertRunning(page);
    await page.getByRole('radio', { name: 'Lattice' }).check();
    await page.locator('.plan-result[aria-busy=false]').waitFor();
    await assertRunning(page);
    for (const view of ['Tensors', 'Compare', 'Quantize']) {
      await page.getByRole('button', { name: view, exact: true }).click();
      await assertRunning(page);
    }
    assert.match(await page.title(), /^\d+ % · noise\.safetensors · Quantoscope$/);
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    assert.ok((await bar(page).boundingBox()).y >= 0, 'it stays in the window');
    await page.getByRole('button', { name: 'Tensors', exact: true }).click();
    await page.locator('.grid-row').first().click();
    await page.getByRole('heading', { name: 'Quantization error by type' }).waitFor({ timeout: 120_000 });
    await assertRunning(page);
    await go();
    await saved(page).waitFor();
    assert.deepEqual(await stored(page, ''), { 'noise-q4_0.gguf': digests['noise-q4_0.gguf'] });
    await planFor(page, 'GGUF', 'Q4_0');
    assert.match(await page.locator('.decisions .grid-row').first().innerText(), /\d\.\d+\u2009%/, 'errors of the written tensors');
    await page.getByRole('button', { name: 'Compare with the source' }).click();
    await page.getByRole('grid', { name: 'Compared tensors' }).waitFor();
  }));

const WAYS_OUT = {
  'the logo': (page) => page.getByRole('button', { name: 'Quantoscope' }).click(),
  'Open another': (page) => page.getByRole('button', { name: 'Open another' }).click(),
  'a drop': (page) => drop(page, [other]),
};

for (const [name, leave] of Object.entries(WAYS_OUT)) {
  test(`${name} asks first; the conversion is kept running`, () =>
    whileRunning(async (page, go) => {
      await leave(page);
      await question(page).waitFor();
      assert.match(await question(page).innerText(), /\d+ % done/);
      assert.equal(await focused(page), 'Keep running');
      await page.getByRole('button', { name: 'Keep running' }).click();
      await question(page).waitFor({ state: 'detached' });
      await leave(page);
      await question(page).waitFor();
      await page.keyboard.press('Escape');
      await question(page).waitFor({ state: 'detached' });
      assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
      await assertRunning(page);
      await go();
      await saved(page).waitFor();
      assert.deepEqual(await stored(page, ''), { 'noise-q4_0.gguf': digests['noise-q4_0.gguf'] });
    }));

  test(`${name} asks first; the conversion is stopped`, () =>
    whileRunning(async (page) => {
      await leave(page);
      await question(page).getByRole('button', { name: 'Stop' }).click();
      if (name === 'a drop') await page.getByRole('heading', { name: 'other.safetensors' }).waitFor();
      else await page.getByRole('button', { name: 'Open the sample model' }).waitFor();
      await page.getByText('Cancelled. No file was written.').waitFor();
      assert.deepEqual(await stored(page, ''), {});
      assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
    }));
}

test('a file that cannot be opened ends nothing and asks nothing', () =>
  whileRunning(async (page) => {
    const path = join(folder, 'nothing.gguf');
    writeFileSync(path, 'nothing');
    await drop(page, [path]);
    await page.getByRole('alert').waitFor();
    assert.equal(await question(page).count(), 0);
    await assertRunning(page);
  }));

test('a drop to compare asks nothing, and both go on', () =>
  whileRunning(async (page, go) => {
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await drop(page, [source]);
    await page.getByText(/^Pass: all/).waitFor();
    assert.equal(await question(page).count(), 0);
    await assertRunning(page);
    await go();
    await saved(page).waitFor();
  }));

test('a conversion that ends while the question is open answers it', () =>
  whileRunning(async (page, go) => {
    await page.getByRole('button', { name: 'Open another' }).click();
    await question(page).waitFor();
    await go();
    await page.getByRole('button', { name: 'Open the sample model' }).waitFor();
    assert.equal(await question(page).count(), 0);
    assert.deepEqual(await stored(page, ''), { 'noise-q4_0.gguf': digests['noise-q4_0.gguf'] });
  }));

test('leaving the page asks while a conversion runs or waits, and not afterwards', () =>
  whileRunning(async (page, go) => {
    const asked = [];
    page.on('dialog', (dialog) => {
      asked.push(dialog.type());
      void dialog.dismiss();
    });
    await page.close({ runBeforeUnload: true });
    await page.waitForTimeout(500);
    assert.deepEqual(asked, ['beforeunload']);
    await assertRunning(page);
    await go();
    await saved(page).waitFor();
    const stays = await page.evaluate(() => !dispatchEvent(new Event('beforeunload', { cancelable: true })));
    assert.equal(stays, false);
  }));

/** A second conversion of the same model, to Q8_0. */
async function second(page) {
  await planFor(page, 'GGUF', 'Q8_0');
  await convert(page);
  await cancel(page, 'q8_0').waitFor();
}

test('a second conversion waits for the first', () =>
  whileRunning(async (page, go) => {
    await page.getByText('It starts when the conversion before it is done.').waitFor();
    await second(page);
    assert.equal(await page.getByRole('progressbar').count(), 1);
    assert.match(await bar(page).innerText(), /Quantizing noise-q4_0\.gguf[\s\S]*Waiting noise-q8_0\.gguf/);
    await page.getByRole('button', { name: 'Open another' }).click();
    assert.match(await question(page).innerText(), /1.waiting conversion will not start/);
    await page.keyboard.press('Escape');
    await go();
    await saved(page).nth(1).waitFor();
    assert.deepEqual(await stored(page, ''), digests);
  }));

test('what waits can be cancelled, and leaves no empty file', () =>
  whileRunning(async (page, go) => {
    await second(page);
    await cancel(page, 'q8_0').focus();
    await page.keyboard.press('Enter');
    await cancel(page, 'q8_0').waitFor({ state: 'detached' });
    assert.equal(await focused(page), 'Cancel noise-q4_0.gguf');
    await go();
    await saved(page).waitFor();
    assert.deepEqual(await stored(page, ''), { 'noise-q4_0.gguf': digests['noise-q4_0.gguf'] });
  }));

test('when the running one is cancelled, the next one starts', () =>
  whileRunning(async (page, go) => {
    await second(page);
    await cancel(page, 'q4_0').click();
    await page.getByText('Cancelled. No file was written.').waitFor();
    await go();
    await saved(page).waitFor();
    assert.deepEqual(await stored(page, ''), { 'noise-q8_0.gguf': digests['noise-q8_0.gguf'] });
  }));

test('the focus never falls to the body: at the end, after a cancel, after a dismissal', () =>
  whileRunning(async (page, go) => {
    await cancel(page, 'q4_0').focus();
    await go();
    await saved(page).waitFor();
    assert.equal(await focused(page), 'Compare with the source');
    await page.getByRole('button', { name: 'Dismiss noise-q4_0.gguf' }).focus();
    await page.keyboard.press('Enter');
    await bar(page).waitFor({ state: 'hidden' });
    assert.equal(await focused(page), 'Quantize and save');
    await hold(page);
    await page.keyboard.press('Enter');
    await page.getByRole('progressbar').waitFor();
    assert.equal(await focused(page), 'Quantize and save', 'it stays where the person is');
    await cancel(page, 'q4_0').focus();
    await page.keyboard.press('Enter');
    await page.getByText('Cancelled. No file was written.').waitFor();
    assert.equal(await focused(page), 'Dismiss noise-q4_0.gguf');
  }));

test('a failure is shown in the bar, and the next one starts', () =>
  whileRunning(async (page, go) => {
    await second(page);
    await page.workers()[0].evaluate(() => {
      const real = FileSystemWritableFileStream.prototype.close;
      FileSystemWritableFileStream.prototype.close = async function () {
        FileSystemWritableFileStream.prototype.close = real;
        await this.abort();
        throw new DOMException('the disk is full', 'QuotaExceededError');
      };
    });
    await go();
    await page.getByRole('alert').getByText('no_space', { exact: true }).waitFor();
    await saved(page).waitFor();
    assert.deepEqual(await stored(page, ''), { 'noise-q8_0.gguf': digests['noise-q8_0.gguf'] });
  }));

test('a download stays until it is dismissed, whatever is converted meanwhile', () =>
  withPage(
    async (page) => {
      await choose(page, [source]);
      await grid(page).waitFor();
      const names = async () => Object.keys(await stored(page, 'quantoscope')).map((name) => name.slice(37)).sort();
      for (const type of ['Q4_0', 'Q8_0']) {
        await planFor(page, 'GGUF', type);
        const download = page.waitForEvent('download');
        await convert(page);
        const name = (await download).suggestedFilename();
        assert.equal(sha256(await (await download).path()), digests[name]);
      }
      assert.deepEqual(await names(), ['noise-q4_0.gguf', 'noise-q8_0.gguf']);
      await page.getByRole('button', { name: 'Dismiss noise-q4_0.gguf' }).click();
      await planFor(page, 'GGUF', 'Q5_0');
      const download = page.waitForEvent('download');
      await convert(page);
      await download;
      assert.deepEqual(await names(), ['noise-q5_0.gguf', 'noise-q8_0.gguf']);
    },
    { pickers: false },
  ));

for (const colorScheme of ['light', 'dark'])
  for (const width of [1440, 390])
    test(`no accessibility violation in the bar and the question, ${colorScheme}, ${width} pixels`, () =>
      whileRunning(
        async (page, go) => {
          await second(page);
          await assertAccessible(page, 'running and waiting');
          await page.getByRole('button', { name: 'Open another' }).click();
          await question(page).waitFor();
          await assertAccessible(page, 'question');
          await page.keyboard.press('Escape');
          await cancel(page, 'q4_0').click();
          await page.getByText('Cancelled. No file was written.').waitFor();
          await assertAccessible(page, 'stopped');
          await go();
          await saved(page).waitFor();
          await assertAccessible(page, 'saved');
        },
        { colorScheme, viewport: { width, height: 900 } },
      ));
