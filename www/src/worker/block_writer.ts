// Gathers what windows write into blocks, and keeps one block under way while the next one fills.

/** What is written at once: each write costs the browser the same messages, however small it is. */
const BLOCK = 4 << 20;
/** Room between tensors up to this is written as the zeros that it holds, so that a block goes on behind it. */
const PADDING = 4 << 10;

type Bytes = Uint8Array<ArrayBuffer>;
/** Writes one block. It is not touched until the promise is kept. */
type Put = (file: number, at: number, bytes: Bytes) => Promise<void>;

export class BlockWriter {
  private block: Bytes | undefined;
  private filled = 0;
  private file = 0;
  /** Where the block begins in its file. */
  private at = 0;
  /** The end of all that was written to the file, where it was written in order from the start. */
  private end = 0;
  private readonly ready: { file: number; at: number; bytes: Bytes }[] = [];
  private readonly free: Bytes[] = [];
  private underway: Promise<void> = Promise.resolve();

  constructor(private readonly put: Put) {}

  /** Takes all bytes in before it first waits: they may be a view of memory that moves. */
  write(file: number, at: number, bytes: Uint8Array): Promise<void> | void {
    this.turnTo(file, at);
    for (let done = 0; done < bytes.byteLength; ) {
      const block = (this.block ??= this.free.pop() ?? new Uint8Array(BLOCK));
      const piece = bytes.subarray(done, done + BLOCK - this.filled);
      block.set(piece, this.filled);
      done += piece.byteLength;
      this.filled += piece.byteLength;
      if (this.filled === BLOCK) this.cut();
    }
    this.end = Math.max(this.end, this.at + this.filled);
    if (this.ready.length > 0) return this.drain();
  }

  /** Keeps its promise when everything has been written. */
  async flush(): Promise<void> {
    this.cut();
    await this.drain();
    await this.underway;
  }

  /** Stands at `at` of `file`, with the same block where that is possible. */
  private turnTo(file: number, at: number): void {
    const here = this.at + this.filled;
    if (file === this.file && at === here) return;
    const gap = at - here;
    // Zeros may only go where nothing was written before.
    if (file === this.file && gap > 0 && gap <= PADDING && here === this.end && this.filled + gap < BLOCK && this.block) {
      this.block.fill(0, this.filled, this.filled + gap);
      this.filled += gap;
      return;
    }
    this.cut();
    if (file !== this.file) this.end = at === 0 ? 0 : Infinity;
    this.file = file;
    this.at = at;
  }

  private cut(): void {
    if (!this.block || this.filled === 0) return;
    this.ready.push({ file: this.file, at: this.at, bytes: this.block.subarray(0, this.filled) });
    this.at += this.filled;
    this.filled = 0;
    this.block = undefined;
  }

  private async drain(): Promise<void> {
    for (let next = this.ready.shift(); next; next = this.ready.shift()) {
      await this.underway;
      const { file, at, bytes } = next;
      this.underway = this.put(file, at, bytes).then(() => void this.free.push(new Uint8Array(bytes.buffer)));
      // A failure surfaces in the next call, which awaits it.
      this.underway.catch(() => undefined);
    }
  }
}
