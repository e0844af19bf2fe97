// Token ids of texts by a model's tokenizer: of the check text, by which pre-tokenizers are recognized, and of texts for evaluations.
import { ApiFailure } from '../api_failure';
import { startWorker } from '../blob_worker';
import type { EncodeAsk, Encoded, TextAsk } from './encoder';
import { unlessCancelled } from './cancel';
import encoderUrl from './encoder?worker&url';

/** The ids under the files of a tokenizer; nothing where they cannot be read or applied. */
export async function checkTextIds(files: EncodeAsk, signal: AbortSignal): Promise<Uint32Array | undefined> {
  const found = await encoded(files, signal, (reason) => {
    return `the encoder that recognizes the tokenizer failed: ${reason}; name the pre-tokenizer to go on without it`;
  });
  return ('ids' in found && found.ids) || undefined;
}

/** The ids of each text under `tokenizer.json`; nothing where it cannot be read or applied. */
export async function textIds(json: Uint8Array, texts: string[], signal: AbortSignal): Promise<Uint32Array[] | undefined> {
  const found = await encoded({ json, texts }, signal, (reason) => {
    return `the encoder of the tokenizer failed: ${reason}; give token ids to go on without it`;
  });
  return ('texts' in found && found.texts) || undefined;
}

type Found = Exclude<Encoded, { failed: string }>;

async function encoded(ask: EncodeAsk | TextAsk, signal: AbortSignal, failure: (reason: string) => string): Promise<Found> {
  const encoder = startWorker(new URL(encoderUrl, import.meta.url).href, 'encoder');
  try {
    const reply = new Promise<Encoded>((resolve) => {
      encoder.addEventListener('message', (event: MessageEvent<Encoded>) => resolve(event.data));
      encoder.addEventListener('error', (event) => resolve({ failed: event.message || 'it could not be loaded' }));
    });
    encoder.postMessage(ask);
    const found = await unlessCancelled(reply, signal);
    if ('failed' in found) throw new ApiFailure({ code: 'io', message: failure(found.failed), file: 'tokenizer.json' });
    return found;
  } finally {
    encoder.terminate();
  }
}
