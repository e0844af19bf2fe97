// Opens picked models and importance matrices, and keeps each under a number until it is closed.
import type { Imatrix, Model } from '../pkg/full';
import type { ImatrixView, ModelSummary, ModelView, OpenImatrix, OpenOptions, Picked, Recipe, TensorRow } from '../protocol';
import { ApiFailure } from '../api_failure';
import { unlessCancelled } from './cancel';
import { checkTextIds } from './check_text';
import { fullCore, smallCore, type Core } from './modules';

/** A model in a module. */
export interface Held {
  core: Core;
  model: Model;
}

export interface Opened {
  name: string;
  /** The model in the small module. */
  model: Model;
  /** Of its weights. */
  bytes: number;
  place: Place;
  /** The same model in the full module: alone, and with the files beside its weights. */
  full: { alone?: Promise<Model>; whole?: Promise<Model> };
  /** Whether the check text was encoded for it. */
  encoded: Promise<void> | undefined;
  /** Ends when the model is closed. */
  life: AbortController;
}

/** What was opened, and how. */
interface Place {
  /** All picked files by name, relative to the folder of the model. */
  files: ReadonlyMap<string, File>;
  /** The name of the model's folder. */
  folder: string | undefined;
  /** The file that was chosen in it. */
  file: string | undefined;
  aprWriter: string | undefined;
}

export interface OpenedImatrix {
  /** The matrix in the small module. */
  matrix: Imatrix;
  /** The same matrix in the full module. */
  full: Promise<Imatrix> | undefined;
  file: File;
  /** Ends when the matrix is closed. */
  life: AbortController;
}

const models = new Map<number, Opened>();
const matrices = new Map<number, OpenedImatrix>();
let next = 1;

export function modelOf(id: number): Opened {
  const opened = models.get(id);
  if (!opened) throw new ApiFailure({ code: 'usage', message: 'the model was closed' });
  return opened;
}

export function closeModel(id: number): null {
  const opened = models.get(id);
  models.delete(id);
  opened?.life.abort();
  opened?.model.free();
  for (const model of Object.values(opened?.full ?? {}) as Promise<Model>[])
    model.then(
      (held) => held.free(),
      () => undefined,
    );
  return null;
}

/** The model in the small module. */
export function smallModel(id: number): Held {
  return { core: smallCore(), model: modelOf(id).model };
}

/** The model in the full module, without the files beside its weights. */
export function fullModel(id: number, signal: AbortSignal): Promise<Held> {
  return unlessCancelled(inFull(modelOf(id), 'alone'), signal);
}

/** The model in the full module, with the files beside its weights. */
export function wholeModel(id: number, signal: AbortSignal): Promise<Held> {
  return unlessCancelled(inFull(modelOf(id), 'whole'), signal);
}

/**
 * The model to convert by `recipe`: in the full module where the recipe converts names or rotates, and with the files beside
 * its weights where the recipe reads them.
 */
export async function sourceOf(id: number, recipe: Recipe, signal: AbortSignal): Promise<Held> {
  const opened = modelOf(id);
  if (!opened.model.needs_full(recipe)) return smallModel(id);
  if (!smallCore().api.reads_companions(recipe)) return fullModel(id, signal);
  const held = await unlessCancelled(inFull(opened, 'whole'), signal);
  // Not every tokenizer has a name to be recognized, and one that was given needs no recognizing.
  if (opened.encoded !== undefined || held.model.needs_check_text(recipe))
    await unlessCancelled(encodedIn(opened, held.model), signal);
  return held;
}

/** The model with the files beside its weights, to verify `output` against. */
export async function sourceToVerify(id: number, output: Model, signal: AbortSignal): Promise<Held> {
  const opened = modelOf(id);
  if (!output.verify_reads_companions()) return fullModel(id, signal);
  const held = await unlessCancelled(inFull(opened, 'whole'), signal);
  await unlessCancelled(encodedIn(opened, held.model), signal);
  return held;
}

/** The work goes on for the next call that needs it, until the model is closed. */
async function inFull(opened: Opened, how: 'alone' | 'whole'): Promise<Held> {
  const core = await unlessCancelled(fullCore(), opened.life.signal);
  const { full, place, life } = opened;
  const model = (full[how] ??= open(core, place, how === 'whole', life.signal).catch((reason: unknown) => {
    delete full[how];
    throw reason;
  }));
  return { core, model: await model };
}

/** Runs the encoder once, so that the pre-tokenizer is named as the command line names it. */
function encodedIn(opened: Opened, model: Model): Promise<void> {
  opened.encoded ??= encode(model, opened.life.signal).catch((reason: unknown) => {
    opened.encoded = undefined;
    throw reason;
  });
  return opened.encoded;
}

async function encode(model: Model, signal: AbortSignal): Promise<void> {
  const json = model.companion_file('tokenizer.json');
  const config = model.companion_file('tokenizer_config.json');
  const ids = json && (await checkTextIds({ json, config }, signal));
  if (ids) model.set_check_text_ids(ids);
}

export function imatrixOf(id: number): OpenedImatrix {
  const opened = matrices.get(id);
  if (!opened) throw new ApiFailure({ code: 'usage', message: 'the importance matrix was closed' });
  return opened;
}

/** The matrix in a module. */
export function matrixIn(core: Core, id: number, signal: AbortSignal): Promise<Imatrix> {
  const opened = imatrixOf(id);
  if (!core.full) return Promise.resolve(opened.matrix);
  opened.full ??= core.api.open_imatrix(opened.file, opened.life.signal).catch((reason: unknown) => {
    opened.full = undefined;
    throw reason;
  });
  return unlessCancelled(opened.full, signal);
}

export function closeImatrix(id: number): null {
  const opened = matrices.get(id);
  matrices.delete(id);
  opened?.life.abort();
  opened?.matrix.free();
  opened?.full?.then(
    (matrix) => matrix.free(),
    () => undefined,
  );
  return null;
}

export async function openImatrix(file: File, signal: AbortSignal): Promise<OpenImatrix> {
  const matrix = await smallCore().api.open_imatrix(file, signal);
  const id = next++;
  matrices.set(id, { matrix, full: undefined, file, life: new AbortController() });
  return { ...(matrix.view() as ImatrixView), id };
}

export async function openModel(
  picked: readonly Picked[],
  name: string,
  signal: AbortSignal,
  options: OpenOptions = {},
): Promise<ModelView> {
  const begun = performance.now();
  const place = placeOf(picked, options);
  const model = await open(smallCore(), place, false, signal);
  const summary = model.summary() as ModelSummary;
  const tensors = options.bare ? [] : (model.tensors() as TensorRow[]);
  const id = next++;
  const life = new AbortController();
  models.set(id, { name, model, bytes: summary.bytes, place, full: {}, encoded: undefined, life });
  if (options.bare) return { ...summary, metadata: [], id, name, tensors: [], folder: null, openedMs: 0 };
  return { ...summary, id, name, tensors, folder: place.folder ?? null, openedMs: performance.now() - begun };
}

/** Paths are relative to the folder that was dropped; loose files are a folder without a name. */
function placeOf(picked: readonly Picked[], { choice, aprWriter }: OpenOptions): Place {
  const root = picked[0]?.path.split('/')[0] ?? '';
  const inside = picked.every((p) => p.path.startsWith(`${root}/`));
  const all = picked.map((p) => [inside ? p.path.slice(root.length + 1) : p.path, p.file] as const);
  if (choice?.endsWith('/')) {
    const below = all.filter(([name]) => name.startsWith(choice));
    const files = new Map(below.map(([name, file]) => [name.slice(choice.length), file]));
    return { files, folder: choice.slice(0, -1).split('/').pop(), file: undefined, aprWriter };
  }
  const single = picked.length === 1 && !inside ? picked[0]?.path : undefined;
  return { files: new Map(all), folder: inside ? root : undefined, file: choice ?? single, aprWriter };
}

/** Opens the model of a place; with the files beside its weights where `companions` says so. */
function open({ api }: Core, { files, file, folder, aprWriter }: Place, companions: boolean, signal: AbortSignal): Promise<Model> {
  return api.open_model([...files.keys()], [...files.values()], file, folder, companions, aprWriter, signal);
}
