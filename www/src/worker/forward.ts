// Evaluation, sensitivities and types for a size: passes of a model through its layers, in the full module.
import type { Model } from '../pkg/full';
import { ApiFailure } from '../api_failure';
import type { Calls, ChosenTypes, EvalReport, SensitivityReport, TokenRequest, Tokens } from '../protocol';
import { textIds } from './check_text';
import { modelOf, wholeModel } from './models';
import type { Watcher } from '../pkg/full';

/** What is driven to its end and then has a report. */
interface Driven {
  drive(watcher: Watcher): Promise<void>;
  report(): unknown;
  free(): void;
}

export async function evaluate(
  { model: id, reference, tokens, options }: Calls['eval']['ask'],
  watcher: Watcher,
): Promise<EvalReport> {
  const { signal } = watcher;
  const ids = reference === undefined ? [id] : [id, reference];
  await opened(ids, signal);
  const asked = await tokensOf(id, tokens, signal);
  const [model, other] = await opened(ids, signal);
  const against = reference === undefined ? undefined : other?.as_reference(modelOf(reference).name);
  return reported((model as Model).evaluate(modelOf(id).name, against, asked, options), watcher);
}

export async function sensitivity(
  { model: id, tokens, options }: Calls['sensitivity']['ask'],
  watcher: Watcher,
): Promise<SensitivityReport> {
  const asked = await tokensOf(id, tokens, watcher.signal);
  const { model } = await wholeModel(id, watcher.signal);
  return reported(model.sensitivity(modelOf(id).name, asked, options), watcher);
}

/**
 * The models in the full module. Each may be closed, and its memory freed, while another one is opened or a text is encoded:
 * they are looked up again after that. Where all are open already, no message is received meanwhile.
 */
async function opened(ids: readonly number[], signal: AbortSignal): Promise<Model[]> {
  const found: Model[] = [];
  for (const id of ids) found.push((await wholeModel(id, signal)).model);
  return found;
}

export async function typesForSize(
  { model: id, recipe, options }: Calls['types_for_size']['ask'],
  watcher: Watcher,
): Promise<ChosenTypes> {
  const { model } = await wholeModel(id, watcher.signal);
  return reported(model.types_for_size(recipe, options), watcher);
}

async function reported<A>(driven: Driven, watcher: Watcher): Promise<A> {
  try {
    await driven.drive(watcher);
    return driven.report() as A;
  } finally {
    driven.free();
  }
}

/** The ids of a text, or what draws ids, by the model's own tokenizer; ids as they are. */
async function tokensOf(id: number, tokens: Tokens, signal: AbortSignal): Promise<TokenRequest> {
  if ('ids' in tokens) return { ids: tokens.ids };
  if ('text' in tokens) {
    const { json, around, ids } = await encodedText(id, tokens.text, signal);
    if (json && around && ids) return (await wholeModel(id, signal)).model.text_tokens(around, ids) as TokenRequest;
    const message = json
      ? 'the tokenizer of the model cannot be applied to a text; give token ids'
      : 'the model has no tokenizer to encode a text with; give token ids';
    throw new ApiFailure({ code: 'unsupported_container', message });
  }
  // Without a tokenizer that can be read, no special tokens are drawn.
  const { json, around, ids } = await encodedText(id, 'a', signal).catch((reason: unknown): EncodedText => {
    if (signal.aborted) throw reason;
    return {};
  });
  const none = new Uint32Array();
  const seed = tokens.seed === null ? undefined : BigInt(tokens.seed);
  const { model } = await wholeModel(id, signal);
  return model.drawn_tokens(seed, around ?? none, ids ?? none, json ?? new Uint8Array()) as TokenRequest;
}

interface EncodedText {
  /** `tokenizer.json`, where the model has one. */
  json?: Uint8Array | undefined;
  /** The tokens that are added to a text without characters. */
  around?: Uint32Array | undefined;
  ids?: Uint32Array | undefined;
}

async function encodedText(id: number, text: string, signal: AbortSignal): Promise<EncodedText> {
  const json = (await wholeModel(id, signal)).model.tokenizer_json();
  const [around, ids] = (json && (await textIds(json, ['', text], signal))) ?? [];
  return { json, around, ids };
}
