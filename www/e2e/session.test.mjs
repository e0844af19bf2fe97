// A whole session: by mouse, by keyboard, for assistive technology, and without a byte leaving the machine.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { askWorker, assertAccessible, choose, commandLine, convert, openSample, planFor, SAMPLE, withPage } from './page.mjs';

async function everyState(page, visit) {
  await visit('start');
  await openSample(page);
  await visit('tensors');
  await page.locator('.grid-row').nth(3).click();
  await page.getByRole('heading', { name: 'Quantization error by type' }).waitFor();
  await visit('tensor');
  await page.getByRole('radio', { name: 'Full' }).check();
  await page.getByRole('columnheader', { name: 'SQNR gain (dB)' }).waitFor();
  await visit('rotated');
  await planFor(page, 'GGUF', 'Q4_0');
  await visit('plan');
  await convert(page);
  await page.getByRole('button', { name: 'Compare with the source' }).waitFor();
  await visit('saved');
  await page.getByRole('button', { name: 'Compare with the source' }).click();
  await page.getByRole('grid', { name: 'Compared tensors' }).waitFor();
  await visit('compare');
}

for (const colorScheme of ['light', 'dark']) {
  for (const width of [1440, 390]) {
    test(`no accessibility violation in any state, ${colorScheme}, ${width} pixels`, () =>
      withPage((page) => everyState(page, (state) => assertAccessible(page, state)), {
        colorScheme,
        viewport: { width, height: 900 },
      }));
  }
}

test('the sample is opened, looked into and quantized with the keyboard alone', () =>
  withPage(async (page) => {
    const focused = () =>
      page.evaluate(() => document.activeElement?.getAttribute('aria-label') || document.activeElement?.textContent);
    const tabTo = async (name) => {
      for (let i = 0; i < 40; i += 1) {
        if ((await focused())?.trim() === name) return;
        await page.keyboard.press('Tab');
      }
      assert.fail(`the keyboard does not reach ${name}`);
    };
    await tabTo('Open the sample model');
    await page.keyboard.press('Enter');
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await tabTo('Tensors');
    await page.locator('.grid').first().focus();
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowUp', 'Enter']) await page.keyboard.press(key);
    await page.getByRole('heading', { name: 'model.embed_tokens.weight' }).waitFor();
    await page.keyboard.press('End');
    const active = await page.evaluate(() => {
      const id = document.querySelector('.grid').getAttribute('aria-activedescendant');
      return document.getElementById(id)?.textContent;
    });
    assert.match(active, /model\.norm\.weight/);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    assert.equal(await page.locator('[aria-sort=ascending]').count(), 1, 'a header sorts');
    await page.getByRole('button', { name: 'Quantize', exact: true }).focus();
    await page.keyboard.press('Enter');
    await page.getByText('Output size (exact)').waitFor();
    await tabTo('Quantize and save');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Compare with the source' }).waitFor();
  }));

test('a rotation is chosen with the keyboard, and its figures are those of the command line', () =>
  withPage(async (page) => {
    await openSample(page);
    await page.getByRole('searchbox').fill('layers.0.mlp.down_proj');
    await page.locator('.grid-row').first().click();
    await page.getByRole('radio', { name: 'None' }).focus();
    for (const key of ['ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
    assert.ok(await page.getByRole('radio', { name: 'Block 128' }).isChecked());
    await page.getByRole('columnheader', { name: 'SQNR gain (dB)' }).waitFor();
    const shown = await page
      .getByRole('region', { name: 'Hadamard rotation (QuaRot)' })
      .locator('tbody tr')
      .evaluateAll((rows) => rows.map((row) => [row.cells[0].innerText.toUpperCase(), row.cells[5].innerText]));
    const name = 'model.layers.0.mlp.down_proj.weight';
    const told = commandLine('sweep', SAMPLE, '--tensor', name, '--rotate', 'block:128', '--json');
    const [tensor] = JSON.parse(told.stdout).tensors;
    const signed = (db) => `${db > 0 ? '+' : ''}${db.toFixed(2)}`.replace('-', '\u2212');
    const expected = tensor.encodings.map((e) => [e.encoding.toUpperCase(), signed(e.rotated[0].gain_db)]);
    assert.ok(shown.length > 20);
    assert.deepEqual(shown.sort(), expected.sort());
    await page.getByRole('img', { name: `Histogram of ${name}, rotated` }).waitFor();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    assert.equal(await page.getByRole('columnheader', { name: 'SQNR gain (dB)' }).count(), 0);
  }));

test('rows are sorted and filtered, and only those in sight exist', () =>
  withPage(async (page) => {
    await openSample(page);
    const first = () => page.locator('.grid-row .name').first().innerText();
    assert.ok((await page.locator('.grid-row').count()) < 40);
    await page.getByRole('button', { name: 'Size', exact: true }).click();
    assert.match(await first(), /layernorm|norm/);
    await page.getByRole('button', { name: 'Size', exact: true }).click();
    assert.match(await first(), /lm_head|embed_tokens/);
    await page.getByRole('searchbox').fill('down_proj bf16');
    assert.equal(await page.getByRole('grid').first().getAttribute('aria-rowcount'), '7');
    await page.getByRole('searchbox').fill('no such tensor');
    await page.getByText('No tensor matches the filter.').waitFor();
  }));

test('nothing leaves the machine, in a whole session', () =>
  withPage(async (page, url, context) => {
    const asked = [];
    context.on('request', (request) => asked.push(request.url()));
    await page.reload();
    await everyState(page, async () => {});
    const foreign = asked.filter((u) => !u.startsWith(url) && !u.startsWith(`blob:${url}`) && !u.startsWith('data:'));
    assert.deepEqual(foreign, []);
    assert.ok(
      asked.some((u) => u.endsWith('.wasm')),
      'the requests were seen',
    );
  }));

test('the policy of the page blocks other origins, in the page and in its worker', async () => {
  const reached = [];
  const other = createServer((request, response) => {
    reached.push(request.url);
    response.setHeader('access-control-allow-origin', '*');
    response.end('here');
  });
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  const target = `http://127.0.0.1:${other.address().port}/leak`;
  const attempt = (address) =>
    fetch(address).then(
      () => 'sent',
      () => 'blocked',
    );
  try {
    assert.equal(await attempt(target), 'sent', 'the other server answers those who may ask');
    await withPage(async (page) => {
      await openSample(page);
      reached.length = 0;
      assert.equal(await page.evaluate(attempt, target), 'blocked');
      assert.ok(page.workers().length >= 1);
      for (const worker of page.workers()) assert.equal(await worker.evaluate(attempt, target), 'blocked');
      assert.deepEqual(reached, []);
    });
  } finally {
    other.close();
  }
});

test('the full module is loaded by the first job that needs it, and by no other', () =>
  withPage(async (page, _, context) => {
    const asked = [];
    context.on('request', (request) => asked.push(request.url()));
    const full = () => asked.some((url) => /full_bg.*\.wasm$/.test(url));
    await openSample(page);
    await page.locator('.grid-row').nth(3).click();
    await page.locator('.exports').first().waitFor();
    await page.getByRole('radio', { name: 'Block 32' }).check();
    await page.getByRole('columnheader', { name: 'SQNR gain (dB)' }).waitFor();
    const recipe = { to: 'safetensors', type: 'f16' };
    const saved = await askWorker(page, 'convert', { model: 1, recipe, name: 'out.safetensors', target: { kind: 'private' } });
    assert.ok(saved.bytes > 1e7);
    assert.ok(!full(), 'opening, measuring, rotating a tensor and converting without names');
    await planFor(page, 'GGUF', 'Q4_0');
    assert.ok(full(), 'names of GGUF');
  }));

test('a part of the page that cannot be loaded is named, and asked for again', () =>
  withPage(async (page, _, context) => {
    let blocked = true;
    await context.route(/full_bg.*\.wasm$/, (route) => (blocked ? route.abort() : route.continue()));
    await openSample(page);
    await page.getByRole('button', { name: 'Quantize', exact: true }).click();
    await page.getByRole('alert').getByText(/part of this page could not be loaded/).waitFor();
    blocked = false;
    await page.getByRole('radio', { name: /^Q6_K / }).check();
    await page.locator('.plan-result[aria-busy=false] .outcome').waitFor();
  }));

test('cancel does not wait for a part of the page that is loaded', () =>
  withPage(async (page, _, context) => {
    let load;
    const held = new Promise((resolve) => (load = resolve));
    await context.route(/full_bg.*\.wasm$/, (route) => held.then(() => route.continue()).catch(() => undefined));
    await openSample(page);
    await page.getByRole('button', { name: 'Compare', exact: true }).click();
    await choose(page, [join(SAMPLE, 'model.safetensors')]);
    await page.getByRole('progressbar').waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled.', { exact: true }).waitFor({ timeout: 20_000 });
    // What was asked for is used by the next job.
    load();
    await choose(page, [join(SAMPLE, 'model.safetensors')]);
    await page.getByText(/^Pass: all/).waitFor({ timeout: 120_000 });
  }));
