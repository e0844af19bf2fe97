// The table of all tensors, its filter, and beside it the tensor that was chosen.
import { h, vary } from '../dom';
import { bytes, integer, percent, shape } from '../format';
import type { ModelView, TensorRow } from '../protocol';
import { Grid, type Column } from './grid';

/** A name whose last part always shows: the path repeats from row to row, the end tells the rows apart. */
export function tensorName(name: string, second?: string): HTMLElement {
  const cut = name.replace(/\.(weight|bias)$/, '').lastIndexOf('.') + 1;
  const part = (kind: string, text: string) => h('span', { class: kind, 'aria-hidden': 'true' }, text);
  // Two boxes would be read as two words, so the name is said once, whole.
  const said = h('span', { class: 'unseen' }, name);
  const line = h(
    'span',
    { class: 'whole', title: name },
    said,
    cut > 0 && part('path', name.slice(0, cut)),
    part('tail', name.slice(cut)),
  );
  return second === undefined ? line : h('span', {}, line, h('span', { class: 'second' }, second));
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
}

export function tensorsView(model: ModelView, choose: (t: TensorRow) => void, beside: HTMLElement): TensorsView {
  const grid = new Grid<TensorRow>({
    label: 'Tensors',
    columns: columns(model),
    empty: 'No tensor matches the filter.',
    choose,
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
    spellcheck: 'false',
    autocomplete: 'off',
  });
  input.addEventListener('input', () => {
    grid.filter(matcher(input.value));
    tell();
  });
  tell();
  const list = h(
    'section',
    { class: 'list', 'aria-label': 'Tensors' },
    h('div', { class: 'tools' }, input, found),
    grid.node,
  );
  const node = h('div', { class: 'bench' }, list, beside);
  return {
    node,
    select: (t) => {
      node.classList.toggle('looking', t !== undefined);
      grid.select(t);
    },
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
