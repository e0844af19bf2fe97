// Times conversions into a picked file beside those into private storage, of one or more builds of the page, side by side.
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
      const Plain = window.Worker;
      window.Worker = class extends Plain {
        constructor(...args) {
          super(...args);
          this.addEventListener('message', ({ data }) => (window.seconds = data.answer?.seconds ?? window.seconds));
        }
      };
    });
    await page.goto(url);
    await choose(page, [path]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'GGUF', type);
    await convert(page);
    await page.waitForFunction(() => window.seconds, undefined, { timeout: 0 });
    return await page.evaluate(() => window.seconds);
  } finally {
    await close();
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const folder = mkdtempSync(join(tmpdir(), 'quantoscope-throughput-'));
try {
  const path = join(folder, 'noise.safetensors');
  const bytes = noiseModel(path, size);
  const servers = new Map();
  for (const [name, dist] of builds) servers.set(name, await serve(resolve(ROOT, dist)));
  const seconds = {};
  for (let round = 0; round < rounds; round += 1)
    for (const type of TYPES)
      for (const [name] of builds)
        for (const target of TARGETS) {
          const took = await once(servers.get(name).url, path, type, target);
          (seconds[`${type} ${name} ${target}`] ??= []).push(took);
          console.error(`round ${round + 1}: ${type}, ${name}, ${target}: ${took.toFixed(2)} s, load ${loadavg()[0].toFixed(1)}`);
        }
  console.log(`${cpus()[0].model}, ${cpus().length} processors; ${(bytes / 1e6).toFixed(0)} MB of BF16 to GGUF, one worker, median of ${rounds}\n`);
  console.log('| type | build | picked file, s | private storage, s | picked / private, median (all rounds) |\n|---|---|---|---|---|');
  for (const type of TYPES)
    for (const [name] of builds) {
      const [picked, stored] = TARGETS.map((target) => seconds[`${type} ${name} ${target}`]);
      // Both of a round ran one after the other, so that a load on the machine is in both.
      const ratios = picked.map((took, round) => took / stored[round]);
      const all = ratios.map((ratio) => ratio.toFixed(2)).join(', ');
      const figures = [median(picked), median(stored), median(ratios)].map((x) => x.toFixed(2)).join(' | ');
      console.log(`| ${type} | ${name} | ${figures} (${all}) |`);
    }
  for (const server of servers.values()) await server.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
