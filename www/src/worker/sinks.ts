// Where converted bytes go: a picked file, a picked folder, or the browser's private storage. All are positional.
import type { Picked } from '../protocol';
import { Stop } from './problem';
import { tarLayout } from './tar';

export interface OutFile {
  name: string;
  bytes: number;
  header: Uint8Array<ArrayBuffer>;
}

export interface Sink {
  /** `bytes` may be a view of memory that changes after the promise is kept. */
  write(file: number, at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> | void;
  /** Makes the result final; the file to download, and what was written as files that can be read. */
  finish(): Promise<{ file: File | null; written: Picked[] }>;
  /** Leaves nothing behind. */
  abort(): Promise<void>;
}

/** The part of the synchronous handle that is used here; only dedicated workers have it. */
interface SyncHandle {
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(length: number): void;
  flush(): void;
  close(): void;
}

type Removable = FileSystemFileHandle & { remove?: () => Promise<void> };

/** A file that a person picked: the browser writes beside it and puts it in place at the end. */
export async function pickedFile(handle: FileSystemFileHandle, plan: OutFile, inputs: readonly File[]): Promise<Sink> {
  const old = await handle.getFile();
  if (old.size > 0 && inputs.some((input) => isSame(input, old)))
    throw new Stop({ code: 'same_file', message: 'input and output are the same', file: old.name });
  const stream = await openFile(handle, plan);
  return {
    write: (_, at, bytes) => stream.write({ type: 'write', position: at, data: bytes.slice() }),
    finish: async () => {
      await stream.close();
      const file = await handle.getFile();
      return { file: null, written: [{ path: file.name, file }] };
    },
    abort: async () => {
      await stream.abort();
      // Picking a new name creates an empty file; one that held something is somebody's.
      if ((await handle.getFile()).size === 0) await (handle as Removable).remove?.();
    },
  };
}

async function openFile(handle: FileSystemFileHandle, plan: OutFile): Promise<FileSystemWritableFileStream> {
  const stream = await handle.createWritable();
  await stream.truncate(plan.bytes);
  await stream.write({ type: 'write', position: 0, data: plan.header });
  return stream;
}

/** A file that was dropped has no identity but these; taking two files for one refuses, which is the safe side. */
function isSame(a: File, b: File): boolean {
  return a.name === b.name && a.size === b.size && a.lastModified === b.lastModified;
}

/** A folder that a person picked. It must be empty: nothing of theirs is replaced. */
export async function pickedDirectory(directory: FileSystemDirectoryHandle, plan: readonly OutFile[]): Promise<Sink> {
  for await (const _ of directory.keys()) {
    throw new Stop({ code: 'exists', message: `${directory.name} is not empty` });
  }
  const made: FileSystemFileHandle[] = [];
  let open: { file: number; stream: FileSystemWritableFileStream } | undefined;
  const turnTo = async (file: number) => {
    if (open?.file === file) return open.stream;
    await open?.stream.close();
    const out = plan[file] as OutFile;
    const fresh = !made[file];
    const handle = (made[file] ??= await directory.getFileHandle(out.name, { create: true }));
    const stream = fresh ? await openFile(handle, out) : await handle.createWritable({ keepExistingData: true });
    open = { file, stream };
    return stream;
  };
  return {
    write: async (file, at, bytes) => (await turnTo(file)).write({ type: 'write', position: at, data: bytes.slice() }),
    finish: async () => {
      // Files without tensor data, such as the index, were not turned to yet.
      for (const file of plan.keys()) if (!made[file]) await turnTo(file);
      await open?.stream.close();
      const written = await Promise.all(
        made.map(async (h) => ({ path: `${directory.name}/${h.name}`, file: await h.getFile() })),
      );
      return { file: null, written };
    },
    abort: async () => {
      await open?.stream.abort();
      for (const handle of made) if (handle) await directory.removeEntry(handle.name).catch(() => undefined);
    },
  };
}

const FOLDER = 'quantoscope';
const DAY_MS = 86_400_000;
/** What this page wrote before; its download is over, or was given up. */
const mine = new Set<string>();

/** The browser's private storage, for a download afterwards. A folder becomes one tar file. */
export async function privateFile(name: string, plan: readonly OutFile[], folder: boolean): Promise<Sink> {
  const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
  await tidy(root);
  const key = `${crypto.randomUUID()}-${name}`;
  const stem = name.replace(/\.tar$/, '');
  const layout = folder ? tarLayout(stem, plan) : null;
  const handle = await root.getFileHandle(key, { create: true });
  mine.add(key);
  const file = await (handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();
  const start = (index: number) => layout?.offsets[index] ?? 0;
  const write = (at: number, bytes: Uint8Array) => writeAll(file, at, bytes);
  const abort = async () => {
    file.close();
    await root.removeEntry(key).catch(() => undefined);
  };
  try {
    file.truncate(layout?.length ?? plan[0]?.bytes ?? 0);
    for (const part of layout?.headers ?? []) write(part.at, part.bytes);
    for (const [index, out] of plan.entries()) write(start(index), out.header);
  } catch (reason) {
    await abort();
    throw reason;
  }
  return {
    write: (index, at, bytes) => write(start(index) + at, bytes),
    finish: async () => {
      file.flush();
      file.close();
      const whole = await handle.getFile();
      const named = new File([whole], name);
      const part = (out: OutFile, i: number): Picked => {
        const slice = whole.slice(start(i), start(i) + out.bytes);
        return { path: `${stem}/${out.name}`, file: new File([slice], out.name) };
      };
      return { file: named, written: folder ? plan.map(part) : [{ path: name, file: named }] };
    },
    abort,
  };
}

/** Some browsers report a full disk only by writing less than they were given. */
function writeAll(file: SyncHandle, at: number, bytes: Uint8Array): void {
  const written = file.write(bytes, { at });
  if (written !== bytes.byteLength)
    throw new Stop({ code: 'no_space', message: 'the browser has no room for the result' });
}

/** Removes results that nobody waits for: this page's earlier ones, and those that a day has passed over. */
async function tidy(root: FileSystemDirectoryHandle): Promise<void> {
  for await (const [name, handle] of root.entries()) {
    if (handle.kind !== 'file') continue;
    const { lastModified } = await (handle as FileSystemFileHandle).getFile();
    if (mine.has(name) || Date.now() - lastModified > DAY_MS) await root.removeEntry(name).catch(() => undefined);
  }
}
