// What the worker can be asked for and the views do not show yet: the bytes are those of the command line.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { askWorker, openSample, SAMPLE, safetensorsTensors, sha256, withPage } from './page.mjs';
import { quantized, testFolder } from './setup.mjs';

const folder = testFolder('worker');

/** The model that `openSample` opens. */
const MODEL = 1;

const digest = (name, ...args) => sha256(quantized(SAMPLE, join(folder, name), ...args));

/** An importance matrix (`.dat`) for every matrix of the sample. */
function importanceMatrix() {
  const matrices = safetensorsTensors(join(SAMPLE, 'model.safetensors')).filter(({ shape }) => shape.length === 2);
  const u32 = (n) => Buffer.from(Uint32Array.of(n).buffer);
  const entry = ({ name, shape }) => {
    const sums = Float32Array.from({ length: shape[1] }, (_, i) => 0.25 + (i % 7));
    return [u32(name.length), Buffer.from(name), u32(1), u32(shape[1]), Buffer.from(sums.buffer)];
  };
  const path = join(folder, 'weights.dat');
  writeFileSync(path, Buffer.concat([u32(matrices.length), ...matrices.flatMap(entry)]));
  return path;
}

test('a preset with an importance matrix and overrides: quantized and verified', () =>
  withPage(async (page) => {
    const path = importanceMatrix();
    const expected = digest(
      'preset.gguf',
      ...['--recipe', 'iq3_xxs', '--imatrix', path],
      ...['--tensor-type', 'attn_v=q5_1', '--output-tensor-type', 'q8_0'],
    );
    await openSample(page);
    const weights = await askWorker(page, 'open_imatrix', {}, { file: path });
    assert.equal(weights.file, basename(path));
    const recipe = {
      to: 'gguf',
      mix: 'iq3_xxs',
      overrides: [{ pattern: 'attn_v', type: 'q5_1' }],
      output_type: 'q8_0',
    };
    const ask = { model: MODEL, recipe, imatrix: weights.id, name: 'preset.gguf', target: { kind: 'private' } };
    const saved = await askWorker(page, 'convert', ask);
    assert.equal(saved.sha256, expected);
    assert.equal(saved.report.importance.file, basename(path));
    const output = await askWorker(page, 'open', { name: 'preset.gguf' }, { files: saved.key });
    const verified = await askWorker(page, 'verify', { model: output.id, source: MODEL, imatrix: weights.id });
    assert.equal(verified.verified, true, JSON.stringify(verified.findings));
    assert.equal(await askWorker(page, 'close_imatrix', { imatrix: weights.id }), null);
    const alone = await askWorker(page, 'verify', { model: output.id });
    assert.equal(alone.verified, true);
  }));

test('a rotated conversion, checked on a few tokens', () =>
  withPage(async (page) => {
    const expected = digest('rotated.gguf', '--type', 'q4_0', '--rotate', 'quarot,r2', '--seed', '7');
    await openSample(page);
    const rotate = await askWorker(page, 'rotation_options', { what: 'quarot,r2', seed: '7' });
    const recipe = { to: 'gguf', type: 'q4_0', rotate };
    const ask = { model: MODEL, recipe, name: 'rotated.gguf', target: { kind: 'private' } };
    const saved = await askWorker(page, 'convert', ask);
    assert.equal(saved.sha256, expected);
    assert.ok(saved.report.gate.probe.max <= saved.report.gate.probe.limit);
    const output = await askWorker(page, 'open', { name: 'rotated.gguf' }, { files: saved.key });
    const verified = await askWorker(page, 'verify', { model: output.id, source: MODEL });
    assert.equal(verified.verified, true, JSON.stringify(verified.findings));
  }));

test('two runs at once both end', () =>
  withPage(async (page) => {
    await openSample(page);
    // From now on every window lets messages in, so that both runs wait for one at the same time.
    await page.workers()[0].evaluate(() => {
      let now = 0;
      performance.now = () => (now += 1000);
    });
    const reports = await Promise.all([2, 3].map((tensor) => askWorker(page, 'values', { model: MODEL, tensor })));
    assert.deepEqual(
      reports.map((report) => report.tensors.length),
      [1, 1],
    );
  }));
