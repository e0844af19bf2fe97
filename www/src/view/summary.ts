// The head of the view of tensors: name, format, figures, and the size bar of the bytes.
import { h } from '../dom';
import { binaryBytes, bytes, count, fixed, integer, plural } from '../format';
import type { ModelView } from '../protocol';
import { sizeBar, type SizeBar } from './size_bar';

export interface Summary {
  node: HTMLElement;
  sizeBar: SizeBar;
}

export function summary(model: ModelView, choose: (index: number) => void): Summary {
  const map = sizeBar(`The ${model.tensors.length} tensors of the model in file order, widths by size`, choose);
  map.show(
    model.tensors.map((t) => ({ name: t.name, bytes: t.bytes, tone: t.shape.length > 1 ? 'matrix' : 'vector' })),
    model.bytes,
  );
  const node = h(
    'header',
    { class: 'model' },
    h('div', {}, h('h1', {}, model.name), h('p', { class: 'what' }, what(model))),
    h('dl', { class: 'figures' }, figures(model)),
    h(
      'figure',
      { class: 'size-bar' },
      map.node,
      h(
        'figcaption',
        {},
        h('span', {}, 'File layout: one block per tensor, width = bytes'),
        h('span', { class: 'key' }, 'matrices'),
        h('span', { class: 'key vector' }, 'vectors (norms, biases)'),
      ),
    ),
  );
  return { node, sizeBar: map };
}

function what(model: ModelView): string {
  const parts = [
    model.container,
    model.architecture,
    plural(model.tensors.length, 'tensor'),
    model.files.length > 1 && plural(model.files.length, 'file'),
    `opened in ${Math.round(model.openedMs)}\u00a0ms`,
  ];
  return parts.filter(Boolean).join(' \u00b7 ');
}

function figures(model: ModelView): HTMLElement[] {
  const bpw = model.elements > 0 ? (8 * model.bytes) / model.elements : null;
  return [
    figure('Parameters', count(model.elements), integer(model.elements)),
    figure('Size of weights', bytes(model.bytes), binaryBytes(model.bytes)),
    figure('Bits per weight', fixed(bpw, 2), types(model)),
  ];
}

function figure(label: string, value: string, under: string): HTMLElement {
  return h('div', {}, h('dt', {}, label), h('dd', {}, value, h('small', {}, under)));
}

/** The types that hold most of the bytes. */
function types(model: ModelView): string {
  const held = new Map<string, number>();
  for (const t of model.tensors) held.set(t.dtype, (held.get(t.dtype) ?? 0) + t.bytes);
  const most = [...held].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  return most.length > 3 ? `${most.slice(0, 2).join(', ')} +${most.length - 2}` : most.join(', ');
}
