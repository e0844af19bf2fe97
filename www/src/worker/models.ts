// Opens picked models and importance matrices, and keeps each under a number until it is closed.
import { ImatrixOpening, Opening, type Imatrix, type Model } from '../pkg/quantoscope';
import type { ImatrixView, ModelSummary, ModelView, OpenImatrix, Picked, TensorRow, WantView } from '../protocol';
import { ApiFailure } from '../api_failure';
import { readSlice } from './sources';

export interface Opened {
  name: string;
  model: Model;
  /** The files of the model, in the core's order. */
  files: File[];
  /** All picked files by name, relative to the folder of the model. */
  picked: ReadonlyMap<string, File>;
}

export interface OpenedImatrix {
  matrix: Imatrix;
  file: File;
}

/** An importance matrix is read in pieces of at most this many bytes. */
const IMATRIX_PIECE = 1 << 20;

const models = new Map<number, Opened>();
const matrices = new Map<number, OpenedImatrix>();
let next = 1;

export function modelOf(id: number): Opened {
  const opened = models.get(id);
  if (!opened) throw new ApiFailure({ code: 'usage', message: 'the model was closed' });
  return opened;
}

export function closeModel(id: number): null {
  models.get(id)?.model.free();
  models.delete(id);
  return null;
}

export function imatrixOf(id: number): OpenedImatrix {
  const opened = matrices.get(id);
  if (!opened) throw new ApiFailure({ code: 'usage', message: 'the importance matrix was closed' });
  return opened;
}

export function closeImatrix(id: number): null {
  matrices.get(id)?.matrix.free();
  matrices.delete(id);
  return null;
}

export async function openImatrix(file: File, signal: AbortSignal): Promise<OpenImatrix> {
  const opening = new ImatrixOpening(file.name, file.size);
  try {
    for (;;) {
      const want = opening.want() as { start: number; end: number } | undefined;
      if (!want) break;
      opening.data(await readSlice(file, want.start, Math.min(want.end, want.start + IMATRIX_PIECE), signal));
    }
  } catch (reason) {
    opening.free();
    throw reason;
  }
  // Consumes the opening, also where it fails.
  const matrix = opening.finish();
  const id = next++;
  matrices.set(id, { matrix, file });
  return { ...(matrix.view() as ImatrixView), id };
}

export async function openModel(picked: readonly Picked[], name: string, signal: AbortSignal): Promise<ModelView> {
  const begun = performance.now();
  const files = byName(picked);
  const single = picked.length === 1 && files.size === 1 && !picked[0]?.path.includes('/');
  const model = await drive(new Opening(single ? picked[0]?.path : null), files, signal);
  const summary = model.summary() as ModelSummary;
  const tensors = model.tensors() as TensorRow[];
  const id = next++;
  models.set(id, { name, model, files: summary.files.map((f) => existing(files, f.name)), picked: files });
  return { ...summary, id, name, tensors, openedMs: performance.now() - begun };
}

/** Paths relative to the folder that was dropped; loose files are a folder of their own. */
function byName(picked: readonly Picked[]): Map<string, File> {
  const root = picked[0]?.path.split('/')[0] ?? '';
  const inside = picked.every((p) => p.path.startsWith(`${root}/`));
  return new Map(picked.map((p) => [inside ? p.path.slice(root.length + 1) : p.path, p.file]));
}

export function existing(files: ReadonlyMap<string, File>, name: string): File {
  const file = files.get(name);
  if (!file) throw new ApiFailure({ code: 'not_found', message: 'the file is not there', file: name });
  return file;
}

async function drive(opening: Opening, files: Map<string, File>, signal: AbortSignal): Promise<Model> {
  try {
    for (;;) {
      const want = opening.want() as WantView;
      if (want.kind === 'ready') break;
      await answer(opening, want, files, signal);
    }
  } catch (reason) {
    opening.free();
    throw reason;
  }
  // Consumes the opening, also where it fails.
  return opening.finish();
}

async function answer(
  opening: Opening,
  want: WantView,
  files: Map<string, File>,
  signal: AbortSignal,
): Promise<void> {
  if (want.kind === 'list') opening.listed([...files].map(([name, file]) => ({ name, bytes: file.size })));
  else if (want.kind === 'open') opening.opened(files.get(want.name)?.size);
  else if (want.kind === 'read')
    opening.data(await readSlice(existing(files, want.name), want.start, want.end, signal));
}
