// Hugging Face folders become the GGUF files of the command line; what is missing for that is said before the run.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { askWorker, choose, commandLine, convert, drop, memoryFile, openSample, planFor, REPOSITORY, SAMPLE, sha256, stored, withPage } from './page.mjs';
import { directoryOf, expected, safetensors, sampleWithout, testFolder, tiny } from './setup.mjs';

const CORPUS = join(REPOSITORY, 'tests/data/conversion/corpus');

const folder = testFolder('folders');

/** Every family of the corpus, as `make proof` takes them; else every third. */
const ALL = process.env.CORPUS === 'all';

const made = (source, name, ...args) => expected(source, join(folder, name), ...args);

test('folders of families of the corpus, to the bytes or the refusal of the command line', () =>
  withPage(async (page) => {
    await openSample(page);
    const counted = { files: 0, refusals: 0 };
    const names = readdirSync(CORPUS).filter((_, i) => ALL || i % 3 === 0);
    for (const name of names) {
      const source = join(CORPUS, name, 'hf');
      for (const [recipe, args] of [
        [{}, []],
        [{ compat: true, mix: 'q8_0', pre_tokenizer: 'llama-bpe' }, ['--compat', 'llama.cpp', '--recipe', 'q8_0', '--pre-tokenizer', 'llama-bpe']],
      ]) {
        const wanted = made(source, `${name}.gguf`, ...args);
        const { id } = await askWorker(page, 'open', { name: 'hf' }, { folder: source });
        const ask = { model: id, recipe: { to: 'gguf', ...recipe }, name: 'out.gguf', target: { kind: 'private' } };
        const saved = await askWorker(page, 'convert', ask).catch((reason) => reason);
        await askWorker(page, 'close', { model: id });
        if (saved instanceof Error) {
          const { message } = JSON.parse(/\{"code".*\}/.exec(saved.message)[0]);
          assert.ok(wanted.includes(message), `${name}: ${message}\n${wanted}`);
          counted.refusals += 1;
        } else {
          assert.equal(saved.sha256, wanted, name);
          await askWorker(page, 'release', { key: saved.key });
          counted.files += 1;
        }
      }
    }
    console.log(`${counted.files} files equal, ${counted.refusals} refusals with the words of the command line`);
    assert.ok(counted.files > 1.2 * names.length, `${counted.files} files of ${names.length} folders`);
  }));

test('a GGUF becomes the folder of the command line, with what depends on its values', () =>
  withPage(async (page) => {
    await openSample(page);
    // Factors of rotary embedding decide a configuration, and norms of 32 bits the type of the folder.
    for (const name of ['llama3-bpe', 'gemma3', 'phi3-longrope', 'qwen3']) {
      const source = join(folder, `back-${name}.gguf`);
      assert.equal(commandLine('quantize', join(CORPUS, name, 'hf'), '-o', source).status, 0);
      const wanted = join(folder, `back-${name}`);
      const { status, stderr } = commandLine('quantize', source, '--to', 'hf', '-o', wanted);
      assert.equal(status, 0, stderr);
      const { id } = await askWorker(page, 'open', { name: `back-${name}.gguf` }, { file: source });
      const ask = { model: id, recipe: { to: 'hf_folder' }, name: `back-${name}`, target: { kind: 'private' } };
      const saved = await askWorker(page, 'convert', ask, { bytes: true });
      writeFileSync(join(folder, 'made.tar'), Buffer.from(saved.base64, 'base64'));
      const unpacked = directoryOf(folder, `unpacked-${name}`, {});
      execFileSync('tar', ['-xf', join(folder, 'made.tar'), '-C', unpacked]);
      const [inner] = readdirSync(unpacked);
      const digests = (path) => readdirSync(path).toSorted().map((file) => [file, sha256(join(path, file))]);
      assert.deepEqual(digests(join(unpacked, inner)), digests(wanted), name);
    }
  }));

for (const file of ['tokenizer.json', 'config.json'])
  test(`${file} is not among the files: said before the run, and the bytes are still the command line's`, () =>
    withPage(async (page) => {
      const source = sampleWithout(folder, file);
      const digest = made(source, 'part.gguf', '--recipe', 'q4_k_m');
      await drop(page, [source]);
      await page.getByRole('heading', { name: 'sample' }).waitFor();
      await planFor(page, 'GGUF');
      await page.getByText(`${file} is not among the files`).waitFor();
      await convert(page);
      await page.getByText('Saved', { exact: true }).waitFor();
      assert.deepEqual(Object.values(await stored(page, '')), [digest]);
    }));

test('a pre-tokenizer that is not determined is named in the form', () =>
  withPage(async (page) => {
    const source = sampleWithout(folder);
    const path = join(source, 'tokenizer.json');
    const tokenizer = JSON.parse(readFileSync(path));
    tokenizer.normalizer = { type: 'Lowercase' };
    writeFileSync(path, JSON.stringify(tokenizer));
    await drop(page, [source]);
    await page.getByRole('heading', { name: 'sample' }).waitFor();
    await planFor(page, 'GGUF');
    const { stderr } = commandLine('quantize', source, '-o', join(folder, 'refused.gguf'), '--recipe', 'q4_k_m', '--json');
    const { error } = JSON.parse(stderr);
    assert.ok((await page.getByRole('alert').innerText()).includes(error.message.slice(1)));
    await page.getByRole('combobox', { name: /Pre-tokenizer/ }).selectOption('gpt-2');
    await page.locator('.plan-result[aria-busy=false] .outcome').waitFor();
    await page.getByText('--pre-tokenizer gpt-2').waitFor();
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    const named = made(source, 'named.gguf', '--recipe', 'q4_k_m', '--pre-tokenizer', 'gpt-2');
    assert.deepEqual(Object.values(await stored(page, '')), [named]);
  }));

test('names of the source are a choice', () =>
  withPage(async (page) => {
    await openSample(page);
    await planFor(page, 'GGUF');
    await page.getByText('More options').click();
    await page.getByRole('combobox', { name: /Tensor names/ }).selectOption('source');
    await page.getByText('tensor names of the source were asked for').waitFor();
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    const digest = made(SAMPLE, 'source.gguf', '--recipe', 'q4_k_m', '--names', 'source');
    assert.deepEqual(Object.values(await stored(page, '')), [digest]);
  }));

test('several models in a folder: one is chosen', () =>
  withPage(async (page) => {
    const directory = directoryOf(folder, 'several', { 'one.safetensors': tiny('one'), 'two.safetensors': tiny('two') });
    await drop(page, [directory]);
    await page.getByText('Which one?').waitFor();
    await page.getByRole('button', { name: 'two.safetensors' }).click();
    await page.getByRole('heading', { name: 'two.safetensors' }).waitFor();
    assert.match(await page.locator('.grid-row').first().innerText(), /two\.weight/);
  }));

test('a folder of folders: one is chosen, and has its own name and files', () =>
  withPage(async (page) => {
    const directory = directoryOf(folder, 'collection', {});
    for (const name of ['qwen3', 'llama3-bpe']) cpSync(join(CORPUS, name, 'hf'), join(directory, name), { recursive: true });
    await drop(page, [directory]);
    await page.getByRole('button', { name: 'qwen3/' }).click();
    await page.getByRole('heading', { name: 'qwen3' }).waitFor();
    await planFor(page, 'GGUF', 'As the source');
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    const digest = made(join(directory, 'qwen3'), 'chosen.gguf');
    assert.deepEqual(Object.values(await stored(page, '')), [digest]);
  }));

/** An APR file of one tensor whose dtype byte 3 is F64 to one program, and ggml's Q4_1 to another. */
function ambiguousApr() {
  const pad = (part) => Buffer.concat([part, Buffer.alloc((64 - (part.length % 64)) % 64)]);
  const numbers = (...list) => Buffer.from(BigUint64Array.from(list, BigInt).buffer);
  const name = Buffer.from('a.weight');
  const entry = [Buffer.from([name.length, 0]), name, Buffer.from([3, 2]), numbers(2, 32, 0, 512)];
  const [metadata, index, data] = [Buffer.from('{}'), Buffer.concat(entry), Buffer.alloc(512)].map(pad);
  const header = Buffer.alloc(64);
  header.write('APR\0\u0002\0', 'latin1');
  header.writeUInt16LE(1 << 10, 6);
  header.writeUInt32LE(1, 8);
  header.writeBigUInt64LE(64n, 12);
  header.writeUInt32LE(2, 20);
  header.writeBigUInt64LE(BigInt(64 + metadata.length), 24);
  header.writeBigUInt64LE(BigInt(64 + metadata.length + index.length), 32);
  header.writeUInt32LE(crc32(Buffer.concat([header.subarray(0, 40), header.subarray(44)])), 40);
  const body = Buffer.concat([header, metadata, index, data]);
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(crc32(body));
  return Buffer.concat([body, sum]);
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

test('an APR file with an ambiguous type: the program that wrote it is chosen', () =>
  withPage(async (page) => {
    await choose(page, [memoryFile('model.apr', ambiguousApr())]);
    await page.getByText('Which program wrote the file?').waitFor();
    await page.getByRole('button', { name: /^aprender \(core\)/ }).click();
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    assert.match(await page.locator('.grid-row').first().innerText(), /F64/);
  }));

test('loose shards are joined, and missing ones are named', () =>
  withPage(async (page) => {
    const shard = (n) => memoryFile(`model-0000${n}-of-00003.safetensors`, tiny(`layer.${n}`));
    await choose(page, [shard(2)]);
    await page.getByRole('alert').getByText(/incomplete.*model-00001-of-00003.safetensors, model-00003/).waitFor();
    await choose(page, [shard(1), shard(2), shard(3)]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    assert.equal(await page.locator('.grid-row').count(), 3);
  }));

test('an empty folder, and files that are no model, are told in a sentence', () =>
  withPage(async (page) => {
    await drop(page, [directoryOf(folder, 'empty', {})]);
    await page.getByRole('alert').getByText('This folder is empty').waitFor();
    await drop(page, [directoryOf(folder, 'pickle', { 'pytorch_model.bin': Buffer.alloc(64) })]);
    await page.getByRole('alert').getByText(/pytorch_model.bin/).waitFor();
    await choose(page, [
      memoryFile('model.safetensors', Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 13644312\n`)),
    ]);
    await page.getByRole('alert').getByText(/git lfs pull/i).waitFor();
  }));

test('a tensor that can only be kept is kept, or left out, with one click', () =>
  withPage(async (page) => {
    const source = join(folder, 'kept.safetensors');
    writeFileSync(
      source,
      safetensors([
        ['model.a.weight', 'F32', [32, 32], 4096],
        ['model.b.weight', 'F6_E2M3', [32, 32], 768],
      ]),
    );
    await choose(page, [source]);
    await page.getByRole('grid', { name: 'Tensors' }).waitFor();
    await planFor(page, 'safetensors', 'BF16');
    await page.getByRole('alert').getByText(/F6_E2M3 can only be kept/).waitFor();
    await page.getByRole('button', { name: 'Keep it' }).click();
    await page.locator('.plan-result[aria-busy=false] .outcome').waitFor();
    await convert(page);
    await page.getByText('Saved', { exact: true }).waitFor();
    const kept = made(source, 'kept-out.safetensors', '--to', 'safetensors', '--type', 'bf16', '--tensor-type', 'model.b.weight=f6_e2m3');
    assert.deepEqual(Object.values(await stored(page, '')), [kept]);
    await page.getByRole('radio', { name: 'GGUF' }).check();
    await page.getByRole('button', { name: 'Leave it out' }).click();
    await page.locator('.plan-result[aria-busy=false] .outcome').waitFor();
    await page.getByText('--exclude model.b.weight').waitFor();
  }));

test('a folder of the picker is read up to 20 000 files', () =>
  withPage(async (page) => {
    await page.evaluate(() => {
      window.asked = 0;
      const file = (name) => ({
        kind: 'file',
        name,
        getFile: async () => {
          window.asked += 1;
          return new File([], name);
        },
      });
      const folder = (name, values) => ({ kind: 'directory', name, values });
      const inner = folder('inner', async function* () {
        for (let i = 0; ; i += 1) yield file(`${i}.txt`);
      });
      const outer = folder('outer', async function* () {
        yield file('a.txt');
        yield inner;
        yield file('z.txt');
      });
      window.showOpenFilePicker = async () => [];
      window.showDirectoryPicker = async () => outer;
    });
    await page.getByRole('button', { name: 'Choose a folder' }).click();
    await page.getByRole('alert').waitFor();
    assert.equal(await page.evaluate(() => window.asked), 20_000);
  }));
