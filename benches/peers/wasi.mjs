// Runs the program compiled to WebAssembly: node wasi.mjs PROGRAM FOLDER
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [program, folder] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: ["peers", "/data"], preopens: { "/data": folder } });
const module = await WebAssembly.compile(await readFile(program));
wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
