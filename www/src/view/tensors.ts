// The table of all tensors: filter, groups, the error of the chosen type, and beside it the chosen tensor.
import { effect } from '@preact/signals-core';
import { h } from '../dom';
import { bytes, integer, marked, percent, plural, shape } from '../format';
import { nameParts } from '../names';
import { errorOf, errorType, isEstimate, measured } from '../store';
import type { ModelView, TensorRow } from '../protocol';
import { errorBar, typeSelect } from './error_type';
import { Grid, type Column } from './grid';
import { share, tensorName } from './tensor_name';
import {
  bytesOf,
  filterOf,
  indicesOf,
  Groups,
  isEstimated,
  meanError,
  rangesOf,
  tensorsOf,
  type Filter,
  type Grouping,
  type TableGroup,
  type TableRow,
  type TableTensor,
} from './tensor_rows';
import { typeName } from './type_name';

export interface TensorsView {
  node: HTMLElement;
  select: (t: TensorRow | undefined) => void;
  /** Shows the panel instead of the table on a narrow screen. */
  look: (on: boolean) => void;
  focusFilter: () => void;
  focusTable: () => void;
  /** Sets filter and grouping from the address. */
  restore: (query: Readonly<Record<string, string>>) => void;
  /** Filter and grouping for the address, with the type of errors where they depend on it. */
  query: () => Record<string, string>;
}

export interface Actions {
  choose: (t: TensorRow) => void;
  /** The row that the keyboard came to, while a tensor is shown. */
  follow: (t: TensorRow) => void;
  /** Filter or grouping was changed. */
  changed: () => void;
}

const GROUPINGS: readonly (readonly [Grouping, string])[] = [
  ['none', 'No groups'],
  ['layer', 'By layer'],
  ['pattern', 'By pattern'],
];

/** Milliseconds between two drawings of figures that arrive. */
const REDRAW_MS = 250;

export function tensorsView(model: ModelView, actions: Actions, beside: HTMLElement, life: AbortSignal): TensorsView {
  const rows = model.tensors.map((tensor): TableTensor => ({ kind: 'tensor', tensor, parts: nameParts(tensor.name) }));
  const groups = new Groups(rows.map(({ parts }) => parts));
  let grouping: Grouping = 'none';
  const choose = (row: TableRow) => {
    if (row.kind === 'tensor') return actions.choose(row.tensor);
    row.open = !row.open;
    grid.rearrange();
  };
  const grid: Grid<TableRow> = new Grid<TableRow>({
    label: 'Tensors',
    columns: columns(model),
    empty: 'No tensor matches the filter.',
    wide: true,
    choose,
    follow: (row) => row.kind === 'tensor' && actions.follow(row.tensor),
    selects: (row) => row.kind === 'tensor',
    mark: (row) => (row.kind === 'group' ? 'group' : grouping === 'none' ? undefined : 'member'),
    arrange: (kept, compare) => groups.arrange(kept, grouping, compare),
  });
  grid.show(rows);
  const found = h('p', { class: 'soft small', role: 'status' });
  const input = h('input', {
    type: 'search',
    placeholder: 'Filter: attn  /up|gate/  size>10MB  err>5%',
    'aria-label': 'Filter tensors by words, /regular expression/, size or error',
    'aria-keyshortcuts': '/',
    spellcheck: 'false',
    autocomplete: 'off',
  });
  const dtype = h('select', { 'aria-label': 'Type in the file' }, dtypes(model));
  const group = h('select', { 'aria-label': 'Groups' }, GROUPINGS.map(([value, label]) => h('option', { value }, label)));
  const figures = () => ({ table: measured.value, type: errorType.value });
  let filter: Filter = { refused: '' };
  /** Tensors that another view listed. */
  let only: ReadonlySet<number> | undefined;
  const listed = h('button', { type: 'button', class: 'small', hidden: true, 'aria-label': 'Show all tensors again' });
  listed.addEventListener('click', () => {
    only = undefined;
    apply();
    actions.changed();
    input.focus();
  });
  const apply = () => {
    filter = filterOf(input.value, dtype.value, figures);
    input.setAttribute('aria-invalid', String('refused' in filter));
    grouping = group.value as Grouping;
    listed.hidden = only === undefined;
    listed.textContent = `${plural(only?.size ?? 0, 'listed tensor')} \u00d7`;
    const { keep } = { keep: () => false, ...filter } as { keep: (row: TableRow) => boolean };
    const among = only;
    grid.filter(among ? (row) => row.kind === 'tensor' && among.has(row.tensor.index) && keep(row) : keep);
    count();
  };
  const count = () => {
    const kept = grid.rows.flatMap((row) => (row.kind === 'tensor' && grouping !== 'none' ? [] : tensorsOf(row)));
    const size = kept.reduce((sum, t) => sum + t.bytes, 0);
    const all = `${integer(kept.length)} of ${integer(model.tensors.length)}, ${bytes(size)}`;
    found.textContent = 'refused' in filter ? filter.refused : all;
  };
  apply();
  for (const [node, event] of [[input, 'input'], [dtype, 'change'], [group, 'change']] as const)
    node.addEventListener(event, () => {
      apply();
      actions.changed();
    });
  const byError = () => 'byError' in filter && filter.byError;
  redrawWithFigures(grid, life, byError, count);
  const tools = h('div', { class: 'tools' }, input, listed, dtype, group, typeSelect('Error as', life), found);
  const list = h('section', { class: 'list', 'aria-label': 'Tensors' }, tools, grid.node);
  const node = h('div', { class: 'bench' }, list, beside);
  return {
    node,
    select: (t) => grid.select(t && rows[t.index]),
    look: (on) => node.classList.toggle('looking', on),
    focusFilter: () => input.focus(),
    focusTable: () => grid.node.focus(),
    restore: (query) => {
      input.value = query['q'] ?? '';
      dtype.value = query['dtype'] ?? '';
      if (dtype.selectedIndex < 0) dtype.value = '';
      group.value = query['group'] ?? 'none';
      if (group.selectedIndex < 0) group.value = 'none';
      only = indicesOf(query['only'] ?? '', model.tensors.length);
      apply();
    },
    query: () => ({
      q: input.value,
      dtype: dtype.value,
      group: group.value === 'none' ? '' : group.value,
      only: only ? rangesOf(only) : '',
      t: byError() ? errorType.value : '',
    }),
  };
}

/** Figures that arrive are drawn a few times a second; rows that errors sort or filter are arranged again and counted. */
function redrawWithFigures(grid: Grid<TableRow>, life: AbortSignal, filtered: () => boolean, count: () => void): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let shown = errorType.value;
  const end = effect(() => {
    const [type] = [errorType.value, measured.value];
    if (type !== shown) {
      shown = type;
      grid.relabel();
      grid.rearrange();
      count();
    }
    timer ??= setTimeout(() => {
      timer = undefined;
      if (!filtered() && grid.sortedBy !== 'error') return grid.redraw();
      grid.rearrange();
      count();
    }, REDRAW_MS);
  });
  life.addEventListener('abort', () => {
    end();
    clearTimeout(timer);
  });
}

function dtypes(model: ModelView): HTMLElement[] {
  const all = [...new Set(model.tensors.map((t) => t.dtype))].sort();
  return [h('option', { value: '' }, 'All types'), ...all.map((name) => h('option', { value: name }, name))];
}

/** The one value that all tensors of a row have, else a word for several. */
function common(row: TableRow, of: (t: TensorRow) => string): string {
  const values = new Set(tensorsOf(row).map(of));
  return values.size === 1 ? ([...values][0] ?? '') : `${values.size} kinds`;
}

function groupName(group: TableGroup): HTMLElement {
  const { label, members, open } = group;
  const mark = h('span', { class: open ? 'fold open' : 'fold', 'aria-hidden': 'true' });
  const count = `\u00d7\u2009${integer(members.length)}`;
  const error = meanError(group, measured.value, errorType.value);
  const second = error === undefined ? '' : `mean error ${marked(error, isEstimated(group, measured.value, errorType.value))}`;
  return h(
    'span',
    { class: 'group-name' },
    mark,
    h('span', { class: 'unseen' }, open ? 'open: ' : 'folded: '),
    tensorName(label),
    h('span', { class: 'soft group-count' }, count),
    h('span', { class: 'second' }, second),
  );
}

function errorCell(row: TableRow): HTMLElement {
  const error = meanError(row, measured.value, errorType.value);
  return errorBar(error, isEstimated(row, measured.value, errorType.value));
}

function columns(model: ModelView): Column<TableRow>[] {
  const largest = model.tensors.reduce((most, t) => Math.max(most, t.bytes), 1);
  return [
    {
      key: 'name',
      label: 'Tensor',
      track: 'minmax(0, 1fr)',
      narrow: 'minmax(0, 1fr)',
      class: 'name',
      cell: (row) =>
        row.kind === 'group' ? groupName(row) : tensorName(row.tensor.name, secondLine(row)),
      by: (row) => (row.kind === 'group' ? row.label : row.tensor.name),
    },
    {
      key: 'shape',
      label: 'Shape',
      track: '7.2rem',
      class: 'num',
      right: true,
      cell: (row) => common(row, (t) => shape(t.shape)),
      by: (row) => tensorsOf(row)[0]?.elements ?? null,
    },
    {
      key: 'dtype',
      label: 'Type',
      track: '4.6rem',
      cell: (row) => h('span', { class: 'tag' }, common(row, (t) => t.dtype)),
      by: (row) => tensorsOf(row)[0]?.dtype ?? null,
    },
    {
      key: 'bytes',
      label: 'Size',
      track: '5.2rem',
      narrow: '5.6rem',
      class: 'num',
      right: true,
      cell: (row) => h('span', { title: `${integer(bytesOf(row))} bytes` }, bytes(bytesOf(row))),
      by: bytesOf,
    },
    {
      key: 'share',
      label: '% of model',
      track: '8rem',
      extra: true,
      cell: (row) => share(Math.min(1, bytesOf(row) / largest), percent(bytesOf(row), model.bytes)),
      by: bytesOf,
    },
    {
      key: 'error',
      label: () => `Error, ${typeName(errorType.value)}`,
      track: '8rem',
      class: 'num',
      cell: errorCell,
      by: (row) => meanError(row, measured.value, errorType.value) ?? null,
    },
  ];
}

/** On narrow screens type, shape and error stand below the name. */
function secondLine({ tensor }: TableTensor): string {
  const [table, type] = [measured.value, errorType.value];
  const error = errorOf(table, tensor.index, type);
  const figure = error === undefined ? '' : `  error ${marked(error, isEstimate(table, tensor.index, type))}`;
  return `${tensor.dtype}  ${shape(tensor.shape)}${figure}`;
}
