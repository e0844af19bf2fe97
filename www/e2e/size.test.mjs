// How much a visitor loads, as a host that compresses sends it: at first the core without its feature `full` and the page
// around it; with the first job that needs it, the full core; and where a Hugging Face folder is converted to GGUF, the encoder.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ROOT } from './browser.mjs';

/** Fonts are compressed already. */
const FIRST = /^(quantoscope_bg.*\.wasm|(index|worker).*\.js|.*\.css|.*\.woff2|.*\.svg)$/;

/** Bytes, compressed. Of the core that comes first, kernels are more than a third. */
const LIMITS = [
  ['what is loaded at first', FIRST, 900_000],
  ['the core that is loaded at first', /^quantoscope_bg.*\.wasm$/, 720_000],
  ['the full core', /^full(_bg)?-.*\.(wasm|js)$/, 1_260_000],
  ['the encoder of tokenizers', /^(tokenizer_bg.*\.wasm|encoder.*\.js)$/, 735_000],
  ['the scripts that are loaded at first', /^(index|worker).*\.js$/, 64_000],
  ['the picture of the overview', /^treemap-.*\.js$/, 6_000],
  ['the styles', /\.css$/, 12_000],
];

const assets = join(ROOT, 'dist/assets');

for (const [what, pattern, limit] of LIMITS)
  test(`compressed size of ${what}: below ${limit / 1000} kB`, () => {
    const files = readdirSync(assets).filter((name) => pattern.test(name));
    const bytes = files.reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name)), { level: 9 }).length, 0);
    console.log(`${what}: ${(bytes / 1000).toFixed(1)} kB compressed`);
    assert.ok(bytes > 1000 && bytes < limit, `${bytes} bytes`);
  });

test('every file that the page loads is counted', () => {
  const later = /^(full(_bg)?-.*\.(wasm|js)|tokenizer_bg.*\.wasm|encoder.*\.js|treemap-.*\.js)$/;
  assert.deepEqual(readdirSync(assets).filter((name) => !FIRST.test(name) && !later.test(name)), []);
});
