// The state that views share: one store, of signals. Views read it, and only `sweep`, `main` and the views' controls set it.
import { computed, signal } from '@preact/signals-core';
import type { Catalog, EncodingRow, ModelView, Sampled, StatsReport, StatsTensor, StatsView } from './protocol';
import type { Route } from './route';

/** The error of a tensor in a type: from a sample of its rows, or from all of them where `sampled` is absent. */
export interface MeasuredError extends EncodingRow {
  sampled: Sampled | undefined;
}

/** The figures of a tensor. `sampled` is that of the statistics; each error has its own. */
export interface Measured {
  sampled: Sampled | undefined;
  stats: StatsView | undefined;
  errors: ReadonlyMap<string, MeasuredError>;
}

export type SweepState =
  | { kind: 'off' }
  /** `now` are the types that are measured now; `done` of `total` tensors have them. */
  | { kind: 'running' | 'paused'; done: number; total: number; types: string[]; now: string[] }
  /** `failure` says why further types were not measured. */
  | { kind: 'done'; total: number; types: string[]; failure: string | undefined }
  | { kind: 'failed'; message: string };

/** The tables of one model. */
export interface MeasuredTable {
  readonly tensors: ReadonlyMap<number, Measured>;
}

/** The open model. */
export const model = signal<ModelView | undefined>(undefined);

/** The view and its settings. */
export const route = signal<Route>({ view: 'Overview' });

export const catalog = signal<Catalog | undefined>(undefined);

/** The type whose error is shown in tables and pictures, as sweeps name it. */
export const errorType = signal('q4_k');

export const sweepState = signal<SweepState>({ kind: 'off' });

/** Figures of all tensors that were measured; replaced as a whole when some arrive. */
export const measured = signal<MeasuredTable>({ tensors: new Map() });

/** What the background sweep reported, tensor by tensor: the table that can be saved. */
export const sweepReports = signal<ReadonlyMap<number, StatsTensor>>(new Map());

/** The types that a sweep can measure: types of GGUF that need no importance matrix. Empty before the catalog is known. */
export const measurableTypes = computed(() => {
  const { types, targets } = catalog.value ?? { types: [], targets: [] };
  const gguf = new Set(targets.find((t) => t.target === 'gguf')?.types);
  const measurable = types.filter((t) => t.quantized && t.importance !== 'required' && gguf.has(t.dtype));
  return measurable.map((t) => t.dtype.toLowerCase());
});

/** Types with figures. */
export const measuredTypes = computed(() => {
  const state = sweepState.value;
  return state.kind === 'off' || state.kind === 'failed' ? [] : state.types;
});

/** Adds the figures of a tensor. A figure is replaced by one of as many rows or more; figures of other types stay. */
export function takeFigures(index: number, report: StatsTensor): void {
  takeAll([[index, report]]);
}

export function takeAll(reports: Iterable<readonly [number, StatsTensor]>): void {
  const next = new Map(measured.value.tensors);
  for (const [index, report] of reports) merge(next, index, report);
  measured.value = { tensors: next };
}

function merge(into: Map<number, Measured>, index: number, { sampled, stats, encodings }: StatsTensor): void {
  const known = into.get(index);
  const rows = rowsOf(sampled);
  const errors = new Map(known?.errors);
  for (const row of encodings ?? []) {
    const before = errors.get(row.encoding);
    if (!before || rows >= rowsOf(before.sampled)) errors.set(row.encoding, { ...row, sampled });
  }
  const better = stats !== undefined && (known?.stats === undefined || rows >= rowsOf(known.sampled));
  into.set(index, { sampled: better ? sampled : known?.sampled, stats: better ? stats : known?.stats, errors });
}

/** The number of measured rows: without a sample, as many as any sample has. */
function rowsOf(sampled: Sampled | undefined): number {
  return sampled?.rows ?? Infinity;
}

/** The relative error of a tensor in a type; absent where it was not measured. */
export function errorOf(table: MeasuredTable, index: number, type: string): number | undefined {
  return table.tensors.get(index)?.errors.get(type)?.relative_error;
}

/** True if the error of a tensor in a type is of a sample of its rows. */
export function isEstimate(table: MeasuredTable, index: number, type: string): boolean {
  return table.tensors.get(index)?.errors.get(type)?.sampled !== undefined;
}

/** The reports of a sweep, as the command line's `sweep` prints them. */
export function sweepReport(order: readonly number[], types: readonly string[], warnings: StatsReport['warnings'], schema: number): StatsReport {
  const tensors = order.flatMap((index) => {
    const report = sweepReports.value.get(index);
    if (!report) return [];
    const rows = new Map((report.encodings ?? []).map((row) => [row.encoding, row]));
    return [{ ...report, encodings: types.flatMap((type) => rows.get(type) ?? []) }];
  });
  return { schema_version: schema, tensors, warnings };
}
