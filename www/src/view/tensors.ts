// The table of all tensors, its filter, and beside it the tensor that was chosen.
import { h, vary } from '../dom';
import { bytes, integer, percent, shape } from '../format';
import type { ModelView, TensorRow } from '../protocol';
import { Grid, type Column } from './grid';

/**
 * A name of which numbers always show: layer and expert tell the rows apart. Where it is too wide, what comes before the
 * first number is elided first, then the words between numbers; the last part stays.
 */
export function tensorName(name: string, second?: string): HTMLElement {
  const end = /\.(weight|bias)$/.exec(name)?.[0] ?? '';
  const path = name.slice(0, name.length - end.length).split('.');
  const last = path.pop() ?? '';
  const number = path.findIndex((part) => /^\d+$/.test(part));
  const part = (kind: string, text: string) => text !== '' && h('span', { class: kind, 'aria-hidden': 'true' }, text);
  const dotted = (parts: readonly string[]) => parts.map((p) => `${p}.`).join('');
  // Boxes would be read as so many words, so the name is said once, whole.
  const line = h(
    'span',
    { class: 'whole', title: name },
    h('span', { class: 'unseen' }, name),
    number < 0 && part('path', dotted(path)),
    number >= 0 && part('path head', dotted(path.slice(0, number))),
    number >= 0 && runs(path.slice(number)).map((run) => part(run.number ? 'number' : 'path', dotted(run.parts))),
    part('tail', last),
    part('tail end', end),
  );
  return second === undefined ? line : h('span', {}, line, h('span', { class: 'second' }, second));
}

/** Parts of a path, numbers apart from words. */
function runs(path: readonly string[]): { number: boolean; parts: string[] }[] {
  const found: { number: boolean; parts: string[] }[] = [];
  for (const part of path) {
    const number = /^\d+$/.test(part);
    const open = found.at(-1);
    if (open?.number === number) open.parts.push(part);
    else found.push({ number, parts: [part] });
  }
  return found;
}

function columns(model: ModelView): Column<TensorRow>[] {
  const largest = model.tensors.reduce((most, t) => Math.max(most, t.bytes), 1);
  return [
    {
      key: 'name',
      label: 'Tensor',
      track: 'minmax(0, 1fr)',
      narrow: 'minmax(0, 1fr)',
      class: 'name',
      cell: (t) => tensorName(t.name, `${t.dtype}  ${shape(t.shape)}`),
      by: (t) => t.name,
    },
    {
      key: 'shape',
      label: 'Shape',
      track: '7.2rem',
      class: 'num',
      right: true,
      cell: (t) => shape(t.shape),
      by: (t) => t.elements,
    },
    {
      key: 'dtype',
      label: 'Type',
      track: '4.6rem',
      cell: (t) => h('span', { class: 'tag' }, t.dtype),
      by: (t) => t.dtype,
    },
    {
      key: 'bytes',
      label: 'Size',
      track: '5.2rem',
      narrow: '5.6rem',
      class: 'num',
      right: true,
      cell: (t) => h('span', { title: `${integer(t.bytes)} bytes` }, bytes(t.bytes)),
      by: (t) => t.bytes,
    },
    {
      key: 'share',
      label: '% of model',
      track: '8rem',
      extra: true,
      cell: (t) => share(t.bytes / largest, percent(t.bytes, model.bytes)),
      by: (t) => t.bytes,
    },
  ];
}

/** Bars are drawn against the largest tensor, so that they differ; the number is the share of the whole. */
export function share(part: number, text: string): HTMLElement {
  const bar = h('span', { class: 'bar', 'aria-hidden': 'true' });
  vary(bar, '--part', part);
  return h('span', { class: 'share' }, bar, h('span', { class: 'num right' }, text));
}

export interface TensorsView {
  node: HTMLElement;
  select: (tensor: TensorRow | undefined) => void;
  /** Shows the panel where it takes the place of the table. */
  look: (on: boolean) => void;
  focusFilter: () => void;
  focusTable: () => void;
}

export interface Actions {
  choose: (t: TensorRow) => void;
  /** The row that the keyboard came to, while a tensor is shown. */
  follow: (t: TensorRow) => void;
  /** Files and metadata of the model. */
  about: () => void;
}

export function tensorsView(model: ModelView, actions: Actions, beside: HTMLElement): TensorsView {
  const grid = new Grid<TensorRow>({
    label: 'Tensors',
    columns: columns(model),
    empty: 'No tensor matches the filter.',
    choose: actions.choose,
    follow: actions.follow,
  });
  grid.show(model.tensors);
  const found = h('p', { class: 'soft small', role: 'status' });
  const tell = () => {
    const size = grid.rows.reduce((sum, t) => sum + t.bytes, 0);
    found.textContent = `${integer(grid.rows.length)} of ${integer(model.tensors.length)}, ${bytes(size)}`;
  };
  const input = h('input', {
    type: 'search',
    placeholder: 'Filter: attn  BF16  256',
    'aria-label': 'Filter tensors by name, type or shape',
    'aria-keyshortcuts': '/',
    spellcheck: 'false',
    autocomplete: 'off',
  });
  input.addEventListener('input', () => {
    grid.filter(matcher(input.value));
    tell();
  });
  tell();
  const about = h('button', { type: 'button', class: 'quiet about', on: { click: actions.about } }, 'Files and metadata');
  const list = h(
    'section',
    { class: 'list', 'aria-label': 'Tensors' },
    h('div', { class: 'tools' }, input, found, about),
    grid.node,
  );
  const node = h('div', { class: 'bench' }, list, beside);
  return {
    node,
    select: (t) => grid.select(t),
    look: (on) => node.classList.toggle('looking', on),
    focusFilter: () => input.focus(),
    focusTable: () => grid.node.focus(),
  };
}

/** Every word must occur in name, type or shape. */
function matcher(text: string): (t: TensorRow) => boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (t) => {
    const hay = `${t.name} ${t.dtype} ${t.shape.join('x')}`.toLowerCase();
    return words.every((word) => hay.includes(word));
  };
}
