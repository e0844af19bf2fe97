// The views of an open model: overview, groups and filters of the table, the map, metadata, links and keys.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertAccessible, choose, commandLine, memoryFile, openSample, SAMPLE, safetensorsHeader, showView, sweepDone, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('views');
const withTokenizer = quantized(SAMPLE, join(folder, 'tokens.gguf'), '--recipe', 'q4_k_m');

const hash = (page) => page.evaluate(() => decodeURIComponent(location.hash));
const sweepOf = (type) => JSON.parse(commandLine('sweep', SAMPLE, '--sample', '64', '--types', type, '--json').stdout).tensors;
const percent = (error) => `${(100 * error).toPrecision(3)}\u2009%`;
const open = (page) => page.getByRole('button', { name: 'Open the sample model' }).click();

test('the overview says what the model is, which tensors lose most, and what fits', () =>
  withPage(
    async (page) => {
      await open(page);
      await page.getByText(/^Llama, 6.layers, .* parameters, .*vocabulary of .*not quantized\.$/).waitFor();
      assert.equal(await hash(page), '#/');
      await sweepDone(page);
      const [worst] = sweepOf('q4_k').filter((t) => t.encodings.length > 0).sort((a, b) => b.encodings[0].relative_error - a.encodings[0].relative_error);
      const first = page.locator('.worst-list li').first();
      assert.match(await first.innerText(), new RegExp(`${worst.name.replace(/\.weight$/, '')}[\\s\\S]*${percent(worst.encodings[0].relative_error)}`));
      const fits = page.getByRole('region', { name: 'Will it fit?' });
      await fits.getByRole('rowheader', { name: 'Q4_K_M' }).waitFor();
      const plan = JSON.parse(commandLine('quantize', SAMPLE, '-o', join(folder, 'x.gguf'), '--recipe', 'q4_k_m', '--names', 'source', '--dry-run', '--json').stdout);
      const bytes = plan.result.tensors.reduce((sum, t) => sum + t.bytes_out, 0);
      await fits.getByRole('row', { name: /Q4_K_M/ }).getByText(`${(bytes / 1e6).toFixed(2)}\u00a0MB`).waitFor();
      const memory = fits.getByRole('spinbutton', { name: 'Memory in GiB' });
      await memory.fill('0.0001');
      await memory.blur();
      await fits.getByRole('row', { name: /Q4_K_M/ }).getByText(/^no, .* too much$/).waitFor();
      await page.locator('svg.treemap').waitFor();
      await page.locator('.tree-cell', { hasText: 'model.embed_tokens' }).first().click();
      await page.getByRole('heading', { name: 'model.embed_tokens.weight' }).waitFor();
      await page.goBack();
      await first.getByRole('button').click();
      await page.getByRole('heading', { name: worst.name }).waitFor();
    },
    { at: '' },
  ));

test('NaN is told on the overview, with a way to its tensor', () =>
  withPage(
    async (page) => {
      const values = new Float32Array(64).fill(0.5);
      values[37] = NaN;
      const { header } = safetensorsHeader([['a.weight', 'F32', [2, 32], 256]]);
      await choose(page, [memoryFile('nan.safetensors', Buffer.concat([header, Buffer.from(values.buffer)]))]);
      await page.getByText(/NaN or Inf in 1.tensor/).waitFor();
      await page.getByRole('button', { name: 'a.weight' }).first().click();
      await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    },
    { at: '' },
  ));

test('tensors are grouped by layer and by pattern, filtered by words, expression, type, size and error, and linked', () =>
  withPage(async (page, url) => {
    await openSample(page);
    await sweepDone(page);
    const rows = () => page.getByRole('grid', { name: 'Tensors' }).getAttribute('aria-rowcount').then((n) => Number(n) - 1);
    const filter = page.getByRole('searchbox');
    await page.getByRole('combobox', { name: 'Groups' }).selectOption('pattern');
    const pattern = page.locator('.grid-row', { hasText: 'model.layers.#.mlp.up_proj.weight' });
    assert.match(await pattern.innerText(), /\u00d7\u20096/);
    const grouped = await rows();
    await pattern.click();
    assert.equal(await rows(), grouped + 6);
    await page.getByRole('combobox', { name: 'Groups' }).selectOption('layer');
    await page.locator('.grid-row', { hasText: 'Layer 3' }).waitFor();
    await page.getByRole('combobox', { name: 'Groups' }).selectOption('none');
    await filter.fill('/layers\\.[01]\\.mlp\\.(up|gate)/');
    assert.equal(await rows(), 4);
    assert.match(await hash(page), /^#\/tensors\?q=/);
    await filter.fill('/(/');
    await page.getByText('This is not a regular expression.').waitFor();
    await filter.fill('size>100kB mlp');
    const large = await rows();
    const told = sweepOf('q4_k');
    const least = Math.max(...told.map((t) => t.encodings[0]?.relative_error ?? 0)) * 100 - 0.0001;
    await filter.fill(`err>${least.toFixed(4)}%`);
    assert.equal(await rows(), 1);
    assert.ok(large > 0 && large < 57);
    await page.goto(`${url}#/tensors?q=down_proj&group=layer`);
    await page.locator('.grid-row', { hasText: 'Layer 0' }).waitFor();
    assert.equal(await filter.inputValue(), 'down_proj');
    assert.equal(await rows(), 6);
  }));

test('the error column shows the figures of the command line, and follows the chosen type', () =>
  withPage(async (page) => {
    await openSample(page);
    await sweepDone(page);
    for (const type of ['q4_k', 'q8_0']) {
      await page.getByRole('combobox', { name: 'Error as type' }).selectOption(type);
      const t = sweepOf(type).find(({ name }) => name === 'model.layers.0.mlp.down_proj.weight');
      const row = page.locator('.grid-row', { has: page.getByTitle(t.name, { exact: true }) });
      await row.locator('.error-share').getByText(percent(t.encodings[0].relative_error)).waitFor();
    }
    await page.getByRole('columnheader', { name: 'Error, Q8_0' }).getByRole('button').click();
    await page.locator('[aria-sort=ascending]').waitFor();
  }));

test('the map has a cell for each layer and module, a table of the same figures, and pictures to save', () =>
  withPage(async (page) => {
    await openSample(page);
    await showView(page, 'Map');
    await sweepDone(page);
    const told = sweepOf('q4_k');
    const inLayers = told.filter(({ name }) => /layers\.\d+\./.test(name));
    assert.equal(await page.locator('.map-cell').count(), inLayers.length);
    const t = inLayers.find(({ name }) => name === 'model.layers.2.self_attn.v_proj.weight');
    const cell = page.locator('.map-cell', { has: page.locator('title', { hasText: 'Layer 2, self_attn.v_proj:' }) });
    assert.match(await cell.locator('title').textContent(), new RegExp(`: ${percent(t.encodings[0].relative_error)}`));
    await page.getByText('As a table').click();
    const table = page.getByRole('region', { name: 'Error map, table' });
    await table.getByRole('row', { name: /^2 / }).getByText(percent(t.encodings[0].relative_error)).first().waitFor();
    const save = async (name) => {
      const [download] = await Promise.all([page.waitForEvent('download'), page.locator('.map-view').getByRole('button', { name }).click()]);
      return readFileSync(await download.path());
    };
    assert.match((await save('Save SVG')).toString(), /^<svg[\s\S]*<title>Relative error of Q4_K[\s\S]*rgb\(/);
    assert.deepEqual([...(await save('Save PNG')).subarray(1, 4)], [...Buffer.from('PNG')]);
    await page.getByRole('combobox', { name: 'Error as type' }).selectOption('q8_0');
    await page.waitForFunction(() => location.hash === '#/map?t=q8_0');
    await cell.click();
    await page.getByRole('heading', { name: t.name }).waitFor();
    assert.equal(await hash(page), `#/t/${t.name}`);
  }));

test('metadata is searched, unfolded and copied, and tokens are looked up', () =>
  withPage(
    async (page, url, context) => {
      await context.grantPermissions(['clipboard-read', 'clipboard-write']);
      await choose(page, [withTokenizer]);
      await page.getByText(/^1?\d+ of \d+.keys$/).waitFor();
      await page.getByRole('searchbox', { name: 'Search keys and values' }).fill('ggml.tokens');
      await page.getByText(/^1 of \d+.keys$/).waitFor();
      await page.getByRole('button', { name: 'Show values of tokenizer.ggml.tokens' }).click();
      const { model } = JSON.parse(readFileSync(join(SAMPLE, 'tokenizer.json'), 'utf8'));
      const [token, id] = Object.entries(model.vocab).find(([text]) => /^[a-z]{3,}$/.test(text));
      await page.getByRole('searchbox', { name: 'Search in tokenizer.ggml.tokens' }).fill(String(id));
      const values = page.getByRole('list', { name: 'Values of tokenizer.ggml.tokens' });
      await values.getByText(token, { exact: true }).waitFor();
      await page.getByRole('searchbox', { name: 'Search keys and values' }).fill('architecture');
      assert.match(await hash(page), /^#\/meta\?q=architecture/);
      await page.getByRole('button', { name: 'Copy general.architecture' }).click();
      await page.getByText('Copied', { exact: true }).first().waitFor();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'llama');
    },
    { at: '#/meta' },
  ));

test('a chat template is shown whole, as text', () =>
  withPage(
    async (page) => {
      const template = `{% for m in messages %}\n${'<b>{{ m.content }}</b>\n'.repeat(40)}{% endfor %}`;
      const metadata = { __metadata__: { chat_template: template } };
      const { header, data } = safetensorsHeader([['a.weight', 'F32', [2, 32], 256]]);
      const json = JSON.stringify({ ...metadata, ...JSON.parse(header.subarray(8)) });
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(Buffer.byteLength(json)));
      await choose(page, [memoryFile('chat.safetensors', Buffer.concat([length, Buffer.from(json), Buffer.alloc(data)]))]);
      await page.getByRole('button', { name: 'Show all of chat_template' }).click();
      assert.equal(await page.locator('.keys-table pre').textContent(), template);
      await page.getByRole('button', { name: 'Fold of chat_template' }).click();
      assert.equal(await page.locator('.keys-table pre').count(), 0);
    },
    { at: '#/meta' },
  ));

test('an address of no view leaves the model open, and digits choose the views', () =>
  withPage(async (page, url) => {
    await openSample(page);
    await page.goto(`${url}#/nonsense`);
    await page.getByText('This page has no view #/nonsense.').waitFor();
    assert.equal(await page.getByRole('grid', { name: 'Tensors' }).isVisible(), true);
    const current = () => page.locator('.views [aria-current=page]').innerText();
    for (const [key, view] of [['1', 'Overview'], ['3', 'Map'], ['5', 'Quantize'], ['6', 'Compare'], ['7', 'Metadata'], ['2', 'Tensors']]) {
      await page.keyboard.press(key);
      assert.equal(await current(), view);
      assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
    }
    await page.keyboard.press('4');
    await page.getByRole('heading', { name: /\.weight$/ }).waitFor();
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keys' }).waitFor();
    await page.keyboard.press('Escape');
    assert.equal(await page.getByRole('dialog').count(), 0);
    await page.keyboard.press('Control+k');
    await page.keyboard.type('tensor layers.5 down_proj');
    await assertAccessible(page, 'palette');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'model.layers.5.mlp.down_proj.weight' }).waitFor();
  }));

test('Back from a tensor keeps the focus in the page', () =>
  withPage(async (page) => {
    await openSample(page);
    await page.locator('.grid-row').nth(3).click();
    await page.getByRole('region', { name: 'Quantization error by type, table' }).focus();
    await page.goBack();
    await page.getByRole('heading', { name: 'Select a tensor' }).waitFor();
    assert.notEqual(await page.evaluate(() => document.activeElement.tagName), 'BODY');
  }));

test('presets are dots of size and error; a size chooses the best one, which the form takes over', () =>
  withPage(
    async (page) => {
      await open(page);
      const curve = page.getByRole('region', { name: 'Size and error', exact: true });
      await curve.locator('.curve-dot', { hasText: 'Q8_0' }).first().waitFor();
      await sweepDone(page);
      await page.waitForFunction(() => document.querySelectorAll('.curve-dot').length >= 10);
      await curve.getByText('As a table').click();
      const cells = await curve.locator('tbody tr').evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText)));
      const q4 = cells.find(([name]) => name === 'Q4_K_M');
      const plan = JSON.parse(commandLine('plan', SAMPLE, '--recipe', 'q4_k_m', '--names', 'source', '--json').stdout || '{}');
      const planned = plan.result ?? plan;
      const types = new Map(planned.tensors.map((t) => [t.name, t.dtype_out.toLowerCase()]));
      assert.equal(q4[1], `${(planned.tensors.reduce((sum, t) => sum + t.bytes_out, 0) / 1e6).toFixed(2)}\u00a0MB`);
      const swept = JSON.parse(commandLine('sweep', SAMPLE, '--sample', '64', '--types', 'q4_k,q6_k', '--json').stdout).tensors;
      let [noise, power] = [0, 0];
      for (const t of swept) {
        noise += t.numel * t.encodings.find((e) => e.encoding === types.get(t.name)).rmse ** 2;
        power += t.numel * (t.stats.mean ** 2 + t.stats.std ** 2);
      }
      assert.equal(q4[3], `\u2248\u2009${percent(Math.sqrt(noise / power))}`);
      const slider = curve.getByRole('slider');
      await slider.focus();
      await page.keyboard.press('Home');
      const use = curve.getByRole('button', { name: /^Use / });
      const name = (await use.innerText()).replace('Use ', '');
      assert.equal(name, cells.at(-1)[0], 'the smallest preset');
      await use.click();
      await page.getByText(`--recipe ${name.toLowerCase()}`).waitFor();
    },
    { at: '#/quantize' },
  ));

test('a link to the map names the type, which is measured with the others', () =>
  withPage(
    async (page) => {
      await open(page);
      await sweepDone(page);
      assert.equal(await page.getByRole('combobox', { name: 'Error as type' }).inputValue(), 'q2_k');
      assert.equal(await page.locator('.map-cell .map-figure').count(), await page.locator('.map-cell').count());
    },
    { at: '#/map?t=q2_k' },
  ));

test('experts share a cell of the map, and a click lists them', () =>
  withPage(
    async (page) => {
      const names = [0, 1].flatMap((layer) => [0, 1, 2].map((expert) => `model.layers.${layer}.mlp.experts.${expert}.up_proj.weight`));
      const { header, data } = safetensorsHeader(names.map((name) => [name, 'F32', [4, 32], 512]));
      const values = Float32Array.from({ length: data / 4 }, (_, i) => Math.sin(i));
      await choose(page, [memoryFile('experts.safetensors', Buffer.concat([header, Buffer.from(values.buffer)]))]);
      // Rows of 32 do not divide by the blocks of K-quants.
      const type = page.getByRole('combobox', { name: 'Error as type' });
      await sweepDone(page);
      assert.equal(await type.inputValue(), 'q4_0');
      assert.equal(await page.locator('.map-cell').count(), 2);
      await page.locator('.map-cell', { has: page.locator('title', { hasText: 'Layer 1, mlp.experts.#.up_proj, mean of 3 tensors: ' }) }).click();
      await page.locator('.grid-row').first().waitFor();
      assert.equal(await page.locator('.grid-row').count(), 3);
      await type.selectOption('q4_k');
      await showView(page, 'Map');
      await page.getByText('No tensor was measured as Q4_K: rows must divide by its block.').waitFor();
    },
    { at: '#/map' },
  ));

for (const [width, colorScheme] of [[1440, 'light'], [1440, 'dark'], [390, 'light'], [390, 'dark']])
  test(`no accessibility violation in the views, ${colorScheme}, ${width} pixels`, () =>
    withPage(
      async (page) => {
        await choose(page, [withTokenizer]);
        await sweepDone(page);
        for (const view of ['Overview', 'Map', 'Metadata', 'Tensors']) {
          await showView(page, view);
          if (view === 'Map' || view === 'Overview') await page.locator(`.page-${view.toLowerCase()}`).getByText('As a table').click();
          if (view === 'Metadata') await page.getByRole('button', { name: 'Show values of tokenizer.ggml.tokens' }).click();
          if (view === 'Tensors') await page.getByRole('combobox', { name: 'Groups' }).selectOption('layer');
          await page.waitForTimeout(200);
          await assertAccessible(page, view);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth + 1);
          assert.equal(wide, false, `${view} scrolls sideways`);
        }
      },
      { colorScheme, viewport: { width, height: 900 }, at: '' },
    ));
