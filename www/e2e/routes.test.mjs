// The address names the view: links, Back and reload; what was opened last is opened again; and what can be taken away.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { choose, commandLine, openSample, planFor, SAMPLE, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('routes');
const DOWN = 'model.layers.0.mlp.down_proj.weight';

const hash = (page) => page.evaluate(() => decodeURIComponent(location.hash));
const heading = (page, name) => page.getByRole('heading', { name, exact: true }).waitFor();

test('Back and Forward go through views and tensors, and Back from the first of them to the start', () =>
  withPage(async (page) => {
    await openSample(page);
    assert.equal(await hash(page), '#/tensors');
    await page.goBack();
    await page.getByRole('heading', { name: 'sample model' }).first().waitFor();
    assert.equal(await hash(page), '#/');
    await page.goForward();
    assert.equal(await hash(page), '#/tensors');
    await page.getByRole('searchbox').fill('layers.0.mlp.down_proj');
    await page.locator('.grid-row').first().click();
    await heading(page, DOWN);
    assert.equal(await hash(page), `#/t/${DOWN}?q=layers.0.mlp.down_proj`);
    await page.getByRole('button', { name: 'Quantize', exact: true }).click();
    assert.equal(await hash(page), '#/quantize');
    await page.goBack();
    await heading(page, DOWN);
    assert.equal(await page.getByRole('button', { name: 'Tensors', exact: true }).getAttribute('aria-current'), 'page');
    await page.goBack();
    await heading(page, 'Select a tensor');
    await page.goForward();
    await heading(page, DOWN);
    for (let i = 0; i < 3; i += 1) await page.goBack();
    await page.getByRole('button', { name: 'Open the sample model' }).waitFor();
  }, { at: '' }));

test('a link says what it shows, and goes there once its model is open', () =>
  withPage(async (page, url) => {
    await page.goto(`${url}#/t/${encodeURIComponent(DOWN)}`);
    await page.reload();
    await page.getByText(`This link shows the tensor ${DOWN}`).waitFor();
    await openSample(page);
    await heading(page, DOWN);
    await page.goto(`${url}#/t/nothing.like.it`);
    await page.getByText('This model has no tensor nothing.like.it.').waitFor();
  }));

test('a picked folder is opened again after a reload, where it was', () =>
  withPage(async (page) => {
    // A private folder in the place of a picked one: its handle needs no answer to a question of the browser.
    await page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle('picked', { create: true });
      for (const name of ['model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json']) {
        const file = await (await folder.getFileHandle(name, { create: true })).createWritable();
        await (await fetch(`sample/${name}`)).body.pipeTo(file);
      }
      window.showOpenFilePicker = async () => [];
      window.showDirectoryPicker = async () => folder;
    });
    await page.getByRole('button', { name: 'Choose a folder' }).click();
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await page.getByRole('button', { name: 'Quantize', exact: true }).click();
    await page.locator('.plan-result[aria-busy=false]').waitFor();
    await page.waitForFunction(async () => (await indexedDB.databases()).some(({ name }) => name === 'quantoscope'));
    await page.reload();
    await page.getByText('This link shows the view \u201cQuantize\u201d of a model').waitFor();
    await page.getByRole('button', { name: 'Open picked again' }).click();
    await page.getByRole('heading', { name: 'Quantize picked' }).waitFor({ state: 'attached' });
    await page.locator('.plan-result[aria-busy=false]').waitFor();
    assert.equal(await hash(page), '#/quantize');
  }));

/** What a button saves. */
async function saved(page, within, name) {
  const [download] = await Promise.all([page.waitForEvent('download'), within.getByRole('button', { name }).click()]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), 'utf8') };
}

test('figures of a tensor are taken away: the JSON of the command line, a table, a picture', () =>
  withPage(async (page, url, context) => {
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await openSample(page);
    await page.getByRole('searchbox').fill('layers.0.mlp.down_proj');
    await page.locator('.grid-row').first().click();
    const panel = page.getByRole('region', { name: 'Tensor', exact: true });
    const json = await saved(page, panel, 'Save JSON');
    assert.match(json.name, /down_proj.*\.json$/);
    const { tensors } = JSON.parse(commandLine('sweep', SAMPLE, '--tensor', DOWN, '--json').stdout);
    const [mine] = JSON.parse(json.text).tensors;
    const byName = (all) => Object.fromEntries(all.map((e) => [e.encoding, e]));
    assert.deepEqual(byName(mine.encodings), byName(tensors[0].encodings));
    assert.deepEqual(mine.stats, tensors[0].stats);
    await panel.getByRole('button', { name: 'Copy table' }).click();
    await panel.getByText('Copied').first().waitFor();
    const lines = (await page.evaluate(() => navigator.clipboard.readText())).trim().split('\n');
    assert.equal(lines.length, tensors[0].encodings.length + 1);
    const q8 = tensors[0].encodings.find((e) => e.encoding === 'q8_0');
    assert.ok(lines.some((line) => line.startsWith('Q8_0\t8.5\t') && line.includes(`\t${q8.rmse}\t`)), lines.join('\n'));
    const picture = await saved(page, panel, 'Save SVG');
    assert.match(picture.text, /^<svg[^>]*xmlns[\s\S]*<title>Histogram of [\s\S]*fill="(rgb|oklch|color|lab)/);
  }));

test('plan and comparison are taken away in the schema of the command line', () =>
  withPage(async (page) => {
    const candidate = quantized(SAMPLE, join(folder, 'candidate.gguf'), '--type', 'q4_0');
    await openSample(page);
    await planFor(page, 'safetensors', 'F16');
    const plan = JSON.parse((await saved(page, page.locator('.decisions'), 'Save JSON')).text);
    const told = commandLine('quantize', SAMPLE, '-o', join(folder, 'x.safetensors'), '--type', 'f16', '--dry-run', '--json');
    const expected = JSON.parse(told.stdout);
    assert.deepEqual(Object.keys(plan), Object.keys(expected));
    assert.deepEqual(plan.result.tensors, expected.result.tensors);
    assert.deepEqual(plan.result.totals, expected.result.totals);
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await choose(page, [candidate]);
    await page.getByText(/^Pass: all/).waitFor();
    const report = JSON.parse((await saved(page, page.locator('.compare-result'), 'Save JSON')).text);
    const compared = JSON.parse(commandLine('compare', SAMPLE, candidate, '--json').stdout);
    assert.deepEqual(report.tensors, compared.tensors);
    assert.deepEqual(Object.keys(report).sort(), Object.keys(compared).sort());
  }));
