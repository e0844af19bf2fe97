// A worker of its own for the encoder of tokenizers: its memory, some hundred megabytes for a large vocabulary, ends with it.
import init, { check_text_ids, text_ids } from '../pkg/tokenizer';
import wasmUrl from '../pkg/tokenizer_bg.wasm?url';

export interface EncodeAsk {
  /** `tokenizer.json`. */
  json: Uint8Array;
  /** `tokenizer_config.json`. */
  config: Uint8Array | undefined;
}

/** Ids of texts, each with the tokens that the tokenizer adds around it. */
export interface TextAsk {
  /** `tokenizer.json`. */
  json: Uint8Array;
  texts: string[];
}

/** `ids` is `null` where the library cannot read or apply the tokenizer. */
export type Encoded = { ids: Uint32Array | null } | { texts: Uint32Array[] | null } | { failed: string };

async function answer(ask: EncodeAsk | TextAsk): Promise<Encoded> {
  try {
    await init({ module_or_path: new URL(wasmUrl, import.meta.url) });
    if ('texts' in ask) {
      const ids = ask.texts.map((text) => text_ids(ask.json, text));
      return { texts: ids.every((each) => each !== undefined) ? ids : null };
    }
    return { ids: check_text_ids(ask.json, ask.config) ?? null };
  } catch (reason) {
    return { failed: reason instanceof Error ? reason.message : String(reason) };
  }
}

self.addEventListener('message', (event: MessageEvent<EncodeAsk | TextAsk>) => {
  void answer(event.data).then((encoded) => self.postMessage(encoded));
});
