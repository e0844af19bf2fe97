// The background sweep: the error of some types on a sample of the rows of every matrix, begun when a model is open.
// Each figure is that of `sweep --sample 64` of the command line.
import { batch } from '@preact/signals-core';
import { apiErrorOf, type Client } from './client';
import type { ModelView, StatsReport, StatsTensor, SweepOutline } from './protocol';
import { measured, sweepReport, sweepReports, sweepState, takeAll } from './store';

/** Rows of each tensor. */
export const ROWS = 64;

/** The types that are measured without a request: those of the usual presets. */
export const FIRST_TYPES = ['q8_0', 'q6_k', 'q5_k', 'q4_k', 'q3_k', 'q4_0', 'iq4_nl'];

/** Weights that one call measures: about a tenth of a second of work. */
const BATCH_WEIGHTS = 1 << 20;
const BATCH_TENSORS = 256;

/** Milliseconds between two updates of the store, each of which draws the view again. */
const FLUSH_MS = 200;

export class Sweep {
  private readonly stop = new AbortController();
  private outline: SweepOutline | undefined;
  private schema = 1;
  /** All types that were asked for, and those that were measured, in this order. */
  private types: string[] = [];
  private finished: string[] = [];
  /** Rounds run one after the other: the last one settles when all have ended. */
  private last: Promise<void> = Promise.resolve();
  /** The round that runs: its types, its tensors and how many of them are done. */
  private round: { types: readonly string[]; total: number; done: number; stop: AbortController } | undefined;
  /** Why some types were not measured. */
  private failure: string | undefined;
  private paused = false;
  private readonly arrived: [number, StatsTensor][] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly client: Client,
    private readonly model: ModelView,
  ) {
    client.pauseSweep(false);
    batch(() => {
      measured.value = { tensors: new Map() };
      sweepReports.value = new Map();
      sweepState.value = { kind: 'off' };
    });
  }

  /** True once types were asked for. */
  get begun(): boolean {
    return this.types.length > 0;
  }

  /** Measures more types, after those that were asked for before; types are measured once. */
  measure(types: readonly string[]): Promise<void> {
    const more = types.filter((type) => !this.types.includes(type));
    if (more.length === 0 || this.stop.signal.aborted) return this.last;
    this.types.push(...more);
    this.last = this.last.then(() => this.measureRound(more));
    return this.last;
  }

  private async measureRound(types: readonly string[]): Promise<void> {
    if (this.stop.signal.aborted) return;
    const round = (this.round = { types, total: 0, done: 0, stop: new AbortController() });
    try {
      const encodings = [...this.finished, ...types];
      const outline = await this.client.call('sweep_outline', { model: this.model.id, encodings, rows: ROWS });
      if (this.stop.signal.aborted) return;
      round.total = outline.tensors.length;
      this.tell();
      await Promise.all(this.batches(outline).map((tensors) => this.run(tensors, round)));
      this.outline = outline;
      this.finished.push(...types);
      this.failure = undefined;
    } catch (reason) {
      // The batches that wait; figures that have arrived stay.
      round.stop.abort();
      this.types = this.types.filter((type) => !types.includes(type));
      this.failure = apiErrorOf(reason).message;
    }
    this.round = undefined;
    this.flush();
  }

  pause(on: boolean): void {
    this.paused = on;
    this.client.pauseSweep(on);
    this.tell();
  }

  end(): void {
    this.stop.abort();
    this.round?.stop.abort();
    clearTimeout(this.timer);
    sweepState.value = { kind: 'off' };
  }

  /** What `sweep --sample 64 --types ...` of the command line reports. */
  report(): StatsReport | undefined {
    return this.outline && sweepReport(this.outline.tensors, this.finished, this.outline.warnings, this.schema);
  }

  private batches({ tensors, rows }: SweepOutline): number[][] {
    const all: number[][] = [];
    let room = 0;
    for (const [at, index] of tensors.entries()) {
      const axes = this.model.tensors[index]?.shape ?? [];
      const weights = (rows[at] ?? 0) * (axes[axes.length - 1] ?? 0);
      const last = all.at(-1);
      if (last && last.length < BATCH_TENSORS && room >= weights) {
        last.push(index);
        room -= weights;
      } else {
        all.push([index]);
        room = BATCH_WEIGHTS - weights;
      }
    }
    return all;
  }

  private async run(tensors: number[], round: NonNullable<Sweep['round']>): Promise<void> {
    const ask = { model: this.model.id, tensors, encodings: [...round.types], rows: ROWS };
    const report = await this.client.call('sweep', ask, { signal: round.stop.signal });
    if (round.stop.signal.aborted) return;
    this.schema = report.schema_version;
    const indices = new Map(tensors.map((index) => [this.model.tensors[index]?.name, index]));
    for (const tensor of report.tensors) {
      const index = indices.get(tensor.name);
      if (index !== undefined) this.arrived.push([index, tensor]);
    }
    round.done += tensors.length;
    this.timer ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  /** Puts the figures that have arrived into the store. */
  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.stop.signal.aborted) return;
    const arrived = this.arrived.splice(0);
    batch(() => {
      takeAll(arrived);
      const reports = new Map(sweepReports.value);
      for (const [index, report] of arrived) {
        const known = reports.get(index)?.encodings ?? [];
        reports.set(index, { ...report, encodings: [...known, ...(report.encodings ?? [])] });
      }
      sweepReports.value = reports;
      this.tell();
    });
  }

  private tell(): void {
    const { round, paused, failure } = this;
    const types = [...this.types];
    if (round) {
      const { done, total } = round;
      sweepState.value = { kind: paused ? 'paused' : 'running', done, total, types, now: [...round.types] };
    } else if (types.length > this.finished.length) return; // Another round begins.
    else if (types.length === 0 && failure !== undefined) sweepState.value = { kind: 'failed', message: failure };
    else sweepState.value = { kind: 'done', total: this.outline?.tensors.length ?? 0, types, failure };
  }
}
