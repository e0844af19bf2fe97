// The conversions of this page: one runs, others wait. They continue when another view is shown.
import { apiErrorOf, type Client } from './client';
import { dropEmpty } from './picked';
import type { ConvertedTensor, ModelView, ApiError, Progress, Recipe, Saved, Target } from './protocol';

/** A conversion with everything that it needs: the queue never has to ask the user for anything. */
export interface Order {
  model: ModelView;
  recipe: Recipe;
  name: string;
  target: Target;
}

export type State =
  | { kind: 'queued' }
  /** `since` is the begin, later by the time of all pauses: milliseconds since then are those of work. */
  | { kind: 'running'; since: number; progress: Progress | undefined; paused: boolean }
  | { kind: 'stopping' }
  | { kind: 'saved'; saved: Saved }
  | { kind: 'stopped'; message: string }
  | { kind: 'failed'; error: ApiError };

export class Job {
  state: State = { kind: 'queued' };
  readonly stop = new AbortController();
  /** Pauses the running call and lets it go on. */
  hold: (on: boolean) => void = () => {};
  /** The begin of its pause. */
  pausedAt = 0;

  constructor(readonly order: Order) {}

  /** Whether it waits or works, and was not cancelled. */
  get active(): boolean {
    return this.state.kind === 'queued' || this.state.kind === 'running';
  }

  get ended(): boolean {
    return !this.active && this.state.kind !== 'stopping';
  }
}

/** `progressed`: the running job came further, and nothing else changed. */
type Listener = (job: Job, progressed: boolean) => void;

export class Jobs {
  /** Oldest first. */
  readonly list: Job[] = [];
  private readonly listeners = new Set<Listener>();

  constructor(private readonly client: Client) {
    addEventListener('beforeunload', (event) => this.active.length > 0 && event.preventDefault());
  }

  /** Calls `listener` at every change of a job, until `signal` aborts. */
  watch(listener: Listener, signal?: AbortSignal): void {
    this.listeners.add(listener);
    signal?.addEventListener('abort', () => this.listeners.delete(listener));
  }

  /** Runs the order at once, or after those before it. Ended jobs leave the list, except those with a download. */
  add(order: Order): void {
    for (const job of [...this.list]) if (job.ended && !hasDownload(job)) this.dismiss(job);
    const job = new Job(order);
    this.list.push(job);
    this.changed(job);
    this.advance();
  }

  cancel(job: Job): void {
    const waiting = job.state.kind === 'queued';
    job.stop.abort();
    if (job.state.kind === 'running') this.become(job, { kind: 'stopping' });
    if (!waiting) return;
    const { target } = job.order;
    // Its file was picked, and holds nothing yet.
    if (target.kind === 'file') dropEmpty(target.handle).catch(() => undefined);
    this.dismiss(job);
  }

  /** Pauses a running conversion, or lets it go on. */
  pause(job: Job, on: boolean): void {
    if (job.state.kind !== 'running' || job.state.paused === on) return;
    job.hold(on);
    const now = performance.now();
    const since = on ? job.state.since : job.state.since + now - job.pausedAt;
    if (on) job.pausedAt = now;
    this.become(job, { ...job.state, since, paused: on });
  }

  cancelAll(): void {
    // Those that wait first: none of them may start because the one before it ends.
    for (const job of this.active.reverse()) this.cancel(job);
  }

  /** Takes a job that ended off the list. */
  dismiss(job: Job): void {
    const at = this.list.indexOf(job);
    if (at >= 0) this.list.splice(at, 1);
    if (job.state.kind === 'saved' && job.state.saved.key)
      this.client.call('release', { key: job.state.saved.key }).catch(() => undefined);
    this.changed(job);
  }

  get active(): Job[] {
    return this.list.filter((job) => job.active);
  }

  /** How much of the running conversion is done, from 0 to 1; nothing where none runs. */
  get part(): number | undefined {
    const running = this.list.find((job) => job.state.kind === 'running')?.state;
    if (running?.kind !== 'running') return undefined;
    const { done, total } = running.progress ?? { done: 0, total: 0 };
    return total > 0 ? done / total : 0;
  }

  /** What a finished conversion of `model` by `recipe` measured. */
  measured(model: ModelView, recipe: Recipe): ConvertedTensor[] | undefined {
    const same = ({ order }: Job) =>
      order.model.id === model.id && JSON.stringify(order.recipe) === JSON.stringify(recipe);
    const found = this.list.findLast((job) => job.state.kind === 'saved' && same(job));
    return found?.state.kind === 'saved' ? found.state.saved.report.tensors : undefined;
  }

  private advance(): void {
    if (this.list.some(({ state }) => state.kind === 'running' || state.kind === 'stopping')) return;
    const job = this.list.find(({ state }) => state.kind === 'queued');
    if (job) void this.run(job);
  }

  private async run(job: Job): Promise<void> {
    const { model, recipe, name, target } = job.order;
    this.become(job, { kind: 'running', since: performance.now(), progress: undefined, paused: false });
    const progress = (p: Progress) => {
      if (job.state.kind !== 'running') return;
      job.state = { ...job.state, progress: p };
      this.changed(job, true);
    };
    try {
      const ask = { model: model.id, recipe, name, target };
      const holder = (hold: Job['hold']) => (job.hold = hold);
      const convert = () => this.client.call('convert', ask, { signal: job.stop.signal, progress, holder });
      const saved = await awake(convert);
      this.become(job, { kind: 'saved', saved });
    } catch (reason) {
      const error = apiErrorOf(reason);
      const stopped = error.code === 'interrupted';
      this.become(job, stopped ? { kind: 'stopped', message: error.message } : { kind: 'failed', error });
    }
    this.advance();
  }

  private become(job: Job, state: State): void {
    job.state = state;
    this.changed(job);
  }

  private changed(job: Job, progressed = false): void {
    for (const listener of this.listeners) listener(job, progressed);
  }
}

/** Holds a lock meanwhile: browsers do not freeze a tab in the background that holds one. */
async function awake<T>(work: () => Promise<T>): Promise<T> {
  if (!('locks' in navigator)) return work();
  return (await navigator.locks.request('quantoscope-conversion', { mode: 'shared' }, work)) as T;
}

function hasDownload({ state }: Job): boolean {
  return state.kind === 'saved' && state.saved.file !== null;
}
