// The page's side of its workers. The first one opens, plans, converts and compares; all of them measure.
import { ApiFailure } from './api_failure';
import { INTERACTIVE, levelOf, onlyMeasures } from './levels';
import wasmUrl from './pkg/quantoscope_bg.wasm?url';
import type { ApiError, Call, Calls, Failure } from './protocol';
import { WorkerLink, type Watch } from './worker_link';

export type { Watch } from './worker_link';

/** More workers than this read faster than a disk answers. */
const MOST_WORKERS = 6;

/** Opens a model again in another worker. */
type Reopen = (link: WorkerLink) => Promise<number>;

/** A call of the background sweep that no worker has begun. */
interface Waiting {
  start: (link: WorkerLink) => void;
  fail: (error: ApiError) => void;
}

export class Client {
  /** The first worker, and those that only measure: they start when there is work for them. */
  private readonly links: WorkerLink[];
  private readonly core = compiled();
  private readonly reopen = new Map<number, Reopen>();
  /** Ids of models in the other workers. */
  private readonly ids = new Map<WorkerLink, Map<number, Promise<number>>>();
  private readonly waiting: Waiting[] = [];
  private paused = false;
  /** Workers that were ever started. */
  private started = 1;
  /** True if a graphics device measures: only the first worker opens one. */
  private onDevice = false;

  constructor() {
    this.links = [new WorkerLink('quantoscope', this.core)];
  }

  /** Workers at most: one core is left for the page. */
  get size(): number {
    return Math.max(1, Math.min((navigator.hardwareConcurrency || 2) - 1, MOST_WORKERS));
  }

  call<K extends Call>(call: K, ask: Calls[K]['ask'], watch: Watch = {}): Promise<Calls[K]['answer']> {
    if (call === 'choose_engine') this.onDevice = (ask as Calls['choose_engine']['ask']).engine === 'webgpu';
    if (call === 'close') this.forget((ask as Calls['close']['ask']).model);
    if (!onlyMeasures(call)) return this.first(call, ask, watch);
    if (levelOf(call) === INTERACTIVE) return this.measure(this.leastBusy(), call, ask, watch);
    return new Promise((resolve, reject) => {
      const task: Waiting = {
        start: (link) => {
          watch.signal?.removeEventListener('abort', leave);
          void this.measure(link, call, ask, watch).then(resolve, reject);
        },
        fail: (error) => reject(new ApiFailure(error)),
      };
      const leave = () => {
        const at = this.waiting.indexOf(task);
        if (at < 0) return;
        this.waiting.splice(at, 1);
        task.fail({ code: 'interrupted', message: 'Cancelled.' });
      };
      this.waiting.push(task);
      watch.signal?.addEventListener('abort', leave, { once: true });
      this.dispatch();
    });
  }

  /** Lets the background sweep begin no more calls, or begin them again. */
  pauseSweep(on: boolean): void {
    this.paused = on;
    if (!on) this.dispatch();
  }

  /** Stops all calls: their model is about to be closed. */
  cancelAll(): void {
    for (const link of this.links) link.cancelAll();
  }

  private get head(): WorkerLink {
    return this.links[0] as WorkerLink;
  }

  private async first<K extends Call>(call: K, ask: Calls[K]['ask'], watch: Watch): Promise<Calls[K]['answer']> {
    try {
      // A paused call leaves its worker to others.
      const holder: Watch['holder'] = (hold) =>
        watch.holder?.((on) => {
          hold(on);
          this.dispatch();
        });
      const answer = await this.head.call(call, ask, { ...watch, holder });
      if (call === 'open' || call === 'sample') this.remember(call, ask, answer as Calls['open']['answer']);
      return answer;
    } finally {
      this.dispatch();
    }
  }

  private remember(call: 'open' | 'sample', ask: object, { id }: Calls['open']['answer']): void {
    const again = { ...ask, bare: true } as Calls['open']['ask'];
    this.reopen.set(id, async (link) => (await link.call(call as 'open', again)).id);
  }

  private forget(model: number): void {
    this.reopen.delete(model);
    for (const [link, known] of this.ids) {
      known.get(model)?.then((id) => link.call('close', { model: id })).catch(() => undefined);
      known.delete(model);
    }
  }

  /** Measures in `link`, or in the first worker if that one breaks: what was measured does not depend on the worker. */
  private async measure<K extends Call>(link: WorkerLink, call: K, ask: Calls[K]['ask'], watch: Watch): Promise<Calls[K]['answer']> {
    link.expected += 1;
    let expected = 1;
    try {
      const { model } = ask as { model: number };
      const id = link === this.head ? model : await this.idIn(link, model);
      const answer = link.call(call, { ...ask, model: id }, watch);
      link.expected -= expected;
      expected = 0;
      return await answer;
    } catch (reason) {
      if (link !== this.head && link.broken) return this.measure(this.head, call, ask, watch);
      throw reason;
    } finally {
      link.expected -= expected;
      this.dispatch();
    }
  }

  private idIn(link: WorkerLink, model: number): Promise<number> {
    const known = this.ids.get(link) ?? new Map<number, Promise<number>>();
    this.ids.set(link, known);
    const reopen = this.reopen.get(model);
    const id = known.get(model) ?? reopen?.(link);
    if (!id) return Promise.reject(new ApiFailure({ code: 'usage', message: 'the model was closed' }));
    known.set(model, id);
    // Opened again by the next call if that failed.
    id.catch(() => known.delete(model));
    return id;
  }

  /** An idle worker, the first one before the others, which are started where none is idle. */
  private leastBusy(): WorkerLink {
    const { head } = this;
    if (this.onDevice || head.load === 0) return head;
    const idle = this.idle();
    if (idle) return idle;
    return this.links.filter((link) => !link.broken).reduce((best, link) => (link.load < best.load ? link : best), head);
  }

  private idle(): WorkerLink | undefined {
    this.dropBroken();
    const found = this.links.find((link) => !link.broken && link.load === 0);
    if (found || this.links.length >= this.size) return found;
    const started = new WorkerLink(`quantoscope-${(this.started += 1)}`, this.core);
    this.links.push(started);
    // A graphics device is opened once, by the first worker.
    void started.call('choose_engine', { engine: 'processor' }).catch(() => undefined);
    return started;
  }

  /** Forgets broken helpers: others take their places. */
  private dropBroken(): void {
    for (const link of this.links.slice(1)) {
      if (!link.broken) continue;
      this.links.splice(this.links.indexOf(link), 1);
      this.ids.delete(link);
    }
  }

  /** Gives calls of the background sweep to idle workers. */
  private dispatch(): void {
    const { broken } = this.head;
    // Nothing opens a model again without the first worker.
    if (broken) for (const { fail } of this.waiting.splice(0)) fail(broken);
    while (!this.paused && this.waiting.length > 0) {
      const link = this.idle();
      if (!link) return;
      this.waiting.shift()?.start(link);
    }
  }
}

/** The module of all workers, compiled once. */
async function compiled(): Promise<WebAssembly.Module | Failure> {
  try {
    const response = await fetch(new URL(wasmUrl, document.baseURI));
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    // Not every static host names the type of the file, which compiling while loading needs.
    if (response.headers.get('content-type') !== 'application/wasm') return await WebAssembly.compile(await response.arrayBuffer());
    return await WebAssembly.compileStreaming(response);
  } catch (reason) {
    const why = reason instanceof Error ? reason.message : String(reason);
    return { code: 'io', message: `the core of this page could not be loaded: ${why}` };
  }
}

export function apiErrorOf(reason: unknown): Failure {
  if (reason instanceof ApiFailure) return reason.error;
  return { code: 'io', message: reason instanceof Error ? reason.message : String(reason) };
}
