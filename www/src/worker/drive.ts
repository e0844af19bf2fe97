// The loop: ask the core for a window, put its bytes in place, run it, write what came out.
import type { Run } from '../pkg/quantoscope';
import type { Progress } from '../protocol';
import { memory } from './engine';
import { answered } from './patience';
import { interrupted } from './problem';
import type { Sink } from './sinks';
import { Source } from './sources';

interface Region {
  offset: number;
  run: number;
  stride: number;
  count: number;
}

interface Job {
  label: string;
  reads: { side: 'source' | 'candidate'; file: number; region: Region }[];
  write: { file: number; region: Region } | null;
}

export interface Work {
  run: Run;
  files: Record<'source' | 'candidate', readonly File[]>;
  sink: Sink | null;
  signal: AbortSignal;
  progress: (p: Progress) => void;
}

/** Often enough for a smooth bar and a prompt cancel, seldom enough to cost nothing. */
const BREATH_MS = 60;

export async function drive(work: Work): Promise<void> {
  const readers = new Readers(work);
  const total = work.run.total();
  let done = 0;
  let last = 0;
  let anew = false;
  try {
    for (;;) {
      const now = performance.now();
      if (now - last > BREATH_MS) {
        last = now;
        await macrotask();
      }
      if (work.signal.aborted) throw interrupted();
      const job = work.run.next_job() as Job | undefined;
      if (!job) return;
      done += await gather(work.run, job, readers);
      // A device may not answer either.
      if (await answered(work.run.execute(), work.signal)) {
        // Every window is written again, at the same places: sinks are positional.
        anew = true;
        done = 0;
        continue;
      }
      if (job.write && work.sink) await scatter(work.run, job.write, work.sink);
      if (last === now || done === total)
        work.progress({ done, total, label: job.label, device: work.run.on_device(), anew });
    }
  } finally {
    readers.close();
  }
}

async function gather(run: Run, job: Job, readers: Readers): Promise<number> {
  let bytes = 0;
  for (const [index, read] of job.reads.entries()) {
    let filled = 0;
    await readers.of(read.side, read.file).read(read.region, (piece) => {
      memory(run.input(index) + filled, piece.byteLength).set(piece);
      filled += piece.byteLength;
    });
    bytes += filled;
  }
  return bytes;
}

/** The bytes are handed over straight from the core's memory; a sink that keeps them must copy. */
async function scatter(run: Run, write: { file: number; region: Region }, sink: Sink): Promise<void> {
  const { offset, stride, count, run: length } = write.region;
  for (let i = 0; i < count; i += 1)
    await sink.write(write.file, offset + i * stride, memory(run.output() + i * length, length));
}

/** One open stream for each side: windows come file by file. */
class Readers {
  private readonly open: { [side in 'source' | 'candidate']?: { file: number; source: Source } } = {};

  constructor(private readonly work: Work) {}

  of(side: 'source' | 'candidate', file: number): Source {
    const known = this.open[side];
    if (known?.file === file) return known.source;
    known?.source.close();
    const source = new Source(this.work.files[side][file] as File, this.work.signal);
    this.open[side] = { file, source };
    return source;
  }

  close(): void {
    this.open.source?.source.close();
    this.open.candidate?.source.close();
  }
}

const channel = new MessageChannel();

/** Lets messages in, a cancel among them; a timer would wait four milliseconds for nothing. */
function macrotask(): Promise<void> {
  return new Promise((resolve) => {
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}
