// Where converted bytes go: a picked file, a picked folder, or the browser's private storage. All are positional, and
// none is waited for past a cancel.
import { dropEmpty } from '../picked';
import type { Picked } from '../protocol';
import { BlockWriter } from './block_writer';
import { answered, Stalled } from './timeout';
import { ApiFailure } from '../api_failure';
import { interrupted, toApiError } from './api_error';
import { tarLayout } from './tar';

export interface OutFile {
  name: string;
  bytes: number;
  header: Uint8Array<ArrayBuffer>;
}

/** What an abort leaves: nothing, something that the browser has yet to remove, or perhaps the whole result. */
const LEFT = {
  nothing: 'No file was written.',
  unconfirmed: 'The browser has not confirmed yet that the unfinished file is gone.',
  'perhaps whole': 'The file was being put in place already, so it may be there, and whole.',
};
export type Left = keyof typeof LEFT;

/** What a conversion that was stopped ends with. */
export function stopped(left: Left): ApiFailure {
  return interrupted(LEFT[left]);
}

export interface Sink {
  /** `bytes` may be a view of memory that changes once the call has returned. */
  write(file: number, at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> | void;
  /** Makes the result final; the file to download with its key, and all files that were written, to be read again. */
  finish(): Promise<{ file: File | null; key: string | null; written: Picked[] }>;
  /** Leaves nothing behind; answers within `CLEANUP_MS`, and goes on in the background where that was too short. */
  abort(): Promise<Left>;
}

/** The part of the synchronous handle that is used here; only dedicated workers have it. */
interface SyncHandle {
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(length: number): void;
  flush(): void;
  close(): void;
}

/** How long a single call may take: disks that are flushed can be slow, and a hung one must not hang the page. */
const CALL_MS = 60_000;
/** Putting a file in place takes longer the larger it is: browsers copy it, and have it checked. */
const BYTES_PER_MS = 4000;
const CLEANUP_MS = 1000;

/** Waits for a call on `file`; one that fails, or does not answer in time, is an error that names it. */
async function done<T>(work: Promise<T>, file: string, what: string, signal: AbortSignal, bytes = 0): Promise<T> {
  const limit = CALL_MS + bytes / BYTES_PER_MS;
  try {
    return await answered(work, signal, limit);
  } catch (reason) {
    if (reason instanceof ApiFailure) throw reason;
    if (!(reason instanceof Stalled)) throw new ApiFailure({ ...toApiError(reason), file });
    const message = `the browser did not ${what} within ${Math.round(limit / 1000)} s`;
    throw new ApiFailure({ code: 'io', message, file });
  }
}

/** `true` once `work` is done, `false` where it fails or takes too long. */
async function cleaned(work: Promise<unknown>): Promise<boolean> {
  return answered(work, new AbortController().signal, CLEANUP_MS).then(
    () => true,
    () => false,
  );
}

/** One file that the browser writes beside its place until it is closed. */
class Stream {
  /** The browser's answer to the closing, once that was begun; nothing again where it failed. */
  private closing: Promise<void> | undefined;

  private constructor(
    private readonly stream: FileSystemWritableFileStream,
    private readonly name: string,
    private readonly signal: AbortSignal,
  ) {}

  static async open(handle: FileSystemFileHandle, keep: boolean, signal: AbortSignal): Promise<Stream> {
    const opening = handle.createWritable({ keepExistingData: keep });
    try {
      return new Stream(await done(opening, handle.name, 'open the file for writing', signal), handle.name, signal);
    } catch (reason) {
      // One that comes too late is let go.
      opening.then((late) => late.abort()).catch(() => undefined);
      throw reason;
    }
  }

  truncate(bytes: number): Promise<void> {
    return done(this.stream.truncate(bytes), this.name, 'set the length of the file', this.signal);
  }

  write(at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const work = this.stream.write({ type: 'write', position: at, data: bytes });
    return done(work, this.name, 'finish a write', this.signal);
  }

  /** `bytes`: the length of the file. */
  close(bytes: number): Promise<void> {
    this.closing = this.stream.close();
    this.closing.catch(() => (this.closing = undefined));
    return done(this.closing, this.name, 'put the file in place', this.signal, bytes);
  }

  get mayBeWhole(): boolean {
    return this.closing !== undefined;
  }

  /** A file that is being put in place cannot be called back: it is waited for. */
  async abort(): Promise<void> {
    await (this.closing?.catch(() => undefined) ?? this.stream.abort());
  }
}

/** A file that a person picked: the browser writes beside it and puts it in place at the end. */
export async function pickedFile(
  handle: FileSystemFileHandle,
  plan: OutFile,
  inputs: readonly File[],
  signal: AbortSignal,
): Promise<Sink> {
  const read = () => done(handle.getFile(), handle.name, 'open the file', signal);
  const old = await read();
  if (old.size > 0 && inputs.some((input) => isSame(input, old)))
    throw new ApiFailure({ code: 'same_file', message: 'input and output are the same', file: old.name });
  let stream: Stream | undefined;
  const abort = async (): Promise<Left> => {
    if (stream?.mayBeWhole) return 'perhaps whole';
    const gone = (stream?.abort() ?? Promise.resolve()).then(() => dropEmpty(handle));
    return (await cleaned(gone)) ? 'nothing' : 'unconfirmed';
  };
  try {
    const to = (stream = await Stream.open(handle, false, signal));
    await to.truncate(plan.bytes);
    const writer = new BlockWriter((_, at, bytes) => to.write(at, bytes));
    await writer.write(0, 0, plan.header);
    const finish = async () => {
      await writer.flush();
      await to.close(plan.bytes);
      const file = await read();
      return { file: null, key: null, written: [{ path: file.name, file }] };
    };
    return { write: (file, at, bytes) => writer.write(file, at, bytes), finish, abort };
  } catch (reason) {
    const left = await abort();
    throw signal.aborted ? stopped(left) : reason;
  }
}

/** A file that was dropped has no identity but these; taking two files for one refuses, which is the safe side. */
function isSame(a: File, b: File): boolean {
  return a.name === b.name && a.size === b.size && a.lastModified === b.lastModified;
}

/** A folder that a person picked. It must be empty: nothing of theirs is replaced. */
export async function pickedDirectory(
  directory: FileSystemDirectoryHandle,
  plan: readonly OutFile[],
  signal: AbortSignal,
): Promise<Sink> {
  const first = await done(directory.keys().next(), directory.name, 'list the folder', signal);
  if (!first.done) throw new ApiFailure({ code: 'exists', message: `${directory.name} is not empty` });
  const made = new Map<number, FileSystemFileHandle>();
  let open: { file: number; stream: Stream } | undefined;
  const leave = async () => {
    await open?.stream.close(plan[open.file]?.bytes ?? 0);
    open = undefined;
  };
  const turnTo = async (file: number) => {
    if (open?.file === file) return open.stream;
    await leave();
    const out = plan[file] as OutFile;
    const known = made.get(file);
    const asked = known ?? directory.getFileHandle(out.name, { create: true });
    const handle = await done(Promise.resolve(asked), out.name, 'make the file', signal);
    made.set(file, handle);
    const stream = await Stream.open(handle, known !== undefined, signal);
    open = { file, stream };
    if (!known) {
      await stream.truncate(out.bytes);
      await stream.write(0, out.header);
    }
    return stream;
  };
  const writer = new BlockWriter(async (file, at, bytes) => (await turnTo(file)).write(at, bytes));
  return {
    write: (file, at, bytes) => writer.write(file, at, bytes),
    finish: async () => {
      await writer.flush();
      // Files without tensor data, such as the index, were not turned to yet.
      for (const file of plan.keys()) if (!made.has(file)) await turnTo(file);
      await leave();
      const files = [...made.values()].map((h) => done(h.getFile(), h.name, 'open the file', signal));
      const path = (file: File) => `${directory.name}/${file.name}`;
      const written = (await Promise.all(files)).map((file) => ({ path: path(file), file }));
      return { file: null, key: null, written };
    },
    abort: async () => {
      const remove = (name: string) => directory.removeEntry(name);
      const gone = (open?.stream.abort() ?? Promise.resolve()).then(() =>
        // The folder was empty, so all of these are ours; one that was never made is gone already.
        Promise.all(plan.map((out) => remove(out.name).catch(ignoreMissing))),
      );
      return (await cleaned(gone)) ? 'nothing' : 'unconfirmed';
    },
  };
}

function ignoreMissing(reason: unknown): void {
  if (!(reason instanceof DOMException && reason.name === 'NotFoundError')) throw reason;
}

const FOLDER = 'quantoscope';
const DAY_MS = 86_400_000;
/** Results that the page needs no more; their downloads had until the next conversion to begin. */
const released = new Set<string>();

/** Marks the result `key` of this page as one that may be removed. */
export function releaseResult(key: string): null {
  released.add(key);
  return null;
}

/** The browser's private storage, for a download afterwards. A folder becomes one tar file. */
export async function privateFile(
  name: string,
  plan: readonly OutFile[],
  folder: boolean,
  signal: AbortSignal,
): Promise<Sink> {
  const storage = <T>(work: Promise<T>) => done(work, name, 'open its private storage', signal);
  const top = await storage(navigator.storage.getDirectory());
  const root = await storage(top.getDirectoryHandle(FOLDER, { create: true }));
  await storage(tidy(root));
  const key = `${crypto.randomUUID()}-${name}`;
  const stem = name.replace(/\.tar$/, '');
  const layout = folder ? tarLayout(stem, plan) : null;
  const start = (index: number) => layout?.offsets[index] ?? 0;
  let file: SyncHandle | undefined;
  let gone = false;
  const abort = async (): Promise<Left> => {
    gone = true;
    file?.close();
    return (await cleaned(root.removeEntry(key).catch(ignoreMissing))) ? 'nothing' : 'unconfirmed';
  };
  try {
    const handle = await storage(root.getFileHandle(key, { create: true }));
    const out: SyncHandle = await storage(
      opened(handle).then(async (late) => {
        // One that comes after an abort would keep the file from being removed.
        if (gone) late.close();
        if (gone) await root.removeEntry(key);
        return late;
      }),
    );
    file = out;
    const write = (at: number, bytes: Uint8Array) => writeAll(out, name, at, bytes);
    out.truncate(layout?.length ?? plan[0]?.bytes ?? 0);
    for (const part of layout?.headers ?? []) write(part.at, part.bytes);
    for (const [index, part] of plan.entries()) write(start(index), part.header);
    const finish = async () => {
      out.flush();
      out.close();
      const whole = await storage(handle.getFile());
      const named = new File([whole], name);
      const part = ({ name: inner, bytes }: OutFile, i: number): Picked => {
        const slice = whole.slice(start(i), start(i) + bytes);
        return { path: `${stem}/${inner}`, file: new File([slice], inner) };
      };
      return { file: named, key, written: folder ? plan.map(part) : [{ path: name, file: named }] };
    };
    return { write: (index, at, bytes) => write(start(index) + at, bytes), finish, abort };
  } catch (reason) {
    const left = await abort();
    throw signal.aborted ? stopped(left) : reason;
  }
}

function opened(handle: FileSystemFileHandle): Promise<SyncHandle> {
  return (handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();
}

/** Some browsers report a full disk only by writing less than they were given. */
function writeAll(file: SyncHandle, name: string, at: number, bytes: Uint8Array): void {
  const written = file.write(bytes, { at });
  if (written !== bytes.byteLength)
    throw new ApiFailure({ code: 'no_space', message: 'the browser has no room for the result', file: name });
}

/** Removes results that are needed no more: those of this page that were released, and any that are a day old. */
async function tidy(root: FileSystemDirectoryHandle): Promise<void> {
  for await (const [name, handle] of root.entries()) {
    if (handle.kind !== 'file') continue;
    const { lastModified } = await (handle as FileSystemFileHandle).getFile();
    if (released.has(name) || Date.now() - lastModified > DAY_MS) await root.removeEntry(name).catch(() => undefined);
  }
}
