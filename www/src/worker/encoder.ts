// A worker of its own for the encoder of tokenizers: its memory, some hundred megabytes for a large vocabulary, ends with it.
import init, { encode } from '../pkg/tokenizer';
import wasmUrl from '../pkg/tokenizer_bg.wasm?url';

export interface EncodeAsk {
  json: Uint8Array;
  text: string;
}

/** `ids` is `null` where the library cannot read or apply the tokenizer. */
export type Encoded = { ids: Uint32Array | null } | { failed: string };

async function answer({ json, text }: EncodeAsk): Promise<Encoded> {
  try {
    await init({ module_or_path: new URL(wasmUrl, import.meta.url) });
    return { ids: encode(json, text) ?? null };
  } catch (reason) {
    return { failed: reason instanceof Error ? reason.message : String(reason) };
  }
}

self.addEventListener('message', (event: MessageEvent<EncodeAsk>) => {
  void answer(event.data).then((encoded) => self.postMessage(encoded));
});
