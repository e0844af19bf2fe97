// One worker: calls that can be awaited, watched and cancelled.
import { ApiFailure } from './api_failure';
import { startWorker } from './blob_worker';
import { levelOf } from './levels';
import type { ApiError, Call, Calls, Failure, FromWorker, Progress, ToWorker } from './protocol';
import workerUrl from './worker/worker?worker&url';

export interface Watch {
  signal?: AbortSignal;
  progress?: (p: Progress) => void;
  /** Gets a function that pauses the call and lets it go on. */
  holder?: (hold: (on: boolean) => void) => void;
}

interface Pending {
  call: Call;
  resolve: (answer: never) => void;
  reject: (reason: ApiFailure) => void;
  progress: ((p: Progress) => void) | undefined;
  /** Ends the wait for an abort. */
  settled: () => void;
  /** A paused call does no work. */
  held: boolean;
}

/** How much each running call of a level counts when a worker is chosen. */
const LOADS = [100, 50, 1];

let next = 1;

export class WorkerLink {
  private readonly pending = new Map<number, Pending>();
  private readonly worker: Worker;
  /** Why the worker answers no more. */
  broken: ApiError | undefined;
  /** Calls that will follow when the model is open in this worker. */
  expected = 0;

  constructor(name: string, core: Promise<WebAssembly.Module | Failure>) {
    this.worker = startWorker(new URL(workerUrl, document.baseURI).href, name);
    this.worker.addEventListener('message', (event: MessageEvent<FromWorker>) => this.receive(event.data));
    this.worker.addEventListener('error', (event) => this.collapse(event.message));
    void core.then((compiled) => this.send({ core: compiled }));
  }

  /** 0 for an idle worker. */
  get load(): number {
    let sum = this.expected;
    for (const { call, held } of this.pending.values()) if (!held) sum += LOADS[levelOf(call)] ?? 0;
    return sum;
  }

  call<K extends Call>(call: K, ask: Calls[K]['ask'], watch: Watch = {}): Promise<Calls[K]['answer']> {
    if (this.broken) return Promise.reject(new ApiFailure(this.broken));
    const id = next++;
    return new Promise((resolve, reject) => {
      const cancel = () => this.send({ cancel: id });
      const settled = () => watch.signal?.removeEventListener('abort', cancel);
      const pending: Pending = { call, resolve, reject, progress: watch.progress, settled, held: false };
      this.pending.set(id, pending);
      this.send({ id, call, ask });
      watch.holder?.((on) => {
        pending.held = on;
        this.send({ hold: id, on });
      });
      if (watch.signal?.aborted) cancel();
      else watch.signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  cancelAll(): void {
    for (const id of this.pending.keys()) this.send({ cancel: id });
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private receive(message: FromWorker): void {
    if ('ready' in message) return;
    const waiting = this.pending.get(message.id);
    if (!waiting) return;
    if ('progress' in message) return waiting.progress?.(message.progress);
    this.pending.delete(message.id);
    waiting.settled();
    if ('error' in message) waiting.reject(new ApiFailure(message.error));
    else waiting.resolve(message.answer as never);
  }

  /** The worker itself broke: pending and later calls fail with the message of the browser. */
  private collapse(message: string): void {
    const error: ApiError = { code: 'io', message: `the worker stopped: ${message || 'it could not be loaded'}` };
    this.broken = error;
    for (const waiting of this.pending.values()) {
      waiting.settled();
      waiting.reject(new ApiFailure(error));
    }
    this.pending.clear();
    // It may still run, and hold the memory of its module.
    this.worker.terminate();
  }
}
