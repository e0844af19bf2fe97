// Continues a text with a GGUF in llama.cpp, greedily.
//
// Usage: node generate.mjs FILE TEXT

import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [file, text] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 256, threads: 1 });
const tokens = model.tokenize(text);
if (model.tokens.shouldPrependBosToken) tokens.unshift(model.tokens.bos);
const made = [];
for await (const token of context.getSequence().evaluate(tokens, { temperature: 0 })) {
  made.push(token);
  if (made.length === 48) break;
}
console.log(text + model.detokenize(made));
process.exit(0);
