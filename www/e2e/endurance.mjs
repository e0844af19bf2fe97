// Conversions in a row in one tab. Fails where one stands still, and where a size or a byte differs from the command line's.
// Usage: node e2e/endurance.mjs [--count N] [--size MB] [--target picked|private]
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { noiseModel } from './noise.mjs';
import { choose, commandLine, convert, planFor, withPage } from './page.mjs';

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '50' },
    size: { type: 'string', default: '1000' },
    target: { type: 'string', default: 'picked' },
  },
});
const [count, size] = [Number(values.count), Number(values.size)];
assert.ok(count > 0 && size > 0 && ['picked', 'private'].includes(values.target), 'usage: see the head of this file');
const TYPES = ['Q4_0', 'Q8_0'];
/** No progress for so long is a hang. It is no limit of the whole: a slow machine takes as long as it takes. */
const STILL_MS = 120_000;
/** Files are hashed piece by piece, here and in the page: a digest of digests. */
const PIECE = 64 << 20;

function digestOf(path) {
  const file = openSync(path, 'r');
  const { size: bytes } = fstatSync(file);
  const whole = createHash('sha256');
  const piece = Buffer.alloc(PIECE);
  for (let at = 0; at < bytes; at += PIECE)
    whole.update(createHash('sha256').update(piece.subarray(0, readSync(file, piece, 0, PIECE, at))).digest());
  closeSync(file);
  return { bytes, digest: whole.digest('hex') };
}

/** The same of the one file that lies in `folder` of the private storage and whose name ends in `name`. */
function digestInPage(page, folder, name) {
  return page.evaluate(
    async ([folder, name, PIECE]) => {
      const root = await navigator.storage.getDirectory();
      const directory = folder ? await root.getDirectoryHandle(folder) : root;
      let file;
      for await (const [key, handle] of directory.entries()) if (key.endsWith(name)) file = await handle.getFile();
      const digest = (data) => crypto.subtle.digest('SHA-256', data);
      const parts = [];
      for (let at = 0; at < file.size; at += PIECE)
        parts.push(new Uint8Array(await digest(await file.slice(at, at + PIECE).arrayBuffer())));
      const whole = new Uint8Array(await digest(await new Blob(parts).arrayBuffer()));
      return { bytes: file.size, digest: [...whole].map((b) => b.toString(16).padStart(2, '0')).join('') };
    },
    [folder, name, PIECE],
  );
}

/** Waits for the end of the conversion; throws where it fails or stands still. */
async function finished(page) {
  let last = '';
  let since = performance.now();
  for (;;) {
    const now = await page.evaluate(() => ({
      saved: document.querySelector('.job-saved') !== null,
      failed: document.querySelector('.job-failed, .job-stopped')?.textContent,
      far: document.querySelector('.job-running')?.textContent,
    }));
    if (now.saved) return;
    if (now.failed) throw new Error(now.failed);
    if (now.far !== last) [last, since] = [now.far, performance.now()];
    if (performance.now() - since > STILL_MS) throw new Error(`it stands still: ${last}`);
    await page.waitForTimeout(100);
  }
}

/** Counts the streams that the worker opens: one that stalls is opened again. */
function countStreams(page) {
  return page.workers()[0].evaluate(() => {
    const real = Blob.prototype.stream;
    self.opened = 0;
    Blob.prototype.stream = function () {
      self.opened += 1;
      return real.call(this);
    };
  });
}

async function run(page) {
  page.on('download', (download) => void download.cancel());
  await choose(page, [path]);
  await page.getByRole('button', { name: 'Quantize', exact: true }).waitFor();
  await countStreams(page);
  for (let i = 0; i < count; i += 1) {
    const type = TYPES[i % TYPES.length];
    await planFor(page, 'GGUF', type);
    const begun = performance.now();
    await convert(page);
    await finished(page);
    const seconds = (performance.now() - begun) / 1000;
    const name = `noise-${type.toLowerCase()}.gguf`;
    const made = await digestInPage(page, values.target === 'private' ? 'quantoscope' : '', name);
    assert.deepEqual(made, expected[type], `conversion ${i + 1} of ${count}, ${type}`);
    await page.getByRole('button', { name: `Dismiss ${name}` }).click();
    const opened = await page.workers()[0].evaluate(() => self.opened);
    console.log(`${i + 1} of ${count}: ${type}, ${seconds.toFixed(1)} s, ${opened} streams opened, load ${loadavg()[0].toFixed(1)}`);
  }
  const opened = await page.workers()[0].evaluate(() => self.opened);
  console.log(`${count} conversions of ${(input / 1e6).toFixed(0)} MB (${values.target}): sizes and bytes are right; streams opened again: ${opened - count}`);
}

const folder = mkdtempSync(join(tmpdir(), 'quantoscope-endurance-'));
const path = join(folder, 'noise.safetensors');
const expected = {};
let input;
try {
  input = noiseModel(path, size);
  for (const type of TYPES) {
    const out = join(folder, `${type}.gguf`);
    const { status, stderr } = commandLine('quantize', path, '-o', out, '--type', type.toLowerCase());
    assert.equal(status, 0, stderr);
    expected[type] = digestOf(out);
    rmSync(out);
  }
  await withPage(run, { pickers: values.target === 'picked' });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
