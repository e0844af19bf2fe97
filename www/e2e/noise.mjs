// A model of any size whose values are noise, the same for the same size: for proofs and timings, never for tests of figures.
import { closeSync, openSync, writeSync } from 'node:fs';
import { safetensorsHeader } from './page.mjs';

const COLUMNS = 4096;
const LARGEST_ROWS = 14_336;

/** Writes a safetensors file with about `megabytes` MB of BF16 matrices; its length in bytes. */
export function noiseModel(path, megabytes) {
  const tensors = [];
  let rows = Math.ceil((megabytes * 1e6) / (2 * COLUMNS));
  for (let i = 0; rows > 0; i += 1) {
    const some = Math.min(rows, LARGEST_ROWS);
    tensors.push([`model.layers.${i}.mlp.up_proj.weight`, 'BF16', [some, COLUMNS], some * COLUMNS * 2]);
    rows -= some;
  }
  const { header, data } = safetensorsHeader(tensors);
  const block = noise();
  const file = openSync(path, 'w');
  writeSync(file, header);
  for (let left = data; left > 0; left -= block.byteLength) writeSync(file, block, 0, Math.min(left, block.byteLength));
  closeSync(file);
  return header.byteLength + data;
}

/** BF16 values of either sign between 2^-14 and 2^-3: no NaN, no infinity. Not a power of two long. */
function noise() {
  const values = new Uint16Array(4_194_319);
  let state = 1;
  for (let i = 0; i < values.length; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    values[i] = ((state >>> 16) & 0x8000) | (((113 + ((state >>> 8) % 12)) << 7) & 0x7f80) | ((state >>> 24) & 0x7f);
  }
  return new Uint8Array(values.buffer);
}
