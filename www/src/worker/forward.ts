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
  const { model } = await wholeModel(id, watcher.signal);
  const other = reference === undefined ? undefined : await wholeModel(reference, watcher.signal);
  const asked = await tokensOf(model, tokens, watcher.signal);
  const against = reference === undefined ? undefined : other?.model.as_reference(modelOf(reference).name);
  return reported(model.evaluate(modelOf(id).name, against, asked, options), watcher);
}

export async function sensitivity(
  { model: id, tokens, options }: Calls['sensitivity']['ask'],
  watcher: Watcher,
): Promise<SensitivityReport> {
  const { model } = await wholeModel(id, watcher.signal);
  const asked = await tokensOf(model, tokens, watcher.signal);
  return reported(model.sensitivity(modelOf(id).name, asked, options), watcher);
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
async function tokensOf(model: Model, tokens: Tokens, signal: AbortSignal): Promise<TokenRequest> {
  if ('ids' in tokens) return { ids: tokens.ids };
  const json = model.tokenizer_json();
  const text = 'text' in tokens ? tokens.text : 'a';
  const [around, ids] = (json && (await textIds(json, ['', text], signal))) ?? [];
  if ('text' in tokens) {
    if (around && ids) return model.text_tokens(around, ids) as TokenRequest;
    const message = 'the model has no tokenizer to encode a text with; give token ids';
    throw new ApiFailure({ code: 'unsupported_container', message });
  }
  const none = new Uint32Array();
  const seed = tokens.seed === null ? undefined : BigInt(tokens.seed);
  return model.drawn_tokens(seed, around ?? none, ids ?? none, json ?? new Uint8Array()) as TokenRequest;
}
