// What the page saves is what the command line writes, byte for byte, whichever way it is saved.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { choose, convert, openSample, planFor, SAMPLE, sha256, stored, withPage } from './page.mjs';
import { quantized, safetensors, testFolder } from './setup.mjs';

const folder = testFolder('bytes');

const written = (name, ...args) => quantized(SAMPLE, join(folder, name), ...args);

const FILES = [
  ['GGUF', 'Q4_0', ['--type', 'q4_0']],
  ['GGUF', 'Q8_0', ['--type', 'q8_0']],
  ['GGUF', 'Q5_1', ['--type', 'q5_1']],
  ['safetensors', 'F16', ['--to', 'safetensors', '--type', 'f16']],
];

for (const [container, type, args] of FILES) {
  test(`a picked file: ${container} ${type}`, () =>
    withPage(async (page) => {
      const expected = written(`${type}.${container.toLowerCase()}`, ...args);
      await openSample(page);
      await planFor(page, container, type);
      const told = await page.locator('.outcome .to .small').last().innerText();
      assert.equal(Number(told.split(' bytes')[0].replaceAll(/\D/g, '')), statSync(expected).size, 'the plan is exact');
      await convert(page);
      await page.getByText('Saved', { exact: true }).waitFor();
      assert.deepEqual(Object.values(await stored(page, '')), [sha256(expected)]);
    }));
}

test('the sample folder to Q4_K_M in one click, as it runs in llama.cpp', () =>
  withPage(async (page) => {
    const expected = written('one-click.gguf', '--recipe', 'q4_k_m');
    const asked = [];
    page.context().on('request', (request) => asked.push(request.url()));
    await openSample(page);
    assert.ok(!asked.some((url) => url.includes('tokenizer_bg')), 'the encoder is loaded where it is needed');
    await page.getByRole('button', { name: 'Quantize', exact: true }).click();
    await page.locator('.plan-result[aria-busy=false]').waitFor();
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    assert.deepEqual(Object.values(await stored(page, '')), [sha256(expected)]);
    const header = readFileSync(expected).toString('latin1', 0, 200_000);
    for (const key of ['tokenizer.ggml.pre', 'llama.block_count', 'blk.5.ffn_down.weight']) assert.ok(header.includes(key), key);
  }));

test('embeddings and output too', () =>
  withPage(async (page) => {
    const expected = written('pure.gguf', '--type', 'q4_0', '--pure');
    await openSample(page);
    await planFor(page, 'GGUF', 'Q4_0');
    await page.getByText('More options').click();
    await page.getByRole('checkbox', { name: /Quantize token embeddings and lm_head too/ }).check();
    await page.locator('.plan-result[aria-busy=false]').waitFor();
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    assert.deepEqual(Object.values(await stored(page, '')), [sha256(expected)]);
  }));

test('a download, where there is no picker', () =>
  withPage(
    async (page) => {
      const expected = written('download.gguf', '--type', 'q4_0');
      await openSample(page);
      await planFor(page, 'GGUF', 'Q4_0');
      const download = page.waitForEvent('download');
      await convert(page);
      const saved = await download;
      assert.equal(saved.suggestedFilename(), 'sample-model-q4_0.gguf');
      assert.equal(sha256(await saved.path()), sha256(expected));
    },
    { pickers: false },
  ));

for (const scheme of ['Asymmetric', 'Symmetric']) {
  const args = ['--to', 'q4', '--q4-scheme', scheme === 'Symmetric' ? 'sym' : 'asym'];

  test(`lattice files in a picked folder: ${scheme}`, () =>
    withPage(async (page) => {
      const expected = digests(written(`q4-${scheme}`, ...args));
      await openSample(page);
      await planFor(page, 'Lattice', scheme);
      await convert(page);
      await page.getByText('Saved', { exact: true }).waitFor();
      assert.deepEqual(await stored(page, 'folder-'), expected);
    }));

  test(`lattice files as one archive: ${scheme}`, () =>
    withPage(
      async (page) => {
        const expected = digests(written(`q4-${scheme}`, ...args));
        await openSample(page);
        await planFor(page, 'Lattice', scheme);
        const download = page.waitForEvent('download');
        await convert(page);
        const path = await (await download).path();
        const unpacked = join(folder, `unpacked-${scheme}`);
        mkdirSync(unpacked);
        execFileSync('tar', ['-xf', path, '-C', unpacked]);
        const [inner] = readdirSync(unpacked);
        assert.deepEqual(digests(join(unpacked, inner)), expected);
      },
      { pickers: false },
    ));
}

test('an archive keeps names that its plain header has no room for', () =>
  withPage(
    async (page) => {
      const name = `model.layers.0.${'deep.'.repeat(24)}weight`;
      const source = join(folder, 'deep.safetensors');
      writeFileSync(source, safetensors([[name, 'F32', [2, 32], 256]], 7));
      const path = quantized(source, join(folder, 'deep-q4'), '--to', 'q4');
      await choose(page, [source]);
      await page.getByRole('grid', { name: 'Tensors' }).waitFor();
      await planFor(page, 'Lattice', 'Asymmetric');
      const download = page.waitForEvent('download');
      await convert(page);
      const unpacked = join(folder, 'deep-unpacked');
      mkdirSync(unpacked);
      execFileSync('tar', ['-xf', await (await download).path(), '-C', unpacked]);
      const [inner] = readdirSync(unpacked);
      const found = digests(join(unpacked, inner));
      assert.ok(Object.keys(found).some((n) => n.length > 100));
      assert.deepEqual(found, digests(path));
    },
    { pickers: false },
  ));

function digests(directory) {
  return Object.fromEntries(readdirSync(directory).map((name) => [name, sha256(join(directory, name))]));
}

test('files without a byte stream are read in slices, to the same bytes', () =>
  withPage(async (page) => {
    const expected = written('slices.gguf', '--type', 'q4_0');
    await openSample(page);
    await page.workers()[0].evaluate(() => {
      globalThis.slices = 0;
      Blob.prototype.stream = () => new ReadableStream();
      const { slice } = Blob.prototype;
      Blob.prototype.slice = function (...args) {
        globalThis.slices += 1;
        return slice.apply(this, args);
      };
    });
    await planFor(page, 'GGUF', 'Q4_0');
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    assert.ok((await page.workers()[0].evaluate(() => globalThis.slices)) > 57);
    assert.deepEqual(Object.values(await stored(page, '')), [sha256(expected)]);
  }));

test('a quantized file is opened again, and asks before it is requantized', () =>
  withPage(async (page) => {
    const source = written('again.gguf', '--type', 'q8_0');
    await choose(page, [source]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'GGUF', 'Q4_0');
    await page.getByText(/already quantized \(Q8_0/).waitFor();
    await page.getByRole('button', { name: 'Quantize anyway' }).click();
    await page.getByText('Output size (exact)').waitFor();
    assert.ok(await page.getByRole('button', { name: 'Quantize and save' }).isVisible());
  }));
