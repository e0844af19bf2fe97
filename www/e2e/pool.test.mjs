// The workers and the background sweep: figures of the command line whatever the number of workers, the order of work, Pause.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { choose, commandLine, convert, planFor, safetensorsHeader, sparseModel, sweepDone, withPage } from './page.mjs';
import { testFolder } from './setup.mjs';

const folder = testFolder('pool');
const TYPES = ['q8_0', 'q6_k', 'q5_k', 'q4_k', 'q3_k', 'q4_0', 'iq4_nl'];
const line = (page) => page.getByRole('region', { name: 'Background sweep' });

async function savedSweep(page) {
  const button = line(page).getByRole('button', { name: 'Save JSON' });
  const [download] = await Promise.all([page.waitForEvent('download'), button.click()]);
  return JSON.parse(readFileSync(await download.path(), 'utf8'));
}

const workers = (page) => page.workers().length;

/** Many matrices of which each has a row count beyond the sample. */
function manyMatrices(count) {
  const tensors = Array.from({ length: count }, (_, i) => [`model.layers.${i}.mlp.up_proj.weight`, 'BF16', [128, 256], 65536]);
  const { header, data } = safetensorsHeader(tensors);
  const values = Uint16Array.from({ length: data / 2 }, (_, i) => 0x3c00 + ((i * 2654435761) >>> 23) + ((i & 1) << 15));
  const path = join(folder, 'many.safetensors');
  writeFileSync(path, Buffer.concat([header, Buffer.from(values.buffer)]));
  return path;
}

/** A model of several batches of the sweep, and the report of the command line. */
let told;
const wanted = (path) => (told ??= JSON.parse(commandLine('sweep', path, '--sample', '64', '--types', TYPES.join(), '--json').stdout));

for (const cores of [1, 2, 3, 4, 5, 6, 7, 12])
  test(`the sweep is the command line\u2019s to the last digit, ${cores} cores`, () =>
    withPage(
      async (page) => {
        const path = manyMatrices(400);
        await choose(page, [path]);
        await sweepDone(page);
        assert.equal(workers(page), Math.max(1, Math.min(cores - 1, 6)));
        assert.deepEqual(await savedSweep(page), wanted(path));
      },
      { cores },
    ));

test('several workers share the sweep, and more types are measured on request', () =>
  withPage(
    async (page) => {
      await choose(page, [manyMatrices(900)]);
      await sweepDone(page);
      assert.equal(workers(page), 3);
      const memories = await Promise.all(page.workers().map((w) => w.evaluate(() => performance.getEntriesByType('resource').filter((e) => /quantoscope_bg.*wasm/.test(e.name)).length)));
      assert.deepEqual(memories, [0, 0, 0], 'no worker loads the module itself');
      await page.evaluate(() => {
        window.totals = [];
        const look = () => {
          const bar = document.querySelector('.sweep-line progress');
          if (bar) window.totals.push([bar.value, bar.max]);
        };
        new MutationObserver(look).observe(document.querySelector('.sweep-line'), { subtree: true, childList: true, attributes: true, characterData: true });
      });
      await page.getByRole('combobox', { name: 'Error as type' }).selectOption('q2_k');
      await page.getByText(/Error of 8 types on 900/).waitFor();
      const totals = await page.evaluate(() => window.totals.filter(([, most]) => most > 1));
      assert.ok(totals.length > 0 && totals.every(([done, most], i) => most === 900 && done >= (totals[i - 1]?.[0] ?? 0)), JSON.stringify(totals));
      const { tensors } = await savedSweep(page);
      assert.equal(tensors.length, 900);
      assert.equal(tensors.every((t) => t.encodings.length === 8 && t.sampled.rows === 64), true);
      assert.deepEqual(tensors.map((t) => t.name), [...tensors.keys()].map((i) => `model.layers.${i}.mlp.up_proj.weight`));
    },
    { cores: 4 },
  ));

/** A value once it was the same for more than a second. */
async function atRest(page, value) {
  for (let last = await value(), same = 0; ; ) {
    await page.waitForTimeout(300);
    const now = await value();
    same = now === last ? same + 1 : 0;
    if (same === 4) return now;
    last = now;
  }
}

test('the sweep pauses and continues, and a tensor is measured meanwhile', () =>
  withPage(async (page) => {
    const path = join(folder, 'large.safetensors');
    sparseModel(path, 28);
    await choose(page, [path]);
    const pause = line(page).getByRole('button', { name: 'Pause' });
    await pause.click();
    const value = () => line(page).locator('progress').evaluate((bar) => bar.value);
    // The batch that is under way may end; no other begins.
    const before = await atRest(page, value);
    assert.ok(before < 28, `${before} of 28 tensors in spite of the pause`);
    await page.locator('.grid-row').nth(6).click();
    await page.getByRole('heading', { name: 'Statistics' }).waitFor();
    await line(page).getByRole('button', { name: 'Continue' }).click();
    await page.waitForFunction((n) => (document.querySelector('.sweep-line progress')?.value ?? Infinity) > n, before);
  }, { cores: 2 }));

test('a conversion comes before the sweep, and can be paused', () =>
  withPage(async (page) => {
    const path = join(folder, 'converted.safetensors');
    sparseModel(path, 4);
    await choose(page, [path]);
    await planFor(page, 'GGUF', 'Q8_0');
    await convert(page);
    await page.getByText(/\/s, about/).waitFor();
    const bars = () => page.evaluate(() => [document.querySelector('.job .bar')?.getAttribute('aria-valuenow'), document.querySelector('.sweep-line progress')?.value]);
    await page.getByRole('button', { name: /^Pause converted/ }).click();
    await page.waitForTimeout(500);
    const [paused] = await bars();
    await page.waitForTimeout(500);
    assert.equal((await bars())[0], paused);
    await page.getByRole('button', { name: /^Continue converted/ }).click();
    await page.waitForFunction((n) => Number(document.querySelector('.job .bar')?.getAttribute('aria-valuenow') ?? 100) > Number(n), paused);
    // A batch of the sweep that was under way may end.
    await page.waitForTimeout(600);
    const [, sweep] = await bars();
    await page.waitForTimeout(400);
    const [running, after] = await bars();
    if (running !== undefined) assert.equal(after, sweep, 'with one worker the sweep waits');
    await page.getByRole('button', { name: /^Cancel converted/ }).click();
    await page.getByText('Cancelled. No file was written.').waitFor();
    await page.waitForFunction((n) => (document.querySelector('.sweep-line progress')?.value ?? Infinity) > n, sweep);
  }, { cores: 2 }));
