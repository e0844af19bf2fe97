// What several tests set up: a folder that ends with them, files in it, and what the command line makes of a source.
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { commandLine, safetensorsHeader, SAMPLE, sha256 } from './page.mjs';

/** A new folder, which is removed after the tests of the file. */
export function testFolder(name) {
  const folder = mkdtempSync(join(tmpdir(), `quantoscope-${name}-`));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A directory of these files, `{ name: bytes }`, in `folder`. */
export function directoryOf(folder, name, files) {
  const directory = join(folder, name);
  mkdirSync(directory, { recursive: true });
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(directory, file), bytes);
  return directory;
}

/** A safetensors file of `[name, dtype, shape, bytes]`, all bytes `fill`. */
export function safetensors(tensors, fill = 0) {
  const { header, data } = safetensorsHeader(tensors);
  return Buffer.concat([header, Buffer.alloc(data, fill)]);
}

/** One small matrix of this name. */
export function tiny(name, fill = 1) {
  return safetensors([[`${name}.weight`, 'F32', [4, 32], 512]], fill);
}

/** A copy of the sample, in a directory of its name, without some of its files. */
export function sampleWithout(folder, ...names) {
  const directory = join(mkdtempSync(join(folder, 'part-')), 'sample');
  mkdirSync(directory);
  for (const name of readdirSync(SAMPLE)) if (!names.includes(name)) copyFileSync(join(SAMPLE, name), join(directory, name));
  return directory;
}

/** What the command line writes of `source`, as a path. */
export function quantized(source, path, ...args) {
  const { status, stderr } = commandLine('quantize', source, '-o', path, '--force', ...args);
  assert.equal(status, 0, stderr);
  return path;
}

/** The digest of what the command line writes of `source`, or the text of its refusal. */
export function expected(source, path, ...args) {
  const { status, stderr } = commandLine('quantize', source, '-o', path, '--force', ...args);
  return status === 0 ? sha256(path) : stderr;
}
