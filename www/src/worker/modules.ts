// The compiled core, as two modules: the small one that the page starts with, and the full one, which also converts
// between Hugging Face folders and GGUF, compares models and opens graphics devices. It is loaded by the first job that
// needs it. A model, a plan and a run belong to the module that made them.
import * as small from '../pkg/quantoscope';
import fullUrl from '../pkg/full_bg.wasm?url';
import { ApiFailure } from '../api_failure';
import type { Failure } from '../protocol';

/** The small module lacks `Device` and what takes one. */
type Api = typeof import('../pkg/full');

export interface Core {
  api: Api;
  full: boolean;
  memoryBytes(): number;
}

let started: Core | undefined;
let full: Promise<Core> | undefined;
let loaded: Core | undefined;

function core(api: Api, { memory }: { memory: WebAssembly.Memory }, isFull: boolean): Core {
  return {
    api,
    full: isFull,
    memoryBytes: () => memory.buffer.byteLength,
  };
}

/** Starts the module that the page compiled for all its workers. */
export async function startCore(compiled: WebAssembly.Module | Failure): Promise<void> {
  if (!(compiled instanceof WebAssembly.Module)) throw new ApiFailure(compiled);
  const exports = await small.default({ module_or_path: compiled });
  started = core(small as unknown as Api, exports, false);
}

/** The module that the page started with. */
export function smallCore(): Core {
  if (!started) throw new Error('the core has not started');
  return started;
}

/** The full module, which is loaded once. */
export function fullCore(): Promise<Core> {
  full ??= load().catch((reason: unknown) => {
    full = undefined;
    const why = reason instanceof Error ? reason.message : String(reason);
    throw new ApiFailure({ code: 'io', message: `a part of this page could not be loaded: ${why}` });
  });
  return full;
}

async function load(): Promise<Core> {
  const api = await import('../pkg/full');
  loaded = core(api, await api.default({ module_or_path: new URL(fullUrl, import.meta.url) }), true);
  return loaded;
}

/** Bytes of the memories of both modules. */
export function memoryBytes(): number {
  return smallCore().memoryBytes() + (loaded?.memoryBytes() ?? 0);
}
