// Passes of a model in the worker: evaluation, sensitivities and types for a size are those of the command line.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { askWorker, commandLine, openSample, REPOSITORY, SAMPLE, sha256, withPage } from './page.mjs';
import { quantized, sampleWithout, testFolder } from './setup.mjs';

const folder = testFolder('forward');
const IDS = join(REPOSITORY, 'tests/fixtures/eval/ids.txt');
const MODEL = 1;
const text = 'Returns the number of elements in the vector, also referred to as its length.\n'.repeat(3);

const report = (...args) => {
  const { status, stdout, stderr } = commandLine(...args, '--json');
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout);
};

/** The engine of the page has no fused multiply-add, so the last digits of binary32 products differ. */
const close = (a, b, what, relative = 1e-4) => assert.ok(Math.abs(a - b) <= relative * Math.abs(b) + 1e-9, `${what}: ${a} and ${b}`);

test('a model is evaluated on ids and on a text, alone and against a reference', () =>
  withPage(async (page) => {
    const small = quantized(SAMPLE, join(folder, 'small.gguf'), '--type', 'q4_0');
    const words = join(folder, 'text.txt');
    writeFileSync(words, text);
    const ids = readFileSync(IDS, 'utf8').match(/\d+/g).map(Number);
    await openSample(page);
    const alone = await askWorker(page, 'eval', { model: MODEL, tokens: { ids }, options: { context: 32, tokens: 64, perPosition: true } });
    const wanted = report('eval', SAMPLE, '--ids', IDS, '--context', '32', '--tokens', '64', '--per-position');
    assert.deepEqual(Object.keys(alone).toSorted(), Object.keys(wanted).toSorted());
    assert.deepEqual([alone.tokens, alone.windows, alone.architecture], [64, 2, wanted.architecture]);
    for (const [i, { nll }] of alone.positions.entries()) close(nll, wanted.positions[i].nll, `position ${i}`);
    close(alone.nll, wanted.nll, 'nll', 1e-6);

    const { id } = await askWorker(page, 'open', { name: 'small.gguf' }, { file: small });
    const found = await askWorker(page, 'eval', { model: id, reference: MODEL, tokens: { text }, options: { context: 32 } });
    const both = report('eval', small, '--against', SAMPLE, '--text', words, '--context', '32');
    assert.equal(found.tokens, both.tokens);
    assert.equal(found.bos, both.bos);
    for (const key of ['perplexity', 'reference_perplexity', 'kl_mean', 'kl_median', 'kl_max', 'top1']) close(found[key], both[key], key);
    await assert.rejects(askWorker(page, 'eval', { model: MODEL, tokens: { ids: [1, 9_999_999] }, options: {} }), /not in the vocabulary/);
    await assert.rejects(askWorker(page, 'eval', { model: MODEL, tokens: { ids }, options: { context: 1e6 } }), /longer than/);
  }));

test('sensitivities are measured, and types are chosen for a size by them', () =>
  withPage(async (page) => {
    await openSample(page);
    const found = await askWorker(page, 'sensitivity', { model: MODEL, tokens: { seed: null }, options: { tokens: 8 } });
    const path = join(folder, 'sensitivity.json');
    writeFileSync(path, JSON.stringify(found));
    const wanted = report('sensitivity', SAMPLE, '--tokens', '8');
    assert.deepEqual({ ...found, model: wanted.model, tensors: [] }, { ...wanted, tensors: [] });
    assert.deepEqual(found.tensors.map((t) => t.name), wanted.tensors.map((t) => t.name));
    for (const [i, row] of found.tensors.entries()) {
      close(row.kl, wanted.tensors[i].kl, row.name, 1e-3);
      assert.deepEqual(row.types.map((t) => [t.type, t.bytes, t.squared_error]), wanted.tensors[i].types.map((t) => [t.type, t.bytes, t.squared_error]));
    }

    const recipe = { to: 'gguf' };
    const chosen = await askWorker(page, 'types_for_size', { model: MODEL, recipe, options: { size: { bytes: 3_900_000 }, sensitivity: found } });
    assert.ok(chosen.bytes <= 3_900_000 && chosen.bytes > 0.998 * 3_900_000, `${chosen.bytes}`);
    const made = quantized(SAMPLE, join(folder, 'fitted.gguf'), '--target-size', '3900000', '--sensitivity', path);
    const saved = await askWorker(page, 'convert', { model: MODEL, recipe: chosen.recipe, name: 'fitted.gguf', target: { kind: 'private' } });
    assert.equal(saved.sha256, sha256(made));
    const guess = await askWorker(page, 'types_for_size', { model: MODEL, recipe, options: { size: { bits_per_weight: 4.5 } } });
    assert.equal(guess.predicted_kl, null);
    const small = askWorker(page, 'types_for_size', { model: MODEL, recipe, options: { size: { bytes: 1000 } } });
    await assert.rejects(small, /too small/);
  }));

test('a long measurement is cancelled between layers', () =>
  withPage(async (page) => {
    await openSample(page);
    const ended = page.workers()[0].evaluate(
      (model) =>
        new Promise((resolve) => {
          const post = self.postMessage;
          self.postMessage = (message) => {
            if (message.id !== 'long') return post.call(self, message);
            if ('error' in message) resolve(message.error.code);
            else if ('answer' in message) resolve('ended');
            // The first progress comes while it runs.
            else self.dispatchEvent(new MessageEvent('message', { data: { cancel: 'long' } }));
          };
          const ask = { model, tokens: { seed: 3 }, options: { tokens: 96 } };
          self.dispatchEvent(new MessageEvent('message', { data: { id: 'long', call: 'sensitivity', ask } }));
        }),
      MODEL,
    );
    assert.equal(await ended, 'interrupted');
  }));

test('a model that is closed while its text is encoded says so', () =>
  withPage(async (page) => {
    await openSample(page);
    const { id } = await askWorker(page, 'open', { name: 'sample' }, { folder: SAMPLE });
    // The full module is loaded, so that the encoder is what is waited for.
    await askWorker(page, 'eval', { model: id, tokens: { ids: [1, 2, 3, 4] }, options: { context: 4 } });
    const error = await page.workers()[0].evaluate(
      ({ id, text }) =>
        new Promise((resolve) => {
          const post = self.postMessage;
          const send = (data) => self.dispatchEvent(new MessageEvent('message', { data }));
          self.postMessage = (message) => {
            if (message.id !== 'closed') return message.id === 'close' || post.call(self, message);
            if ('error' in message) resolve(message.error);
            else if ('answer' in message) resolve('ended');
          };
          send({ id: 'closed', call: 'eval', ask: { model: id, tokens: { text }, options: { context: 32 } } });
          setTimeout(() => send({ id: 'close', call: 'close', ask: { model: id } }), 5);
        }),
      { id, text },
    );
    assert.deepEqual([error.code, error.message], ['usage', 'the model was closed']);
  }));

test('tokens are drawn without special ones where the tokenizer cannot be read, and a text asks for ids', () =>
  withPage(async (page) => {
    const broken = sampleWithout(folder, 'tokenizer.json');
    const json = JSON.parse(readFileSync(join(SAMPLE, 'tokenizer.json'), 'utf8'));
    writeFileSync(join(broken, 'tokenizer.json'), JSON.stringify({ ...json, normalizer: { type: 'Nonsense' } }));
    await openSample(page);
    const { id } = await askWorker(page, 'open', { name: 'broken' }, { folder: broken });
    const found = await askWorker(page, 'eval', { model: id, tokens: { seed: 3 }, options: { context: 8, tokens: 16 } });
    assert.equal(found.tokens, 16);
    await assert.rejects(askWorker(page, 'eval', { model: id, tokens: { text }, options: {} }), /give token ids/);
  }));
