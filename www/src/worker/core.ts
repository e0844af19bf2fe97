// The compiled core, started once, and its memory.
import init, { type InitOutput } from '../pkg/quantoscope';
import wasmUrl from '../pkg/quantoscope_bg.wasm?url';

let exports: InitOutput | undefined;

export async function startCore(): Promise<void> {
  exports ??= await init({ module_or_path: new URL(wasmUrl, import.meta.url) });
}

/** A view that is valid until the core runs again: its memory may move when it grows. */
export function memory(at: number, length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(engine().memory.buffer as ArrayBuffer, at, length);
}

export function memoryBytes(): number {
  return engine().memory.buffer.byteLength;
}

function engine(): InitOutput {
  if (!exports) throw new Error('the core has not started');
  return exports;
}
