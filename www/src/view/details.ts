// The figures of one tensor, which arrive in parts: statistics and histogram first, then the error of each type.
import type { Client, Watch } from '../client';
import type { EncodingRow, EncodingSize, JobResult, ModelView, RunInfo, StatsReport, StatsTensor, TensorRow } from '../protocol';

/** The figures of a tensor that have arrived. */
export interface Details {
  /** Types in the order in which they are measured. */
  encodings: EncodingSize[];
  values: StatsTensor | undefined;
  errors: Map<string, EncodingRow>;
  warnings: StatsReport['warnings'];
  run: RunInfo | undefined;
  schema: number;
  /** True if all rows were asked for. */
  all: boolean;
}

export function begun(all: boolean): Details {
  return { encodings: [], values: undefined, errors: new Map(), warnings: [], run: undefined, schema: 0, all };
}

/** Whether nothing more comes. A tensor that cannot be measured has warnings that say why, and no values. */
export function complete(d: Details): boolean {
  return d.run !== undefined && (d.values === undefined || d.errors.size === d.encodings.length);
}

export interface Steps {
  signal: AbortSignal;
  /** How much of the work is done, from 0 to 1. */
  progress: (part: number) => void;
  /** Called after each part. */
  arrived: () => void;
}

/** Measures what `details` lacks. */
export async function measure(client: Client, model: ModelView, { index }: TensorRow, details: Details, steps: Steps): Promise<void> {
  const ask = { model: model.id, tensor: index };
  const groups = await client.call('encodings', ask);
  details.encodings = groups.flat();
  const left = groups.map((group) => group.filter((e) => !details.errors.has(e.encoding))).filter((g) => g.length > 0);
  const parts = left.length + 1;
  const watch = (done: number): Watch => ({
    signal: steps.signal,
    progress: (p) => steps.progress((done + (p.total > 0 ? p.done / p.total : 0)) / parts),
  });
  if (!details.values) {
    const report = await client.call('values', { ...ask, all: details.all }, watch(0));
    take(details, report);
    details.values = report.tensors[0];
    details.warnings = report.warnings;
    steps.arrived();
    if (!details.values) return;
  }
  for (const [at, group] of left.entries()) {
    const encodings = group.map((e) => e.encoding);
    const report = await client.call('errors', { ...ask, encodings, all: details.all }, watch(at + 1));
    take(details, report);
    for (const row of report.tensors[0]?.encodings ?? []) details.errors.set(row.encoding, row);
    steps.arrived();
  }
}

function take(details: Details, report: JobResult<StatsReport>): void {
  details.run = report.run;
  details.schema = report.schema_version;
}

/** The report of the command line's `sweep`, with the histogram that is shown. */
export function asReport(d: Details): StatsReport | undefined {
  if (!d.values) return undefined;
  const encodings = d.encodings.flatMap((e) => d.errors.get(e.encoding) ?? []);
  return { schema_version: d.schema, tensors: [{ ...d.values, encodings }], warnings: d.warnings };
}
