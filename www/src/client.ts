// The page's side of the worker: calls that can be awaited, watched and cancelled.
import workerUrl from './worker/worker?worker&url';
import { ApiFailure } from './api_failure';
import { startWorker } from './blob_worker';
import type { ApiError, Call, Calls, Failure, FromWorker, Progress, ToWorker } from './protocol';

export interface Watch {
  signal?: AbortSignal;
  progress?: (p: Progress) => void;
}

interface Pending {
  resolve: (answer: never) => void;
  reject: (reason: ApiFailure) => void;
  progress: ((p: Progress) => void) | undefined;
}

export class Client {
  private readonly pending = new Map<number, Pending>();
  private readonly worker: Worker;
  private next = 1;
  /** Why the worker answers no more. */
  private broken: ApiError | undefined;

  constructor() {
    this.worker = startWorker(new URL(workerUrl, document.baseURI).href, 'quantoscope');
    this.worker.addEventListener('message', (event: MessageEvent<FromWorker>) => this.receive(event.data));
    this.worker.addEventListener('error', (event) => this.collapse(event.message));
  }

  call<K extends Call>(call: K, ask: Calls[K]['ask'], watch: Watch = {}): Promise<Calls[K]['answer']> {
    if (this.broken) return Promise.reject(new ApiFailure(this.broken));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject, progress: watch.progress });
      watch.signal?.addEventListener('abort', () => this.send({ cancel: id }), { once: true });
      this.send({ id, call, ask });
    });
  }

  /** Stops whatever is running: its model is about to be closed. */
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
    if ('error' in message) waiting.reject(new ApiFailure(message.error));
    else waiting.resolve(message.answer as never);
  }

  /** The worker itself broke: pending and later calls fail with the browser's own words. */
  private collapse(message: string): void {
    const error: ApiError = { code: 'io', message: `the worker stopped: ${message || 'it could not be loaded'}` };
    this.broken = error;
    for (const waiting of this.pending.values()) waiting.reject(new ApiFailure(error));
    this.pending.clear();
  }
}

export function apiErrorOf(reason: unknown): Failure {
  if (reason instanceof ApiFailure) return reason.error;
  return { code: 'io', message: reason instanceof Error ? reason.message : String(reason) };
}
