// The state that views share: one store, of signals. Views read it, and only `sweep`, `main` and the views' controls set it.
import { computed, signal } from '@preact/signals-core';
import type { Catalog, EncodingRow, ModelView, Sampled, StatsReport, StatsTensor, StatsView } from './protocol';
import type { Route } from './route';

/** What is known of the error of a tensor: from a sample of its rows, or of all of them where `sampled` is absent. */
export interface Measured {
  sampled: Sampled | undefined;
  stats: StatsView | undefined;
  errors: ReadonlyMap<string, EncodingRow>;
}

export type SweepState =
  | { kind: 'off' }
  | { kind: 'running' | 'paused'; done: number; total: number; types: string[] }
  | { kind: 'done'; total: number; types: string[] }
  | { kind: 'failed'; message: string };

/** The tables of one model. */
export interface MeasuredTable {
  readonly tensors: ReadonlyMap<number, Measured>;
}

/** The open model. */
export const model = signal<ModelView | undefined>(undefined);

/** What is shown of it. */
export const route = signal<Route>({ view: 'Overview' });

export const catalog = signal<Catalog | undefined>(undefined);

/** The type whose error is shown in tables and pictures, as sweeps name it. */
export const errorType = signal('q4_k');

export const sweepState = signal<SweepState>({ kind: 'off' });

/** Figures of all tensors that were measured; replaced as a whole when some arrive. */
export const measured = signal<MeasuredTable>({ tensors: new Map() });

/** What the background sweep reported, tensor by tensor: the table that can be saved. */
export const sweepReports = signal<ReadonlyMap<number, StatsTensor>>(new Map());

/** The types that a sweep can measure: those of blocks that need no importance matrix. Empty before the catalog is known. */
export const measurableTypes = computed(() => {
  const types = catalog.value?.types ?? [];
  return types.filter((t) => t.quantized && t.importance !== 'required').map((t) => t.dtype.toLowerCase());
});

/** Types with figures. */
export const measuredTypes = computed(() => {
  const state = sweepState.value;
  return state.kind === 'off' || state.kind === 'failed' ? [] : state.types;
});

/** Takes figures in: they replace those of fewer rows, and add types to those of as many. */
export function takeFigures(index: number, report: StatsTensor): void {
  const next = new Map(measured.value.tensors);
  merge(next, index, report);
  measured.value = { tensors: next };
}

export function takeAll(reports: Iterable<readonly [number, StatsTensor]>): void {
  const next = new Map(measured.value.tensors);
  for (const [index, report] of reports) merge(next, index, report);
  measured.value = { tensors: next };
}

function merge(into: Map<number, Measured>, index: number, report: StatsTensor): void {
  const known = into.get(index);
  const rows = report.sampled?.rows ?? Infinity;
  const knownRows = known ? (known.sampled?.rows ?? Infinity) : 0;
  const mine = (report.encodings ?? []).map((row) => [row.encoding, row] as const);
  if (known && rows < knownRows) {
    // Only types that are new.
    into.set(index, { ...known, errors: new Map([...mine, ...known.errors]) });
    return;
  }
  const kept = known && rows === knownRows ? known.errors : [];
  into.set(index, { sampled: report.sampled, stats: report.stats ?? known?.stats, errors: new Map([...kept, ...mine]) });
}

/** The relative error of a tensor in a type; absent where it was not measured. */
export function errorOf(table: MeasuredTable, index: number, type: string): number | undefined {
  return table.tensors.get(index)?.errors.get(type)?.relative_error;
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
