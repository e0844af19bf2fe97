// Rows of the table of tensors: which the filter keeps, and how they are grouped.
import type { NameParts } from '../names';
import { errorOf, type MeasuredTable } from '../store';
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

/** A filter, or why the text is none. */
export type Filter = { keep: (row: TableRow) => boolean } | { refused: string };

/** `size>10MB`, `err>5%` */
const MEASURE = /^(size|err)(>|<)(\d+(?:\.\d+)?)(k|m|g)?b?%?$/i;
const UNITS: Record<string, number> = { k: 1e3, m: 1e6, g: 1e9 };

/** Every word must occur in name, type or shape; `/regex/` is matched against the name. */
export function filterOf(text: string, dtype: string, figures: () => { table: MeasuredTable; type: string }): Filter {
  const typed = (t: TensorRow) => dtype === '' || t.dtype === dtype;
  const regex = /^\/(.*)\/$/s.exec(text.trim());
  if (regex) {
    try {
      const pattern = new RegExp(regex[1] ?? '', 'i');
      return { keep: (row) => row.kind === 'tensor' && typed(row.tensor) && pattern.test(row.tensor.name) };
    } catch {
      return { refused: 'This is not a regular expression.' };
    }
  }
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => wordTest(word, figures));
  return { keep: (row) => row.kind === 'tensor' && typed(row.tensor) && tests.every((test) => test(row.tensor)) };
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

/** Groups of the kept tensors. They remember which of them are open. */
export class Groups {
  private readonly known = new Map<string, TableGroup>();

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
    const label =
      grouping === 'pattern' ? parts.pattern : parts.layer === undefined ? 'Outside the layers' : `Layer ${parts.layer}`;
    // Tensors of another shape are another pattern.
    const key = grouping === 'pattern' ? `${label} ${tensor.shape.join('x')}` : label;
    const known = this.known.get(key);
    if (known) return known;
    const made: TableGroup = { kind: 'group', label, members: [], open: false };
    this.known.set(key, made);
    return made;
  }
}
