// The table of a comparison: a row for each pair of tensors.
import { h } from '../dom';
import { fixed, integer, measure } from '../format';
import type { CompareRow } from '../protocol';
import { Grid, type Column } from './grid';
import { tensorName } from './tensor_name';

/** The verdicts as they are shown. */
export const WORDS = { green: 'good', yellow: 'fair', red: 'poor' } as const;

const COLUMNS: Column<CompareRow>[] = [
  {
    key: 'tensor',
    label: 'Tensor',
    track: 'minmax(0, 1fr)',
    narrow: 'minmax(0, 1fr)',
    class: 'name',
    cell: (r) => tensorName(r.tensor, `${r.qtype}  rmse ${measure(r.rmse, 3)}  cos ${fixed(r.cosine, 6)}`),
    by: (r) => r.tensor,
  },
  {
    key: 'qtype',
    label: 'Type',
    track: '5.5rem',
    cell: (r) => h('span', { class: 'tag made' }, r.qtype),
    by: (r) => r.qtype,
  },
  {
    key: 'numel',
    extra: true,
    label: 'Parameters',
    track: '8rem',
    class: 'num',
    right: true,
    cell: (r) => integer(r.numel),
    by: (r) => r.numel,
  },
  {
    key: 'rmse',
    label: 'RMSE',
    track: '7rem',
    class: 'num',
    right: true,
    cell: (r) => measure(r.rmse),
    by: (r) => r.rmse ?? null,
  },
  {
    key: 'cosine',
    label: 'Cosine',
    track: '7rem',
    class: 'num',
    right: true,
    cell: (r) => fixed(r.cosine, 6),
    by: (r) => r.cosine ?? null,
  },
  {
    key: 'worst',
    extra: true,
    label: 'Worst row',
    track: '9rem',
    class: 'num',
    right: true,
    cell: (r) => (r.worst_row ? `${fixed(r.worst_row.figure, 4)} in ${integer(r.worst_row.row)}` : ''),
    by: (r) => r.worst_row?.figure ?? null,
  },
  {
    key: 'max',
    extra: true,
    label: 'Max abs error',
    track: '7rem',
    class: 'num',
    right: true,
    cell: (r) => measure(r.max_abs),
    by: (r) => r.max_abs ?? null,
  },
  {
    key: 'verdict',
    label: 'Verdict',
    track: '6rem',
    narrow: '5.4rem',
    cell: (r) =>
      r.below_threshold
        ? h('span', { class: 'verdict red' }, 'below')
        : h('span', { class: `verdict ${r.verdict}` }, WORDS[r.verdict]),
    by: (r) => ({ red: 0, yellow: 1, green: 2 })[r.verdict],
  },
];

/** The rows come in the order of the report, by RMSE, largest first; those that fail the check before the others. */
export function pairs(rows: readonly CompareRow[]): HTMLElement {
  const grid = new Grid<CompareRow>({
    label: 'Compared tensors',
    columns: COLUMNS,
    empty: 'The models share no tensor.',
    wide: true,
    mark: (r) => (r.below_threshold ? 'failing' : undefined),
  });
  grid.show([...rows].sort((a, b) => Number(b.below_threshold) - Number(a.below_threshold)));
  return grid.node;
}
