// Runs the program compiled to WebAssembly: node wasi.mjs PROGRAM FOLDER
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [program, folder] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: ["peers", "/data"], preopens: { "/data": folder } });
const imports = wasi.getImportObject();
let instance;
// The processor's clock instead of the wall's, as the peers have it.
imports.wasi_snapshot_preview1.clock_time_get = (_id, _precision, at) => {
  const { user, system } = process.cpuUsage();
  new DataView(instance.exports.memory.buffer).setBigUint64(at, BigInt(user + system) * 1000n, true);
  return 0;
};
instance = await WebAssembly.instantiate(await WebAssembly.compile(await readFile(program)), imports);
wasi.start(instance);
