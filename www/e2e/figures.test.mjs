// Figures that several views share: estimates and exact ones, stacks of layers, filters by error, lists of tensors, memory.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { choose, commandLine, memoryFile, openSample, SAMPLE, safetensorsHeader, safetensorsTensors, showView, sweepDone, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('figures');
const TYPES = ['q8_0', 'q6_k', 'q5_k', 'q4_k', 'q3_k', 'q4_0', 'iq4_nl'];

const hash = (page) => page.evaluate(() => decodeURIComponent(location.hash));
const gridRows = (page) => page.getByRole('grid', { name: 'Tensors' }).getAttribute('aria-rowcount').then((n) => Number(n) - 1);
const errorAs = (page) => page.getByRole('combobox', { name: 'Error as type' });

/** A file of F32 matrices with values of a sine. */
function matrices(name, tensors) {
  const { header, data } = safetensorsHeader(tensors.map(([tensor, shape]) => [tensor, 'F32', shape, 4 * shape.reduce((a, b) => a * b)]));
  const values = Float32Array.from({ length: data / 4 }, (_, i) => Math.sin(i * 1.7) * (1 + (i % 31)));
  return memoryFile(name, Buffer.concat([header, Buffer.from(values.buffer)]));
}

/** The cell of the error of a tensor, as text. */
const errorText = (page, name) => page.locator('.grid-row', { has: page.getByTitle(name, { exact: true }) }).locator('[role=gridcell]').last().innerText();

const one = () => matrices('one.safetensors', [['a.weight', [1024, 2048]]]);

test('a tensor that is opened and left keeps its estimates in all types', () =>
  withPage(async (page) => {
    await choose(page, [one()]);
    await sweepDone(page);
    await page.locator('.grid-row').first().click();
    await page.getByRole('heading', { name: 'Statistics' }).waitFor();
    await page.keyboard.press('Escape');
    for (const type of TYPES) {
      await errorAs(page).selectOption(type);
      await page.waitForTimeout(300);
      assert.match(await errorText(page, 'a.weight'), /\d/, type);
    }
  }));

test('estimates of a tensor whose statistics are exact are marked', () =>
  withPage(
    async (page) => {
      await choose(page, [one()]);
      await page.getByRole('heading', { name: 'Statistics' }).waitFor();
      await page.keyboard.press('Escape');
      await sweepDone(page);
      const texts = [];
      for (const type of TYPES) {
        await errorAs(page).selectOption(type);
        await page.waitForTimeout(300);
        texts.push(await errorText(page, 'a.weight'));
      }
      assert.ok(texts.some((text) => text.includes('\u2248')), texts.join());
    },
    { cores: 2, at: '#/t/a.weight' },
  ));

test('layers of the same number in two stacks are apart in map, groups and treemap', () =>
  withPage(
    async (page) => {
      const names = ['model.layers.0', 'model.layers.1', 'visual.blocks.0'].map((layer) => `${layer}.mlp.up_proj.weight`);
      await choose(page, [matrices('stacks.safetensors', names.map((name) => [name, [64, 256]]))]);
      await sweepDone(page);
      assert.equal(await page.locator('.map-cell').count(), 3);
      await page.locator('.map-cell title', { hasText: 'Layer visual.blocks.0, mlp.up_proj: ' }).waitFor({ state: 'attached' });
      await page.getByText('As a table').click();
      const table = page.getByRole('region', { name: 'Error map, table' });
      for (const name of ['model.layers.1', 'visual.blocks.0', 'Mean of model.layers', 'Mean of visual.blocks'])
        await table.getByRole('rowheader', { name, exact: true }).waitFor();
      await showView(page, 'Tensors');
      await page.getByRole('combobox', { name: 'Groups' }).selectOption('layer');
      assert.equal(await gridRows(page), 3);
      await page.locator('.grid-row', { hasText: 'Layer visual.blocks.0' }).waitFor();
      await showView(page, 'Overview');
      await page.locator('.tree-cell title', { hasText: 'visual.blocks.0' }).first().waitFor({ state: 'attached' });
      await page.getByText('As a table').first().click();
      await page.getByRole('region', { name: 'Bytes by layer and module, table' }).getByRole('button', { name: /visual\.blocks\.0/ }).click();
      await page.getByRole('heading', { name: names[2] }).waitFor();
    },
    { at: '#/map' },
  ));

test('a filter by error follows figures that arrive and the chosen type, which is part of the link', () => {
  const sweep = (type) => JSON.parse(commandLine('sweep', SAMPLE, '--sample', '64', '--types', type, '--json').stdout).tensors.flatMap((t) => t.encodings[0]?.relative_error ?? []);
  const errors = sweep('q8_0').toSorted((a, b) => a - b);
  const limit = (100 * errors[Math.floor(errors.length / 2)]).toFixed(5);
  const above = (type) => sweep(type).filter((error) => 100 * error > Number(limit)).length;
  return withPage(
    async (page) => {
      await page.getByRole('button', { name: 'Open the sample model' }).click();
      await page.getByText(new RegExp(`^${above('q8_0')} of \\d+, `)).waitFor();
      assert.equal(await errorAs(page).inputValue(), 'q8_0');
      assert.ok(above('q8_0') < above('q4_k'));
      await errorAs(page).selectOption('q4_k');
      await page.getByText(new RegExp(`^${above('q4_k')} of \\d+, `)).waitFor();
      assert.match(await hash(page), /[?&]t=q4_k/);
    },
    { at: `#/tensors?q=${encodeURIComponent(`err>${limit}%`)}&t=q8_0` },
  );
});

test('no expression of a filter stops the page', () =>
  withPage(
    async (page) => {
      const name = `${'a'.repeat(4000)}!`;
      await choose(page, [matrices('long.safetensors', [[name, [2, 32]], ['b.weight', [2, 32]]])]);
      await page.getByRole('grid', { name: 'Tensors' }).waitFor();
      assert.equal(await gridRows(page), 0);
      const filter = page.getByRole('searchbox');
      for (const [text, rows] of [['/a{3,}!$/', 1], ['/^(b|c)\\.[^x]+$/', 1], ['/(a|a)*b/', 1], ['/A+!/', 1]]) {
        await filter.fill(text);
        assert.equal(await gridRows(page), rows, text);
      }
      await filter.fill('/(?=a)b/');
      await page.getByText('Look-around, back-references and \\b are not supported.').waitFor();
      await filter.fill('/((a{99}){99}){99}/');
      await page.getByText('This expression repeats too much.').waitFor();
    },
    { at: `#/tensors?q=${encodeURIComponent('/(a+)+$/')}` },
  ));

test('a link that is opened after a map of another model shows its own view', () =>
  withPage(
    async (page, url) => {
      await page.getByRole('button', { name: 'Open the sample model' }).click();
      await sweepDone(page);
      await page.getByRole('button', { name: 'Open another' }).click();
      await page.getByRole('button', { name: 'Open the sample model' }).waitFor();
      await page.goto(`${url}#/meta?q=rope`);
      await page.getByText('This link shows the view \u201cMetadata\u201d').waitFor();
      await page.getByRole('button', { name: 'Open the sample model' }).click();
      await page.getByRole('searchbox', { name: 'Search keys and values' }).waitFor();
      assert.equal(await hash(page), '#/meta?q=rope');
    },
    { at: '#/map' },
  ));

test('NaN in samples is told as such, and exactly its tensors are listed', () =>
  withPage(
    async (page) => {
      const names = ['a.0.weight', 'a.1.weight', 'a.2.weight'];
      const { header } = safetensorsHeader(names.map((name) => [name, 'F32', [128, 32], 16_384]));
      const values = new Float32Array(3 * 4096).fill(0.5);
      values.fill(NaN, 0, 4096);
      values.fill(NaN, 8192, 12_288);
      await choose(page, [memoryFile('nan.safetensors', Buffer.concat([header, Buffer.from(values.buffer)]))]);
      await page.getByText(/NaN or Inf in 2.tensors/).waitFor();
      await page.getByText(/Only sampled rows were searched: there may be more\./).waitFor();
      await page.locator('.note.bad').getByRole('button', { name: 'a.0.weight' }).click();
      await page.getByRole('grid', { name: 'Tensors' }).waitFor();
      assert.equal(await hash(page), '#/tensors?only=0,2');
      assert.equal(await gridRows(page), 2);
      await page.getByRole('button', { name: 'Show all tensors again' }).click();
      assert.equal(await gridRows(page), 3);
      assert.equal(await hash(page), '#/tensors');
    },
    { at: '' },
  ));

test('the memory that a model needs counts its cache, by the rows of keys and values', () =>
  withPage(
    async (page) => {
      await page.getByRole('button', { name: 'Open the sample model' }).click();
      const fits = page.getByRole('region', { name: 'Will it fit?' });
      const rows = safetensorsTensors(join(SAMPLE, 'model.safetensors')).filter(({ name }) => /\.[kv]_proj\.weight$/.test(name));
      const cache = 2 * 100_000 * rows.reduce((sum, { shape }) => sum + shape[0], 0);
      const context = fits.getByRole('spinbutton', { name: 'Context in tokens' });
      await context.fill('100000');
      await context.blur();
      const mib = cache / 2 ** 20;
      await fits.getByText(`${mib.toFixed(mib >= 100 ? 1 : 2)}\u00a0MiB for the F16 cache of 100\u2009000 tokens`).waitFor();
      await fits.getByRole('columnheader', { name: 'Fits' }).waitFor();
    },
    { at: '' },
  ));

test('a cache of latent attention is not counted, which the column says', () =>
  withPage(
    async (page) => {
      await choose(page, [matrices('mla.safetensors', [['model.layers.0.self_attn.kv_a_proj_with_mqa.weight', [64, 256]], ['model.layers.0.mlp.up_proj.weight', [64, 256]]])]);
      const fits = page.getByRole('region', { name: 'Will it fit?' });
      await fits.getByRole('columnheader', { name: 'Weights fit' }).waitFor();
      await fits.getByText(/Only weights are counted/).waitFor();
    },
    { at: '' },
  ));

test('a group that is unfolded leaves the shown tensor selected', () =>
  withPage(async (page) => {
    await openSample(page);
    await page.getByRole('combobox', { name: 'Groups' }).selectOption('layer');
    await page.locator('.grid-row', { hasText: 'Layer 0' }).click();
    await page.locator('.grid-row', { hasText: 'mlp.down_proj' }).first().click();
    const selected = page.locator('.grid-row[aria-selected=true]');
    const name = await selected.innerText();
    await page.locator('.grid-row', { hasText: 'Layer 0' }).click();
    await page.locator('.grid-row', { hasText: 'Layer 0' }).click();
    assert.equal(await selected.count(), 1);
    assert.equal((await selected.innerText()).split('\n')[0], name.split('\n')[0]);
  }));

test('a type that cannot be measured leaves the figures of the others', () =>
  withPage(async (page, url) => {
    await page.addInitScript(() => {
      const post = Worker.prototype.postMessage;
      Worker.prototype.postMessage = function (message, ...rest) {
        if (message?.call === 'sweep' && message.ask.encodings.includes('q2_k')) message.ask.encodings = ['nonsense'];
        return post.call(this, message, ...rest);
      };
    });
    await page.goto(`${url}#/tensors`);
    await page.reload();
    await openSample(page);
    await sweepDone(page);
    await errorAs(page).selectOption('q2_k');
    await page.getByText(/^Other types were not measured: .*nonsense/).waitFor();
    await page.getByRole('region', { name: 'Background sweep' }).getByRole('button', { name: 'Save JSON' }).waitFor();
    await errorAs(page).selectOption('q8_0');
    await page.waitForTimeout(300);
    assert.match(await errorText(page, 'model.layers.0.mlp.down_proj.weight'), /\u2248\s*\d/);
  }));

test('all elements of an array are copied', () =>
  withPage(
    async (page, url, context) => {
      await context.grantPermissions(['clipboard-read', 'clipboard-write']);
      await choose(page, [quantized(SAMPLE, join(folder, 'tokens.gguf'), '--recipe', 'q4_k_m')]);
      const entry = page.locator('.keys-table > div', { has: page.locator('dt', { hasText: 'tokenizer.ggml.token_type' }) });
      const count = Number(/(\d+) values/.exec(await entry.innerText())[1]);
      await entry.getByRole('button', { name: 'Copy tokenizer.ggml.token_type' }).click();
      await entry.getByText('Copied', { exact: true }).waitFor();
      const text = await page.evaluate(() => navigator.clipboard.readText());
      assert.equal(text.trim().split('\n').length, count);
    },
    { at: '#/meta' },
  ));
