// Rows of the table of tensors: which the filter keeps, and how they are grouped.
import { layerName, stacksOf, type NameParts } from '../names';
import { pattern } from '../pattern';
import { errorOf, isEstimate, type MeasuredTable } from '../store';
import type { TensorRow } from '../protocol';
import type { Compare } from './grid_order';

export interface TableTensor {
  kind: 'tensor';
  tensor: TensorRow;
  parts: NameParts;
}

export interface TableGroup {
  kind: 'group';
  label: string;
  members: TableTensor[];
  open: boolean;
}

export type TableRow = TableTensor | TableGroup;

/** `layer` and `pattern` put tensors of a layer, or of the same name in all layers, under one row. */
export type Grouping = 'none' | 'layer' | 'pattern';

/** A filter, or why the text is none. `byError` is true if it depends on the errors of the chosen type. */
export type Filter = { keep: (row: TableRow) => boolean; byError: boolean } | { refused: string };

/** `size>10MB`, `err>5%` */
const MEASURE = /^(size|err)(>|<)(\d+(?:\.\d+)?)(k|m|g)?b?%?$/i;
const UNITS: Record<string, number> = { k: 1e3, m: 1e6, g: 1e9 };

/** Every word must occur in name, type or shape; `/regex/` is matched against the name. */
export function filterOf(text: string, dtype: string, figures: () => { table: MeasuredTable; type: string }): Filter {
  const typed = (t: TensorRow) => dtype === '' || t.dtype === dtype;
  const regex = /^\/(.*)\/$/s.exec(text.trim());
  if (regex) {
    const test = pattern(regex[1] ?? '');
    if (typeof test !== 'function') return test;
    return { keep: (row) => row.kind === 'tensor' && typed(row.tensor) && test(row.tensor.name), byError: false };
  }
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = words.map((word) => wordTest(word, figures));
  const byError = words.some((word) => MEASURE.exec(word)?.[1] === 'err');
  return { keep: (row) => row.kind === 'tensor' && typed(row.tensor) && tests.every((test) => test(row.tensor)), byError };
}

function wordTest(word: string, figures: () => { table: MeasuredTable; type: string }): (t: TensorRow) => boolean {
  const [, what, sign, number, unit = ''] = MEASURE.exec(word) ?? [];
  if (what === undefined) return (t) => `${t.name} ${t.dtype} ${t.shape.join('x')}`.toLowerCase().includes(word);
  const limit = Number(number) * (UNITS[unit.toLowerCase()] ?? 1);
  const value = (t: TensorRow) => {
    if (what.toLowerCase() === 'size') return t.bytes;
    const { table, type } = figures();
    return 100 * (errorOf(table, t.index, type) ?? NaN);
  };
  return (t) => (sign === '>' ? value(t) > limit : value(t) < limit);
}

/** Indices as ranges, for an address: `0-3,7`. */
export function rangesOf(indices: Iterable<number>): string {
  const ranges: [number, number][] = [];
  for (const index of [...indices].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last?.[1] === index - 1) last[1] = index;
    else ranges.push([index, index]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join();
}

/** The indices below `count` of ranges; absent where the text is none. */
export function indicesOf(ranges: string, count: number): ReadonlySet<number> | undefined {
  const found = new Set<number>();
  for (const range of ranges.split(',')) {
    const [all, from, to = from] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? [];
    if (all === undefined) return undefined;
    for (let index = Number(from); index <= Math.min(Number(to), count - 1); index += 1) found.add(index);
  }
  return found;
}

/** The tensors of a row. */
export function tensorsOf(row: TableRow): TensorRow[] {
  return row.kind === 'tensor' ? [row.tensor] : row.members.map((member) => member.tensor);
}

export function bytesOf(row: TableRow): number {
  return row.kind === 'tensor' ? row.tensor.bytes : row.members.reduce((sum, { tensor }) => sum + tensor.bytes, 0);
}

/** The error of a tensor, or the mean of those of a group; absent where nothing was measured. */
export function meanError(row: TableRow, table: MeasuredTable, type: string): number | undefined {
  if (row.kind === 'tensor') return errorOf(table, row.tensor.index, type);
  let [sum, count] = [0, 0];
  for (const { tensor } of row.members) {
    const error = errorOf(table, tensor.index, type);
    if (error === undefined) continue;
    sum += error;
    count += 1;
  }
  return count > 0 ? sum / count : undefined;
}

/** True if one of the errors of a row is estimated. */
export function isEstimated(row: TableRow, table: MeasuredTable, type: string): boolean {
  return tensorsOf(row).some(({ index }) => isEstimate(table, index, type));
}

/** Groups of the kept tensors. They remember which of them are open. */
export class Groups {
  private readonly known = new Map<string, TableGroup>();
  /** True if the model has several stacks of layers. */
  private readonly several: boolean;

  constructor(parts: Iterable<NameParts>) {
    this.several = stacksOf(parts).length > 1;
  }

  /** The rows to show: groups in the order of the file or of `compare`, each with its tensors below it if it is open. */
  arrange(kept: readonly TableRow[], grouping: Grouping, compare: Compare<TableRow> | undefined): TableRow[] {
    if (grouping === 'none') return compare ? [...kept].sort(compare) : [...kept];
    const groups = new Set<TableGroup>();
    for (const group of this.known.values()) group.members = [];
    for (const row of kept) {
      if (row.kind !== 'tensor') continue;
      const group = this.groupOf(row, grouping);
      group.members.push(row);
      groups.add(group);
    }
    const sorted = [...groups];
    if (compare) sorted.sort(compare);
    return sorted.flatMap((group) => {
      if (!group.open) return [group];
      return [group, ...(compare ? [...group.members].sort(compare) : group.members)];
    });
  }

  private groupOf({ parts, tensor }: TableTensor, grouping: Grouping): TableGroup {
    const { layer, stack = '' } = parts;
    const inLayers = layer === undefined ? 'Outside the layers' : `Layer ${layerName(stack, layer, this.several)}`;
    const label = grouping === 'pattern' ? parts.pattern : inLayers;
    // Tensors of another shape are another pattern.
    const key = grouping === 'pattern' ? `${label} ${tensor.shape.join('x')}` : label;
    const known = this.known.get(key);
    if (known) return known;
    const made: TableGroup = { kind: 'group', label, members: [], open: false };
    this.known.set(key, made);
    return made;
  }
}
