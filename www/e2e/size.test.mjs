// How much a visitor loads, as a host that compresses sends it: the core with all its engines, the page around it, and the
// encoder of tokenizers, which only a conversion of a Hugging Face folder to GGUF loads.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ROOT } from './browser.mjs';

/**
 * Bytes, compressed. Of the core, WebGPU and its kernels take about 96 kB; rotation with its check, verify, presets and
 * importance about 100; conversion of Hugging Face folders and back about 350.
 */
const LIMITS = [
  ['the core', /^quantoscope_bg.*\.wasm$/, 1_380_000],
  ['the encoder of tokenizers', /^(tokenizer_bg.*\.wasm|encoder.*\.js)$/, 735_000],
  ['the scripts', /^(?!encoder).*\.js$/, 50_000],
  ['the styles', /\.css$/, 12_000],
];

for (const [what, pattern, limit] of LIMITS)
  test(`compressed size of ${what}: below ${limit / 1000} kB`, () => {
    const assets = join(ROOT, 'dist/assets');
    const files = readdirSync(assets).filter((name) => pattern.test(name));
    const bytes = files.reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name)), { level: 9 }).length, 0);
    console.log(`${what}: ${(bytes / 1000).toFixed(1)} kB compressed`);
    assert.ok(bytes > 1000 && bytes < limit, `${bytes} bytes`);
  });
