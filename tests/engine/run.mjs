// Loads what Quantoscope wrote in llama.cpp: token ids of a text and greedy tokens equal the recorded ones.
//
// Usage: node run.mjs QUANTOSCOPE [CASE...]    with the program, and names of cases if not all are meant
//
// The recorded figures are those of llama.cpp's own files, made by its own converter: tests/data/conversion/README.md.

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const data = join(root, "tests/data/conversion");
const probes = JSON.parse(readFileSync(join(data, "probes.json"), "utf8"));
const [program, ...wanted] = process.argv.slice(2);

// One case of each kind of tokenizer and of attention, with the rotations that its architecture has.
const CASES = [
  ["llama2-spm", "SentencePiece", "quarot,r2"],
  ["phi3-4k", "SentencePiece with added tokens of two files; fused query, key and value", null],
  ["t5-flan", "Unigram; encoder and decoder", null],
  ["xlm-roberta", "Unigram with the ids of fairseq", null],
  ["bert-bge", "WordPiece; attention in both directions", null],
  ["roberta", "byte-level BPE of an encoder", null],
  ["gpt2-vocab-json", "vocab.json and merges.txt; learned positions", null],
  ["mistral-tekken-json", "tekken.json", null],
  ["gemma4", "SentencePiece in JSON; shared keys and values, embeddings of layers", null],
  ["gemma2", "soft caps, sliding window, four norms in a layer", null],
  ["llama3-bpe", "byte-level BPE; grouped queries, scaled rotary frequencies, two shards", "quarot,r2"],
  ["qwen2", "biases of query, key and value", "quarot,r2"],
  ["qwen3", "norms of query and key", "quarot,r2"],
  ["qwen3-moe", "experts", null],
  ["qwen3-next", "gated delta net, a gated attention", null],
  ["deepseek-v3", "latent attention, shared experts", null],
  ["gpt-oss-bf16", "attention sinks, experts with biases", null],
  ["falcon-7b-style", "one head of keys and values", null],
  ["gpt-neox", "parallel attention, part of the head rotary", null],
  ["command-r", "parallel attention, a scaled head", null],
  ["granite-hybrid", "Mamba-2 beside attention", null],
  ["mamba2", "Mamba-2 alone", null],
  ["lfm2", "short convolutions", null],
];

let failures = 0;
function check(name, ok, detail) {
  if (!ok) {
    failures += 1;
    console.error(`FAILED ${name}: ${detail}`);
  }
}

// Tokens of the text after which the recorded greedy tokens follow.
const PROMPT = 20;
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.disabled });

// Quantizes a folder and returns what llama.cpp makes of the file.
async function run(folder, file, options, probe) {
  execFileSync(program, ["quantize", folder, "-o", file, "--force", ...options], { stdio: ["ignore", "ignore", "pipe"] });
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
  try {
    const ids = model.tokenize(probes.text).map(Number);
    const result = { ids };
    if (probe.engine_embedding_f32) {
      const context = await model.createEmbeddingContext({ contextSize: 128, threads: 1 });
      result.embedding = (await context.getEmbeddingFor(probes.text)).vector;
      await context.dispose();
    } else if (probe.engine_greedy_f32 || !("loads" in probe)) {
      const context = await model.createContext({ contextSize: 128, threads: 1 });
      result.greedy = [];
      const prompt = ids.slice(0, PROMPT);
      for await (const token of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
        result.greedy.push(Number(token));
        if (result.greedy.length === 5) break;
      }
      await context.dispose();
    }
    return result;
  } finally {
    await model.dispose();
    rmSync(file);
  }
}

async function attempt(name, work) {
  try {
    await work();
  } catch (error) {
    check(name, false, String(error.stderr ?? error).trim());
  }
}

const scratch = mkdtempSync(join(tmpdir(), "quantoscope-engine-"));
let files = 0;
try {
  for (const [name, what, rotations] of CASES.filter(([name]) => wanted.length === 0 || wanted.includes(name))) {
    const folder = join(data, "corpus", name);
    const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8"));
    const source = join(scratch, expected.input_folder_name);
    cpSync(join(folder, "hf"), source, { recursive: true });
    const pre = expected.kv.find(([key]) => key === "tokenizer.ggml.pre")?.[2];
    const named = pre === undefined || pre === "default" ? [] : ["--pre-tokenizer", pre];
    const probe = probes.cases[name];
    const variants = [["f32"], ["q8_0"], ["q4_k_m"]];
    if (rotations !== null) variants.push(["f32", "--rotate", rotations], ["q4_k_m", "--rotate", rotations]);
    let embedding;
    for (const [recipe, ...rotate] of variants) {
      const label = [name, recipe, ...rotate].join(" ");
      await attempt(label, async () => {
        const options = ["--recipe", recipe, ...named, ...rotate];
        const made = await run(source, join(scratch, "model.gguf"), options, probe);
        files += 1;
        check(label, same(made.ids, probe.engine_ids), `token ids ${made.ids}, recorded ${probe.engine_ids}`);
        if (recipe === "f32" && probe.engine_greedy_f32) {
          check(label, same(made.greedy, probe.engine_greedy_f32), `greedy ${made.greedy}, recorded ${probe.engine_greedy_f32}`);
        }
        if (made.embedding !== undefined) {
          embedding ??= made.embedding;
          const likeness = cosine(embedding, made.embedding);
          check(label, likeness > 0.98, `the embedding has a cosine of ${likeness} to that of the F32 file`);
        }
        check(label, made.greedy === undefined || made.greedy.length === 5, "no five tokens");
      });
    }
    console.log(`${name}: ${what}`);
    rmSync(source, { recursive: true });
  }
  // The sample of the page: rounded and rotated files give the tokens of the F32 file.
  const sample = join(root, "www/sample");
  if (wanted.length === 0 && existsSync(sample)) {
    let plain;
    for (const options of [["f32"], ["q8_0"], ["q4_k_m"], ["f32", "--rotate", "quarot,r2"], ["q4_k_m", "--rotate", "quarot,r2"]]) {
      const label = `www/sample ${options.join(" ")}`;
      await attempt(label, async () => {
        const made = await run(sample, join(scratch, "model.gguf"), ["--recipe", ...options], {});
        files += 1;
        plain ??= made;
        check(label, same(made.ids, plain.ids), `token ids ${made.ids}, F32 ${plain.ids}`);
        check(label, options[0] === "q4_k_m" || same(made.greedy, plain.greedy), `greedy ${made.greedy}, F32 ${plain.greedy}`);
      });
    }
    console.log("www/sample");
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${files - failures} passed, ${failures} failed`);
process.exit(failures === 0 && files > 0 ? 0 : 1);
