// Reads picked files in order, keeping next to nothing: two reused buffers where the browser can fill one, else slices.
// A read that does not answer is let go and made again: a stream of a browser can lose its wake-up.
import { answered, Stalled } from './timeout';
import { ApiFailure } from '../api_failure';

/** The largest piece that is held outside the core's memory; a second one may be under way. */
const PIECE = 1 << 20;
/** Slices are garbage once used; small ones keep the peak low where no buffer can be reused. */
const SLICE = 8 << 20;
/** A gap up to this is read over: opening a stream again costs more. */
const GAP = 256 << 10;

/** How long a read of a stream may take before the stream is opened again. */
const STREAM_MS = 2000;
/** So many times a file's stream may stall; its slices are read instead from then on. */
const STALLS = 3;
/** How long a slice may take, and how often it is tried: after 30 seconds the file counts as unreadable. */
const SLICE_MS = 10_000;
const TRIES = 3;

/** A place that takes the next bytes. They are valid until it returns. */
export type Take = (bytes: Uint8Array) => void;

interface Region {
  offset: number;
  run: number;
  stride: number;
  count: number;
}

type Buffer = Uint8Array<ArrayBuffer>;
const NOTHING: Buffer = new Uint8Array(0);

/** Reads one file forwards; going back or far ahead opens its stream again. */
export class Source {
  private reader: ReadableStreamBYOBReader | undefined;
  /** The read under way, if there is one: the bytes after `spare`. */
  private next: Promise<ReadableStreamReadResult<Buffer>> | undefined;
  /** Bytes that were read and not handed out yet; the first of them lies at `position`. */
  private spare = NOTHING;
  private position = 0;
  private readonly free: ArrayBuffer[] = [];
  /** Whether reads go on where the last one ended, so that the next one can start early. */
  private flowing = false;
  private stalls = 0;
  /** Bytes of a slice, once slices take the place of the stream. */
  private slices: number | undefined;

  constructor(
    readonly file: File,
    private readonly signal: AbortSignal,
  ) {}

  /** Hands out the bytes of all runs in order; gaps between runs are passed over in the same stream. */
  async read(region: Region, take: Take): Promise<void> {
    for (let i = 0; i < region.count; i += 1) await this.span(region.offset + i * region.stride, region.run, take);
  }

  /** Lets the stream go, without waiting for it: one that stalled would not answer. */
  close(): void {
    this.reader?.cancel().catch(() => undefined);
    this.next?.catch(() => undefined);
    this.reader = undefined;
    this.next = undefined;
    this.spare = NOTHING;
  }

  private async span(start: number, length: number, take: Take): Promise<void> {
    this.flowing = this.reaches(start);
    const end = start + length;
    for (let at = start; at < end; ) {
      const bytes = await this.piece(at, end);
      at += bytes.byteLength;
      take(bytes);
      this.recycle();
      if (this.flowing) this.ahead();
    }
  }

  /** The next bytes from `at` on, as many as are there and at most up to `end`. */
  private async piece(at: number, end: number): Promise<Uint8Array> {
    while (this.slices === undefined) {
      if (!this.reaches(at)) this.open(at);
      else if (this.spare.byteLength === 0) await this.fill(end);
      else if (this.position < at) this.pass(at - this.position);
      else return this.pass(end - at);
    }
    return readSlice(this.file, at, Math.min(at + this.slices, end), this.signal);
  }

  /** Whether the open stream comes to `at` soon enough. */
  private reaches(at: number): boolean {
    const gap = at - this.position;
    return this.reader !== undefined && gap >= 0 && gap <= GAP;
  }

  private open(at: number): void {
    this.close();
    this.position = at;
    try {
      this.reader = this.file.slice(at).stream().getReader({ mode: 'byob' });
    } catch {
      // This browser's files are no byte streams.
      this.slices = SLICE;
    }
  }

  /** Takes at most `length` bytes off `spare`. */
  private pass(length: number): Buffer {
    const bytes = this.spare.subarray(0, length);
    this.spare = this.spare.subarray(bytes.byteLength);
    this.position += bytes.byteLength;
    return bytes;
  }

  private recycle(): void {
    if (this.spare.byteLength > 0 || this.spare.buffer.byteLength === 0) return;
    this.free.push(this.spare.buffer);
    this.spare = NOTHING;
  }

  /** Starts to read the bytes after `spare`, unless that read is under way or the file has none. */
  private ahead(): void {
    const left = this.file.size - this.position - this.spare.byteLength;
    if (!this.next && left > 0) this.next = this.ask(left);
  }

  private ask(length: number): Promise<ReadableStreamReadResult<Buffer>> | undefined {
    const buffer = this.free.pop() ?? new ArrayBuffer(PIECE);
    const asked = this.reader?.read(new Uint8Array(buffer, 0, Math.min(length, PIECE)));
    // A failure surfaces where the promise is awaited.
    asked?.catch(() => undefined);
    return asked;
  }

  /** Waits for the read under way. Where it stalls, the stream is left: the caller opens it again, or reads slices. */
  private async fill(end: number): Promise<void> {
    this.recycle();
    this.next ??= this.ask(end - this.position);
    if (!this.next) return;
    try {
      const { value } = await answered(this.next, this.signal, STREAM_MS);
      this.next = undefined;
      if (!value || value.byteLength === 0) throw short(this.file, this.position);
      this.spare = value;
    } catch (reason) {
      this.close();
      if (!(reason instanceof Stalled)) throw unreadable(this.file, reason, this.position);
      this.stalls += 1;
      if (this.stalls >= STALLS) this.slices = PIECE;
    }
  }
}

/** Bytes `start` to `end` of a file, all of them; tried again where the browser does not answer. */
export async function readSlice(file: File, start: number, end: number, signal: AbortSignal): Promise<Buffer> {
  for (let tries = 1; ; tries += 1) {
    try {
      const bytes = new Uint8Array(await answered(file.slice(start, end).arrayBuffer(), signal, SLICE_MS));
      if (bytes.byteLength !== end - start) throw short(file, start + bytes.byteLength);
      return bytes;
    } catch (reason) {
      if (!(reason instanceof Stalled)) throw unreadable(file, reason, start);
      if (tries >= TRIES) throw silent(file, start);
    }
  }
}

function unreadable(file: File, reason: unknown, offset: number): ApiFailure {
  if (reason instanceof ApiFailure) return reason;
  const message = reason instanceof Error ? reason.message : String(reason);
  return new ApiFailure({ code: 'io', message: `the browser cannot read the file: ${message}`, file: file.name, offset });
}

function short(file: File, offset: number): ApiFailure {
  const message = 'the file ends before its length: it was changed while it was read';
  return new ApiFailure({ code: 'truncated', message, file: file.name, offset });
}

function silent(file: File, offset: number): ApiFailure {
  const seconds = (TRIES * SLICE_MS) / 1000;
  return new ApiFailure({ code: 'io', message: `the browser did not answer a read for ${seconds} s`, file: file.name, offset });
}
