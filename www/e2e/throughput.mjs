// Times conversions into a picked file beside those into private storage, of one or more builds of the page, side by side.
// "Bytes alone": the same number of bytes written into a picked file by a page that converts nothing.
// Usage: node e2e/throughput.mjs [--size MB] [--rounds N] [NAME=DIST]...   (default: now=dist)
//        node e2e/throughput.mjs --folder DIR --gguf FILE [--rounds N] [NAME=DIST]
// The second form times a Hugging Face folder to Q4_K_M beside a GGUF of the same weights to Q4_K_M.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
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
const path = (name) => {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? undefined : args.splice(at, 2)[1];
};
const size = option('size', 1000);
const rounds = option('rounds', 5);
const [source, gguf] = [path('folder'), path('gguf')];
const builds = (args.length > 0 ? args : ['now=dist']).map((arg) => arg.split('='));
const TYPES = ['Q8_0', 'Q4_0'];
const TARGETS = ['picked file', 'private storage'];

/** Seconds of one conversion, by the page's own clock, in a browser of its own. */
async function once(url, paths, type, target) {
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
    await choose(page, paths);
    await page.getByRole('button', { name: 'Quantize', exact: true }).waitFor();
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

async function folderBesideGguf(url) {
  const inputs = { folder: readdirSync(source).map((name) => join(source, name)), GGUF: [gguf] };
  const seconds = { folder: [], GGUF: [] };
  for (let round = 0; round < rounds; round += 1)
    for (const [name, paths] of Object.entries(inputs)) {
      seconds[name].push(await once(url, paths, { mix: 'Q4_K_M' }, 'picked file'));
      console.error(`round ${round + 1}: ${name}: ${seconds[name].at(-1).toFixed(2)} s, load ${loadavg()[0].toFixed(1)}`);
    }
  const ratios = seconds.folder.map((took, round) => took / seconds.GGUF[round]);
  const figures = [seconds.folder, seconds.GGUF, ratios].map((all) => median(all).toFixed(2));
  console.log(`| folder to Q4_K_M, s | GGUF to Q4_K_M, s | ratio, median (all rounds) |\n|---|---|---|`);
  console.log(`| ${figures.join(' | ')} (${ratios.map((ratio) => ratio.toFixed(2)).join(', ')}) |`);
}

async function pickedBesidePrivate(servers, noise, bytes) {
  const seconds = {};
  for (let round = 0; round < rounds; round += 1)
    for (const type of TYPES) {
      (seconds[type] ??= []).push(await bare(servers.get(builds[0][0]).url, written(type, bytes)));
      for (const [name] of builds)
        for (const target of TARGETS) {
          const took = await once(servers.get(name).url, [noise], type, target);
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
}

const folder = mkdtempSync(join(tmpdir(), 'quantoscope-throughput-'));
const servers = new Map();
try {
  for (const [name, dist] of builds) servers.set(name, await serve(resolve(ROOT, dist)));
  const noise = join(folder, 'noise.safetensors');
  if (source && gguf) await folderBesideGguf(servers.values().next().value.url);
  else await pickedBesidePrivate(servers, noise, noiseModel(noise, size));
  for (const server of servers.values()) await server.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
