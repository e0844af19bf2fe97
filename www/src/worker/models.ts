// Opens what was picked, and keeps it under a number until it is closed.
import { Opening, type Model } from '../pkg/quantoscope';
import type { ModelView, Picked, TensorRow } from '../protocol';
import { Stop } from './problem';
import { readSlice } from './sources';

export interface Opened {
  name: string;
  model: Model;
  /** The files of the model, in the core's order. */
  files: File[];
}

type Want =
  | { kind: 'list' }
  | { kind: 'open'; name: string }
  | { kind: 'read'; name: string; start: number; end: number }
  | { kind: 'ready' };

type Summary = Omit<ModelView, 'id' | 'name' | 'tensors' | 'openedMs'>;

const models = new Map<number, Opened>();
let next = 1;

export function modelOf(id: number): Opened {
  const opened = models.get(id);
  if (!opened) throw new Stop({ code: 'usage', message: 'the model was closed' });
  return opened;
}

export function closeModel(id: number): null {
  models.get(id)?.model.free();
  models.delete(id);
  return null;
}

export async function openModel(picked: readonly Picked[], name: string, signal: AbortSignal): Promise<ModelView> {
  const begun = performance.now();
  const files = byName(picked);
  const single = picked.length === 1 && files.size === 1 && !picked[0]?.path.includes('/');
  const model = await drive(new Opening(single ? picked[0]?.path : null), files, signal);
  const summary = model.summary() as Summary;
  const tensors = model.tensors() as TensorRow[];
  const id = next++;
  models.set(id, { name, model, files: summary.files.map((f) => existing(files, f.name)) });
  return { ...summary, id, name, tensors, openedMs: performance.now() - begun };
}

/** Paths relative to the folder that was dropped; loose files are a folder of their own. */
function byName(picked: readonly Picked[]): Map<string, File> {
  const root = picked[0]?.path.split('/')[0] ?? '';
  const inside = picked.every((p) => p.path.startsWith(`${root}/`));
  return new Map(picked.map((p) => [inside ? p.path.slice(root.length + 1) : p.path, p.file]));
}

function existing(files: Map<string, File>, name: string): File {
  const file = files.get(name);
  if (!file) throw new Stop({ code: 'not_found', message: 'the file is not there', file: name });
  return file;
}

async function drive(opening: Opening, files: Map<string, File>, signal: AbortSignal): Promise<Model> {
  try {
    for (;;) {
      const want = opening.want() as Want;
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
  want: Want,
  files: Map<string, File>,
  signal: AbortSignal,
): Promise<void> {
  if (want.kind === 'list') opening.listed([...files].map(([name, file]) => ({ name, bytes: file.size })));
  else if (want.kind === 'open') opening.opened(files.get(want.name)?.size);
  else if (want.kind === 'read')
    opening.data(await readSlice(existing(files, want.name), want.start, want.end, signal));
}
