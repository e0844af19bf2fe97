// The loop: ask the core for a window, put its bytes in place, run it, write what came out.
import type { JobView, Progress, Region, Side } from '../protocol';
import type { Core } from './modules';
import { answered } from './timeout';
import { interrupted } from './api_error';
import type { Sink } from './sinks';
import { Source } from './sources';

/** What is driven: a run, or the check of a rotation. */
export interface Windows {
  /** A `JobView`, or nothing at the end. */
  next_job(): unknown;
  input(index: number): number;
  /** Its promise holds true where the windows start again from the first one. */
  execute(): Promise<unknown>;
}

/** Windows whose bytes go to a sink. */
export interface WritingWindows extends Windows {
  output(): number;
}

export type Files = Partial<Record<Side, readonly File[]>>;

export interface Work {
  /** The module that made the run. */
  core: Core;
  run: Windows;
  /** Bytes that all windows read together. */
  total: number;
  files: Files;
  /** Where the bytes of `run` go. */
  sink?: { run: WritingWindows; sink: Sink };
  /** True while a device takes part. */
  onDevice?: () => boolean;
  signal: AbortSignal;
  progress: (p: Progress) => void;
}

/** Milliseconds between two looks at the messages: progress and a cancel. */
const BREATH_MS = 100;

export async function drive(work: Work): Promise<void> {
  const readers = new Readers(work);
  const { core, run, total } = work;
  let done = 0;
  let last = 0;
  let restarted = false;
  try {
    for (;;) {
      const now = performance.now();
      if (now - last > BREATH_MS) {
        last = now;
        await macrotask();
      }
      if (work.signal.aborted) throw interrupted();
      const job = run.next_job() as JobView | undefined;
      if (!job) return;
      done += await gather(work, job, readers);
      // A device may not answer either.
      if (await answered(run.execute(), work.signal)) {
        // Every window is written again, at the same places: sinks are positional.
        restarted = true;
        done = 0;
        continue;
      }
      if (job.write && work.sink) await scatter(core, work.sink.run, job.write, work.sink.sink);
      if (last === now || done === total)
        work.progress({ done, total, label: job.label, device: work.onDevice?.() ?? false, restarted });
    }
  } finally {
    readers.close();
  }
}

/** Reads what the window needs into the core's memory. Returns the bytes that count as progress. */
async function gather({ core, run }: Work, job: JobView, readers: Readers): Promise<number> {
  let bytes = 0;
  for (const [index, read] of job.reads.entries()) {
    let filled = 0;
    await readers.of(read.side, read.file).read(read.region, (piece) => {
      core.memory(run.input(index) + filled, piece.byteLength).set(piece);
      filled += piece.byteLength;
    });
    if (read.side !== 'importance') bytes += filled;
  }
  return bytes;
}

/** The bytes are handed over straight from the core's memory; a sink that keeps them must copy. */
async function scatter(
  core: Core,
  run: WritingWindows,
  write: { file: number; region: Region },
  sink: Sink,
): Promise<void> {
  const { offset, stride, count, run: length } = write.region;
  for (let i = 0; i < count; i += 1)
    await sink.write(write.file, offset + i * stride, core.memory(run.output() + i * length, length));
}

/** One open stream for each side: windows come file by file. */
class Readers {
  private readonly open: { [side in Side]?: { file: number; source: Source } } = {};

  constructor(private readonly work: Work) {}

  of(side: Side, file: number): Source {
    const known = this.open[side];
    if (known?.file === file) return known.source;
    known?.source.close();
    const source = new Source(this.work.files[side]?.[file] as File, this.work.signal);
    this.open[side] = { file, source };
    return source;
  }

  close(): void {
    for (const open of Object.values(this.open)) open.source.close();
  }
}

const channel = new MessageChannel();
/** Resolvers of all runs that wait for a macrotask, oldest first: several runs share the worker. */
const waiting: (() => void)[] = [];
channel.port1.onmessage = () => waiting.shift()?.();

/** Lets the worker handle messages, a cancel among them; a timer would wait at least four milliseconds. */
function macrotask(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}
