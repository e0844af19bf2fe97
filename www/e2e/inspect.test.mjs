// Looking into a model: the table and its keys, the panel beside it, and a comparison that fails.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { choose, commandLine, memoryFile, openSample, safetensorsHeader, SAMPLE, showView, sparseModel, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('inspect');
const candidate = quantized(SAMPLE, join(folder, 'sample.gguf'), '--recipe', 'q4_k_m');

const panel = (page) => page.getByRole('region', { name: 'Tensor', exact: true });
const focusedRole = (page) => page.evaluate(() => document.activeElement.getAttribute('role') ?? document.activeElement.type);

test('keys of the table: the figures follow the rows, Escape closes them, a slash goes to the filter', () =>
  withPage(async (page) => {
    await openSample(page);
    await page.locator('.grid').first().focus();
    for (const key of ['ArrowDown', 'Enter']) await page.keyboard.press(key);
    await page.getByRole('heading', { name: 'model.embed_tokens.weight' }).waitFor();
    for (const key of ['ArrowDown', 'ArrowDown']) await page.keyboard.press(key);
    await page.getByRole('heading', { name: 'model.layers.0.mlp.down_proj.weight' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('heading', { name: 'Select a tensor' }).waitFor();
    assert.equal(await focusedRole(page), 'grid');
    await page.keyboard.press('/');
    assert.equal(await focusedRole(page), 'search');
  }));

test('brackets go to the same module of the layers before and after', () =>
  withPage(async (page) => {
    await openSample(page);
    await page.getByRole('searchbox').fill('layers.1.mlp.up_proj');
    await page.locator('.grid-row').first().click();
    await page.getByRole('heading', { name: 'model.layers.1.mlp.up_proj.weight' }).waitFor();
    for (const [key, layer] of [[']', 2], ['[', 1], ['[', 0], ['[', 0]]) {
      await page.keyboard.press(key);
      await page.getByRole('heading', { name: `model.layers.${layer}.mlp.up_proj.weight` }).waitFor();
    }
  }));

test('the bar of the file is walked and chosen from with the keyboard', () =>
  withPage(async (page) => {
    await openSample(page);
    const bar = page.getByRole('slider', { name: /tensors of the model in file order/ });
    await bar.focus();
    const first = await bar.getAttribute('aria-valuetext');
    await page.keyboard.press('ArrowRight');
    const second = await bar.getAttribute('aria-valuetext');
    assert.notEqual(first, second);
    assert.equal(await page.locator('.tip').first().innerText(), second);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: second.split(', ')[0] }).waitFor();
    await bar.focus();
    await page.keyboard.press('End');
    assert.equal(await bar.getAttribute('aria-valuenow'), await bar.getAttribute('aria-valuemax'));
  }));

test('statistics come first, each type fills its row, and a large tensor is measured whole on request', () =>
  withPage(async (page) => {
    const path = join(folder, 'rows.safetensors');
    const { header, data } = safetensorsHeader([['a.weight', 'BF16', [5000, 1024], 5000 * 1024 * 2]]);
    const values = Uint16Array.from({ length: data / 2 }, (_, i) => 0x3c00 + ((i * 2654435761) >>> 23) + ((i & 1) << 15));
    // The sample has no row near 140: these values change the exact figures only.
    for (let i = 140 * 1024; i < 141 * 1024; i += 1) values[i] += 0x200;
    writeFileSync(path, Buffer.concat([header, Buffer.from(values.buffer)]));
    await choose(page, [path]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await page.evaluate(() => {
      window.seen = [];
      new MutationObserver(() => {
        const [rows, waiting] = ['tbody tr', 'tr.waits'].map(
          (what) => document.querySelectorAll(`[aria-label="Quantization error by type"] ${what}`).length,
        );
        const statistics = document.querySelector('.facts') !== null;
        const now = `${statistics} ${rows - waiting}`;
        if (window.seen.at(-1) !== now) window.seen.push(now);
      }).observe(document.querySelector('.panel'), { childList: true, subtree: true });
    });
    await page.locator('.grid-row').first().click();
    await panel(page).getByText(/Estimated from 4.096 of 5.000 rows/).waitFor();
    await panel(page).locator('.exports').first().waitFor();
    const seen = await page.evaluate(() => window.seen);
    assert.equal(seen.find((state) => state.startsWith('true')), 'true 0', `statistics before errors: ${seen}`);
    assert.ok(new Set(seen.map((state) => state.split(' ')[1])).size > 5, `rows arrive one after the other: ${seen}`);
    const rmse = () => page.getByRole('region', { name: 'Quantization error by type, table' }).locator('tbody tr').evaluateAll((rows) => rows.map((row) => [row.cells[0].innerText, row.cells[4].innerText]));
    const estimated = await rmse();
    await page.getByRole('button', { name: 'Measure all rows' }).click();
    await page.locator('.figures-table tr.waits').first().waitFor();
    await panel(page).locator('.exports').first().waitFor();
    assert.equal(await panel(page).getByText(/Estimated/).count(), 0);
    const exact = await rmse();
    const { stdout } = commandLine('sweep', path, '--json');
    const told = JSON.parse(stdout).tensors[0].encodings.map((e) => [e.encoding.toUpperCase(), Number(e.rmse.toPrecision(3))]);
    assert.deepEqual(Object.fromEntries(exact.map(([name, text]) => [name, Number(text)])), Object.fromEntries(told));
    assert.notDeepEqual(estimated, exact);
  }));

for (const width of [1440, 390])
  test(`the panel of a tensor scrolls with the keyboard, and metadata is a tab away, ${width} pixels`, () =>
    withPage(
      async (page) => {
        await choose(page, [candidate]);
        await page.locator('.grid-row').first().click();
        await page.getByText(/Compared with the \w+ values in this file/).waitFor();
        await panel(page).focus();
        if (width > 500) {
          await page.keyboard.press('End');
          await page.waitForFunction(() => document.activeElement.scrollTop > 0);
        }
        await showView(page, 'Metadata');
        await page.getByText('tokenizer.ggml.model').waitFor();
        await showView(page, 'Tensors');
        await page.getByText(/Compared with the \w+ values in this file/).waitFor();
      },
      { viewport: { width, height: 844 } },
    ));

test('measuring can be cancelled, and begun again', () =>
  withPage(async (page) => {
    const path = join(folder, 'large.safetensors');
    sparseModel(path, 1);
    await choose(page, [path]);
    await page.locator('.grid-row').first().click();
    await page.getByRole('progressbar').waitFor();
    await panel(page).getByRole('button', { name: 'Cancel' }).click();
    await panel(page).getByText('Cancelled.').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Measure');
    await page.keyboard.press('Enter');
    await page.getByRole('progressbar').waitFor();
  }));

test('NaN is one sentence with its place', () =>
  withPage(async (page) => {
    const values = new Float32Array(64).fill(0.5);
    values[37] = NaN;
    const { header } = safetensorsHeader([['a.weight', 'F32', [2, 32], 256]]);
    await choose(page, [memoryFile('nan.safetensors', Buffer.concat([header, Buffer.from(values.buffer)]))]);
    await page.locator('.grid-row').first().click();
    await panel(page).getByText(/NaN.*row 1, column 5/).waitFor();
    assert.equal(await panel(page).locator('.refused').count(), 0);
  }));

for (const width of [1440, 1024, 390])
  test(`layer and expert stay readable in long names, ${width} pixels`, () =>
    withPage(
      async (page) => {
        const name = 'model.language_model.layers.17.mlp.experts.113.gate_up_proj.weight';
        const { header, data } = safetensorsHeader([[name, 'F32', [4, 32], 512]]);
        await choose(page, [memoryFile('experts.safetensors', Buffer.concat([header, Buffer.alloc(data)]))]);
        await page.locator('.grid-row').first().waitFor();
        const cut = await page.locator('.grid-row .name').first().evaluate((cell) => {
          const edge = cell.getBoundingClientRect().right + 1;
          const parts = [...cell.querySelectorAll('.number, .tail:not(.end)')];
          return parts.filter((p) => p.scrollWidth > p.clientWidth + 1 || p.getBoundingClientRect().right > edge).length;
        });
        assert.equal(cut, 0);
      },
      { viewport: { width, height: 844 } },
    ));

test('tensors below the minimum are counted, marked, and come first', () =>
  withPage(async (page) => {
    await openSample(page);
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await page.getByText('are compared tensor by tensor').waitFor();
    await choose(page, [candidate]);
    await page.getByText(/^Pass: all/).waitFor();
    await page.getByRole('spinbutton').fill('0.9975');
    await page.getByRole('spinbutton').blur();
    await page.getByText(/^Fail: /).waitFor();
    const { stdout } = commandLine('compare', SAMPLE, candidate, '--threshold', '0.9975', '--json');
    const below = JSON.parse(stdout).tensors.filter((t) => t.below_threshold).length;
    assert.ok(below > 0 && below < 57, `${below}`);
    await page.getByText(new RegExp(`^Fail: ${below} of 57.tensors below 0.9975$`)).waitFor();
    assert.match(await page.locator('.compare .grid-row').first().innerText(), /below/);
    await page.getByText('\u2265\u20090.999', { exact: true }).waitFor();
  }));
