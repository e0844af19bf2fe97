// Reads picked files in order, keeping next to nothing: one reused buffer where the browser can fill one, else slices.
import { Stop } from './problem';

/** The largest piece that is held outside the core's memory. */
const PIECE = 1 << 20;
/** Slices are garbage once used; small ones keep the peak low where no buffer can be reused. */
const SLICE = 8 << 20;
/** A gap up to this is read over: opening a stream anew costs more. */
const GAP = 256 << 10;

/** A place that takes the next bytes. */
export type Take = (bytes: Uint8Array) => void;

interface Region {
  offset: number;
  run: number;
  stride: number;
  count: number;
}

/** Reads one file forwards; going back or far ahead opens its stream again. */
export class Source {
  private reader: ReadableStreamBYOBReader | undefined;
  private position = 0;
  private buffer = new ArrayBuffer(0);
  private plain = false;

  constructor(readonly file: File) {}

  /** Hands out the bytes of all runs in order; gaps between runs are passed over in the same stream. */
  async read(region: Region, take: Take): Promise<void> {
    for (let i = 0; i < region.count; i += 1) await this.span(region.offset + i * region.stride, region.run, take);
  }

  async close(): Promise<void> {
    const reader = this.reader;
    this.reader = undefined;
    await reader?.cancel().catch(() => undefined);
  }

  private async span(start: number, length: number, take: Take): Promise<void> {
    if (length === 0) return;
    if (this.plain || !(await this.seek(start))) return this.slices(start, length, take);
    await this.pull(length, take);
  }

  /** Stands at `start` afterwards; false where this browser's files are no byte streams. */
  private async seek(start: number): Promise<boolean> {
    const gap = start - this.position;
    if (this.reader && gap >= 0 && gap <= GAP) {
      await this.pull(gap, () => undefined);
      return true;
    }
    await this.close();
    try {
      this.reader = this.file.slice(start).stream().getReader({ mode: 'byob' });
    } catch {
      this.plain = true;
      return false;
    }
    this.position = start;
    return true;
  }

  private async pull(length: number, take: Take): Promise<void> {
    let left = length;
    while (left > 0) {
      if (this.buffer.byteLength < Math.min(PIECE, left)) this.buffer = new ArrayBuffer(PIECE);
      const view = new Uint8Array(this.buffer, 0, Math.min(left, this.buffer.byteLength));
      const result = await this.reader?.read(view).catch((reason: unknown) => this.fail(reason));
      if (!result?.value || result.value.byteLength === 0) throw this.short();
      take(result.value);
      left -= result.value.byteLength;
      this.position += result.value.byteLength;
      // The buffer comes back inside the result; the old one is empty now.
      this.buffer = result.value.buffer;
    }
  }

  private async slices(start: number, length: number, take: Take): Promise<void> {
    for (let at = start; at < start + length; at += SLICE) {
      const end = Math.min(at + SLICE, start + length);
      const bytes = await readSlice(this.file, at, end).catch((reason: unknown) => this.fail(reason));
      if (bytes.byteLength !== end - at) throw this.short();
      take(bytes);
    }
  }

  private fail(reason: unknown): never {
    const message = reason instanceof Error ? reason.message : String(reason);
    throw new Stop({ code: 'io', message, file: this.file.name });
  }

  private short(): Stop {
    const message = 'the file ends before its length: it was changed while it was read';
    return new Stop({ code: 'truncated', message, file: this.file.name, offset: this.position });
  }
}

export async function readSlice(file: File, start: number, end: number): Promise<Uint8Array> {
  return new Uint8Array(await file.slice(start, end).arrayBuffer());
}
