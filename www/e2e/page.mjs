// What a person does on the page, as functions; and what tests need to know about files.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, ftruncateSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { browser, saveIntoPrivateStorage, serve } from './browser.mjs';

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
export const SAMPLE = join(REPOSITORY, 'www/sample');

/**
 * Runs `body(page, url, context)` in a fresh browser. `pickers` puts private files in the place of the pickers, `at` is the
 * part of the address that chooses the view, and `cores` the number of cores that the browser tells the page.
 */
export async function withPage(body, { pickers = true, at = '#/tensors', cores, ...options } = {}) {
  const server = await serve();
  const { context, close } = await browser(options);
  try {
    const page = context.pages()[0];
    // A machine may be ten times slower than usual: only what never comes fails.
    page.setDefaultTimeout(300_000);
    const broken = [];
    page.on('pageerror', (error) => broken.push(error.message));
    if (pickers) await saveIntoPrivateStorage(page);
    else
      await page.addInitScript(() => {
        delete window.showSaveFilePicker;
        delete window.showDirectoryPicker;
      });
    if (cores) await page.addInitScript((n) => Object.defineProperty(navigator, 'hardwareConcurrency', { get: () => n }), cores);
    await page.goto(`${server.url}${at}`);
    await body(page, server.url, context);
    if (broken.length > 0) throw new Error(`the page threw: ${broken.join('; ')}`);
  } finally {
    await close();
    await server.close();
  }
}

export async function openSample(page) {
  await page.getByRole('button', { name: 'Open the sample model' }).click();
  await showView(page, 'Tensors');
  await page.getByRole('grid', { name: 'Tensors' }).waitFor();
}

/** Presses the tab of a view. */
export async function showView(page, name) {
  await page.getByRole('navigation', { name: 'Views' }).getByRole('button', { name, exact: true }).click();
}

/** Waits for the end of the background sweep. */
export async function sweepDone(page) {
  await page.locator('.sweep-line[data-state=done]').waitFor();
}

/** `files` are paths, or `{name, mimeType, buffer}`. */
export async function choose(page, files) {
  const chooser = page.waitForEvent('filechooser');
  await page.getByRole('button', { name: 'Choose files' }).click();
  await (await chooser).setFiles(files);
}

export function memoryFile(name, buffer) {
  return { name, mimeType: 'application/octet-stream', buffer };
}

/** `choice` is a type of "Same type for all" or a scheme, or a preset where it is `{ mix }`. */
export async function planFor(page, container, choice) {
  await page.getByRole('button', { name: 'Quantize', exact: true }).click();
  await page.getByRole('radio', { name: container }).check();
  if (choice) await pickType(page, choice);
  await page.locator('.plan-result[aria-busy=false]').waitFor();
}

export async function pickType(page, choice) {
  const preset = typeof choice === 'object';
  const group = page.getByRole('group', { name: preset ? /preset/i : /^(Same type for all|Scheme)$/ });
  await page.locator('.field-slot details').evaluateAll((all) => all.forEach((folded) => (folded.open = true)));
  await group.getByRole('radio', { name: new RegExp(`^${preset ? choice.mix : choice} `) }).check();
}

export async function convert(page) {
  await page.getByRole('button', { name: 'Quantize and save' }).click();
}

/** A trusted drop, as from a file manager. */
export async function drop(page, paths) {
  const cdp = await page.context().newCDPSession(page);
  const data = { items: [], files: paths, dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'])
    await cdp.send('Input.dispatchDragEvent', { type, x: 400, y: 300, data });
}

/** Names and digests of what lies in a folder of the private storage; its root where `folder` is empty. */
export function stored(page, folder) {
  return page.evaluate(async (folder) => {
    const root = await navigator.storage.getDirectory();
    const directories = [];
    if (folder === '') directories.push(root);
    else for await (const [name, handle] of root.entries()) if (name.startsWith(folder)) directories.push(handle);
    const found = {};
    for (const directory of directories)
      for await (const [name, handle] of directory.entries()) {
        if (handle.kind !== 'file') continue;
        const digest = await crypto.subtle.digest('SHA-256', await (await handle.getFile()).arrayBuffer());
        found[name] = [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, '0')).join('');
      }
    return found;
  }, folder);
}

export function sha256(path) {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** The command line of this working tree; whoever runs these tests builds it first. */
export function commandLine(...args) {
  const candidates = [
    process.env.QUANTOSCOPE,
    ...['debug', 'release'].map((p) => join(REPOSITORY, 'target', p, 'quantoscope')),
  ];
  const program = candidates.find((path) => path && existsSync(path));
  if (!program) throw new Error('the command line is not built: run `cargo build -p quantoscope` first');
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  return { status, stdout, stderr };
}

/** The header of a safetensors file whose tensors lie one after the other. */
export function safetensorsHeader(tensors) {
  let at = 0;
  const entries = tensors.map(([name, dtype, shape, bytes]) => {
    const begin = at;
    at += bytes;
    return [name, { dtype, shape, data_offsets: [begin, at] }];
  });
  let json = JSON.stringify(Object.fromEntries(entries));
  json += ' '.repeat((8 - (json.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return { header: Buffer.concat([length, Buffer.from(json)]), data: at };
}

/** Names and shapes of the tensors of a safetensors file. */
export function safetensorsTensors(path) {
  const bytes = readFileSync(path);
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())));
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, { shape }]) => ({ name, shape }));
}

/** A large model that takes no room on disk: all its values are zero. */
export function sparseModel(path, layers) {
  const [hidden, inner, vocabulary] = [3072, 8192, 128_256];
  const tensors = [['model.embed_tokens.weight', 'BF16', [vocabulary, hidden], vocabulary * hidden * 2]];
  const add = (name, ...shape) => tensors.push([name, 'BF16', shape, shape.reduce((a, b) => a * b, 2)]);
  for (let i = 0; i < layers; i += 1) {
    for (const name of ['q', 'k', 'v', 'o']) add(`model.layers.${i}.self_attn.${name}_proj.weight`, hidden, hidden);
    add(`model.layers.${i}.mlp.gate_proj.weight`, inner, hidden);
    add(`model.layers.${i}.mlp.up_proj.weight`, inner, hidden);
    add(`model.layers.${i}.mlp.down_proj.weight`, hidden, inner);
    add(`model.layers.${i}.input_layernorm.weight`, hidden);
  }
  const { header, data } = safetensorsHeader(tensors);
  const file = openSync(path, 'w');
  writeSync(file, header);
  ftruncateSync(file, header.length + data);
  closeSync(file);
  return { tensors: tensors.length, bytes: header.length + data };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** No violation that axe knows of, in what is shown now. */
export async function assertAccessible(page, where) {
  // Through the debugger: the page's own policy lets no foreign script in.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  const told = violations.map(
    (v) =>
      `${v.id}: ${v.nodes
        .map((n) => n.html)
        .slice(0, 3)
        .join(' ')}`,
  );
  assert.deepEqual(told, [], where);
}

let asked = 0;

/**
 * Sends a call to the worker, which answers it as it answers those of the page. `file` is a path that becomes the file of
 * the call; `files` is the key of a result in the private storage, which is opened; `folder` is one on disk. A saved result comes with its SHA-256.
 */
export function askWorker(page, call, ask, { file, files, folder, bytes } = {}) {
  const picked = file && { name: basename(file), base64: readFileSync(file).toString('base64') };
  const inside = folder && contents(folder);
  return page.workers()[0].evaluate(
    async ({ id, call, ask, picked, files, inside, bytes }) => {
      const made = ({ name, base64 }) => new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name);
      if (picked && call === 'open') ask.files = [{ path: picked.name, file: made(picked) }];
      else if (picked) ask.file = made(picked);
      if (inside) ask.files = inside.map((one) => ({ path: `${ask.name}/${one.name}`, file: made(one) }));
      if (files) {
        const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('quantoscope');
        const stored = await (await root.getFileHandle(files)).getFile();
        ask.files = [{ path: ask.name, file: new File([stored], ask.name) }];
      }
      const post = self.postMessage;
      const message = await new Promise((resolve) => {
        self.postMessage = (message) => {
          if (message.id !== id) return post.call(self, message);
          if (!('progress' in message)) resolve(message);
        };
        self.dispatchEvent(new MessageEvent('message', { data: { id, call, ask } }));
      });
      if ('error' in message) throw new Error(JSON.stringify(message.error));
      const { answer } = message;
      if (!answer?.file?.arrayBuffer) return answer;
      if (bytes) {
        const made = new Uint8Array(await answer.file.arrayBuffer());
        const parts = Array.from({ length: Math.ceil(made.length / 8192) }, (_, i) => String.fromCharCode(...made.subarray(8192 * i, 8192 * (i + 1))));
        return { ...answer, file: null, base64: btoa(parts.join('')) };
      }
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await answer.file.arrayBuffer()));
      return { ...answer, file: null, sha256: [...digest].map((b) => b.toString(16).padStart(2, '0')).join('') };
    },
    { id: `test-${(asked += 1)}`, call, ask, picked, files, inside, bytes },
  );
}

/** The files of a folder and of its folders. */
function contents(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ name: relative(folder, path), base64: readFileSync(path).toString('base64') }));
}

/** Bytes of the core's memory. */
export async function wasmMemory(page) {
  return (await askWorker(page, 'memory', {})).wasm;
}
