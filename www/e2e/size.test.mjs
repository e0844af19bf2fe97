// How much a visitor loads: the core with all its engines, and the page around it, as a host that compresses sends them.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ROOT } from './browser.mjs';

/** Bytes, compressed. WebGPU and its kernels take about 96 kB of them; rotation with its check, verify, presets and importance about 100. */
const LIMITS = { '.wasm': 1_020_000, '.js': 50_000, '.css': 12_000 };

for (const [kind, limit] of Object.entries(LIMITS))
  test(`the ${kind} files of the page stay below ${limit / 1000} kB`, () => {
    const assets = join(ROOT, 'dist/assets');
    const files = readdirSync(assets).filter((name) => name.endsWith(kind));
    const bytes = files.reduce((sum, name) => sum + gzipSync(readFileSync(join(assets, name)), { level: 9 }).length, 0);
    console.log(`${kind}: ${(bytes / 1000).toFixed(1)} kB compressed`);
    assert.ok(bytes > 1000 && bytes < limit, `${bytes} bytes`);
  });
