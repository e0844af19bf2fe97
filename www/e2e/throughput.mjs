// Times conversions into a picked file beside those into private storage, of one or more builds of the page, side by side.
// "Bytes alone": the same number of bytes written into a picked file by a page that converts nothing.
// Usage: node e2e/throughput.mjs [--size MB] [--rounds N] [NAME=DIST]...   (default: now=dist)
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { browser, ROOT, saveIntoPrivateStorage, serve } from './browser.mjs';
import { noiseModel } from './noise.mjs';
import { choose, convert, planFor } from './page.mjs';

const args = process.argv.slice(2);
const option = (name, fallback) => {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(args.splice(at, 2)[1]);
};
const size = option('size', 1000);
const rounds = option('rounds', 5);
const builds = (args.length > 0 ? args : ['now=dist']).map((arg) => arg.split('='));
const TYPES = ['Q8_0', 'Q4_0'];
const TARGETS = ['picked file', 'private storage'];

/** Seconds of one conversion, by the page's own clock, in a browser of its own. */
async function once(url, path, type, target) {
  const { context, close } = await browser();
  try {
    const page = context.pages()[0];
    page.on('download', (download) => void download.cancel());
    if (target === 'picked file') await saveIntoPrivateStorage(page);
    else await page.addInitScript(() => delete window.showSaveFilePicker);
    await page.addInitScript(() => {
      window.seconds = new Promise((resolve) => (window.done = resolve));
      const Plain = window.Worker;
      window.Worker = class extends Plain {
        constructor(...args) {
          super(...args);
          this.addEventListener('message', ({ data }) => data.answer?.seconds && window.done(data.answer.seconds));
        }
      };
    });
    await page.goto(url);
    await choose(page, [path]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'GGUF', type);
    await convert(page);
    // A promise, and no polling: that would keep a processor busy beside the conversion.
    return await page.evaluate(() => window.seconds);
  } finally {
    await close();
  }
}

/** Seconds that the browser takes to write `bytes` in blocks of 4 MiB, from a page that does nothing else. */
async function bare(url, bytes) {
  const { context, close } = await browser();
  try {
    const page = context.pages()[0];
    await page.goto(url);
    return await page.evaluate(async (bytes) => {
      const handle = await (await navigator.storage.getDirectory()).getFileHandle('bare', { create: true });
      const block = new Uint8Array(4 << 20).map((_, i) => i * 31);
      const start = performance.now();
      const stream = await handle.createWritable();
      await stream.truncate(bytes);
      for (let at = 0; at < bytes; at += block.length)
        await stream.write({ type: 'write', position: at, data: block.subarray(0, Math.min(block.length, bytes - at)) });
      await stream.close();
      return (performance.now() - start) / 1000;
    }, bytes);
  } finally {
    await close();
  }
}

/** Bytes a weight of each type, times the weights of the model. */
const written = (type, bytes) => Math.round(((bytes / 2) * { Q8_0: 34, Q4_0: 18 }[type]) / 32);

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const folder = mkdtempSync(join(tmpdir(), 'quantoscope-throughput-'));
try {
  const path = join(folder, 'noise.safetensors');
  const bytes = noiseModel(path, size);
  const servers = new Map();
  for (const [name, dist] of builds) servers.set(name, await serve(resolve(ROOT, dist)));
  const seconds = {};
  for (let round = 0; round < rounds; round += 1)
    for (const type of TYPES) {
      (seconds[type] ??= []).push(await bare(servers.get(builds[0][0]).url, written(type, bytes)));
      for (const [name] of builds)
        for (const target of TARGETS) {
          const took = await once(servers.get(name).url, path, type, target);
          (seconds[`${type} ${name} ${target}`] ??= []).push(took);
          console.error(`round ${round + 1}: ${type}, ${name}, ${target}: ${took.toFixed(2)} s, load ${loadavg()[0].toFixed(1)}`);
        }
    }
  console.log(`${cpus()[0].model}, ${cpus().length} processors; ${(bytes / 1e6).toFixed(0)} MB of BF16 to GGUF, one worker, median of ${rounds}\n`);
  console.log('| type | build | picked file, s | private storage, s | picked / private, median (all rounds) | bytes alone, s |\n|---|---|---|---|---|---|');
  for (const type of TYPES)
    for (const [name] of builds) {
      const [picked, stored] = TARGETS.map((target) => seconds[`${type} ${name} ${target}`]);
      // Both of a round ran one after the other, so that a load on the machine is in both.
      const ratios = picked.map((took, round) => took / stored[round]);
      const all = ratios.map((ratio) => ratio.toFixed(2)).join(', ');
      const figures = [median(picked), median(stored), median(ratios)].map((x) => x.toFixed(2)).join(' | ');
      console.log(`| ${type} | ${name} | ${figures} (${all}) | ${median(seconds[type]).toFixed(2)} |`);
    }
  for (const server of servers.values()) await server.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
