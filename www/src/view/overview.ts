// The overview of a model: what it is, the tensors that lose most, what fits a memory, and where its bytes are.
import { effect, signal } from '@preact/signals-core';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { h } from '../dom';
import { pngButton, svgButton } from '../exports';
import { binaryBytes, bytes, count, fixed, integer, plural, relative } from '../format';
import { mixError, mixes, mixesRefused, type Mix } from '../mixes';
import type { ModelView, TensorRow } from '../protocol';
import { errorType, measured, route, sweepState } from '../store';
import { scaleOf } from './colour_scale';
import { typeSelect } from './error_type';
import { errorMap, errorsOf } from './map_cells';
import { typeName } from './type_name';

type Treemap = typeof import('./treemap');

export interface OverviewActions {
  open: (tensor: TensorRow) => void;
  list: (tensors: readonly TensorRow[]) => void;
  quantize: () => void;
}

/** Tensors in the list of those that lose most. */
const WORST = 6;
const GIB = 2 ** 30;

export function overviewView(model: ModelView, actions: OverviewActions, life: AbortSignal): HTMLElement {
  const parts = { worst: h('div', {}), fits: h('div', {}), tree: h('div', { class: 'tree-slot' }) };
  const memory = signal(defaultMemory(model));
  // Where nearly all bytes have one type, its colour says nothing.
  const [[, most] = ['', 0]] = typesByBytes(model);
  const byError = signal(most > 0.99 * model.bytes);
  const width = signal(0);
  const drawer = signal<Treemap | undefined>(undefined);
  const picture = () => parts.tree.querySelector<SVGElement>('svg');
  const ends = [
    whileShown(() => void render(worst(model, actions), parts.worst)),
    whileShown(() => void render(fits(model, memory, actions), parts.fits)),
    whileShown(() => {
      if (drawer.value && width.value > 0) render(tree(model, drawer.value, width.value, byError.value, actions), parts.tree);
    }),
  ];
  const sized = new ResizeObserver(([entry]) => (width.value = Math.floor(entry?.contentRect.width ?? 0)));
  sized.observe(parts.tree);
  void import('./treemap').then((module) => life.aborted || (drawer.value = module));
  life.addEventListener('abort', () => {
    sized.disconnect();
    for (const end of ends) end();
  });
  const box = h('input', { type: 'checkbox', checked: byError.value });
  box.addEventListener('change', () => (byError.value = box.checked));
  const section = (title: string, class_: string, ...children: (HTMLElement | null)[]) =>
    h('section', { class: `card ${class_}`, 'aria-label': title }, h('h2', {}, title), ...children);
  return h(
    'div',
    { class: 'overview' },
    section('Largest errors', 'worst', typeSelect('as', life), parts.worst),
    section('Will it fit?', 'fits', parts.fits),
    section(
      'Bytes by layer and module',
      'tree',
      h(
        'div',
        { class: 'tools' },
        h('label', { class: 'check small' }, box, 'Colour by error'),
        h(
          'span',
          { class: 'exports' },
          svgButton([model.name, 'treemap'], `Bytes of ${model.name} by layer and module`, picture),
          pngButton([model.name, 'treemap'], picture),
        ),
      ),
      parts.tree,
    ),
  );
}

/** Draws when a signal changes, but not while another view is shown. */
function whileShown(draw: () => void): () => void {
  return effect(() => {
    if (route.value.view === 'Overview') draw();
  });
}

/** The stored types, and the bytes of each, largest first. */
function typesByBytes(model: ModelView): [string, number][] {
  const held = new Map<string, number>();
  for (const t of model.tensors) held.set(t.dtype, (held.get(t.dtype) ?? 0) + t.bytes);
  return [...held].sort((a, b) => b[1] - a[1]);
}

/** One sentence: architecture, layers, parameters, types, context. */
export function inWords(model: ModelView): string {
  const { layers, context, experts, experts_used, vocabulary } = model.dimensions;
  const [most = 'no weights', ...others] = typesByBytes(model).map(([name]) => name);
  const moe = experts !== undefined && `${plural(experts, 'expert')}${experts_used ? ` (${integer(experts_used)} used per token)` : ''}`;
  const parts = [
    model.architecture ?? 'Unknown architecture',
    layers !== undefined && plural(layers, 'layer'),
    moe,
    `${count(model.elements)} parameters`,
    others.length > 0 ? `mostly ${most}` : most,
    context !== undefined && `context of ${integer(context)} tokens`,
    vocabulary !== undefined && `vocabulary of ${integer(vocabulary)}`,
    model.quantized ? 'quantized' : 'not quantized',
  ];
  const text = parts.filter(Boolean).join(', ');
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function worst(model: ModelView, actions: OverviewActions): TemplateResult {
  const type = errorType.value;
  const table = measured.value;
  const found = model.tensors
    .map((tensor) => ({ tensor, row: table.tensors.get(tensor.index)?.errors.get(type) }))
    .filter(({ row }) => row?.relative_error !== undefined)
    .sort((a, b) => (b.row?.relative_error ?? 0) - (a.row?.relative_error ?? 0))
    .slice(0, WORST);
  const damaged = model.tensors.filter(({ index }) => {
    const stats = table.tensors.get(index)?.stats;
    return stats !== undefined && stats.nan + stats.inf > 0;
  });
  const nan = damaged.length > 0
    ? html`<p class="note bad">NaN or Inf in ${plural(damaged.length, 'tensor')}:
        <button type="button" class="link mono" @click=${() => actions.list(damaged)}>${damaged[0]?.name}</button>${damaged.length > 1 ? ' and others' : ''}.
        No quantized type holds them.</p>`
    : nothing;
  if (found.length === 0) return html`${nan}<p class="soft small">${nothingYet()}</p>`;
  return html`${nan}
    <ol class="worst-list">
      ${found.map(({ tensor, row }) => {
        const estimated = table.tensors.get(tensor.index)?.sampled !== undefined;
        return html`<li>
          <button type="button" class="link mono" title=${tensor.name} @click=${() => actions.open(tensor)}>${tensor.name.replace(/\.weight$/, '')}</button>
          <span class="num">${estimated ? '\u2248\u2009' : ''}${relative(row?.relative_error)}</span>
        </li>`;
      })}
    </ol>
    <p class="small soft">Relative error of the weights as ${typeName(type)}; \u2248 is estimated from some rows.</p>`;
}

function nothingYet(): string {
  const { kind } = sweepState.value;
  if (kind === 'running' || kind === 'off') return 'Measuring\u2026';
  return `No matrix was measured as ${typeName(errorType.value)}.`;
}

function defaultMemory(model: ModelView): number {
  return [2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 512].find((g) => 0.3 * model.bytes < g * GIB) ?? 1024;
}

/** Bytes of the key-value cache in F16 for the whole context, where the dimensions are known. */
function cacheBytes({ dimensions: d }: ModelView): number | undefined {
  if (!d.layers || !d.context || !d.hidden || !d.heads) return undefined;
  return 2 * 2 * d.layers * d.context * (d.head_dim ?? d.hidden / d.heads) * (d.kv_heads ?? d.heads);
}

function fits(model: ModelView, memory: { value: number }, actions: OverviewActions): TemplateResult {
  const cache = cacheBytes(model);
  const limit = memory.value * GIB;
  const set = (event: Event) => {
    const value = Number((event.target as HTMLInputElement).value);
    if (value > 0) memory.value = value;
  };
  const row = (name: string, size: number, bpw: number, error: string) => html`<tr>
    <th scope="row">${name}</th><td>${bytes(size)}</td><td>${fixed(bpw, 2)}</td><td>${error}</td>
    <td class=${size <= limit ? 'fits-yes' : 'fits-no'}>${size <= limit ? 'yes' : 'no'}<span class="room">, ${size <= limit ? `${binaryBytes(limit - size)} left` : `${binaryBytes(size - limit)} too much`}</span></td>
  </tr>`;
  const stored = (8 * model.bytes) / Math.max(1, model.elements);
  return html`<label class="small memory"><span class="soft">Memory in GiB</span>
      <input type="number" min="0.1" step="any" .value=${String(memory.value)} @change=${set} /></label>
    <div class="scroll-x" tabindex="0" role="region" aria-label="Size of each preset">
      <table class="figures-table">
        <thead><tr><th scope="col">Preset</th><th scope="col">Weights</th><th scope="col">bpw</th><th scope="col">Error</th><th scope="col">Fits</th></tr></thead>
        <tbody>
          ${row('as stored', model.bytes, stored, model.quantized ? '' : 'none')}
          ${mixes.value.filter((mix: Mix) => mix.usual).map((mix: Mix) => {
            const error = mixError(mix, model, measured.value);
            return row(mix.name, mix.bytes, mix.bitsPerWeight, error === undefined ? (sweepState.value.kind === 'done' ? '\u2013' : '\u2026') : `\u2248\u2009${relative(error)}`);
          })}
        </tbody>
      </table>
    </div>
    ${mixesRefused.value && mixes.value.length === 0 ? html`<p class="small soft">No presets: ${mixesRefused.value}.</p>` : nothing}
    <p class="small soft">
      Weights only, to the byte. ${cache === undefined ? 'The context needs memory too' : `The context needs up to ${binaryBytes(cache)} more (F16 cache of ${integer(model.dimensions.context ?? 0)} tokens)`}.
      The error is that of the weights, not of the answers.
    </p>
    <button type="button" class="small" @click=${actions.quantize}>Choose and save</button>`;
}

function tree(model: ModelView, { treePicture, TONES }: Treemap, width: number, byError: boolean, actions: OverviewActions): TemplateResult {
  const types = typesByBytes(model).map(([name]) => name);
  const [table, type] = [measured.value, errorType.value];
  const errors = byError ? { table, type, scale: scaleOf(errorsOf(errorMap(model, table, type))) } : undefined;
  const choose = (leaf: { tensors: TensorRow[] }) => {
    const [only] = leaf.tensors;
    if (leaf.tensors.length === 1 && only) actions.open(only);
    else actions.list(leaf.tensors);
  };
  const height = width < 600 ? 360 : 300;
  return html`${treePicture(model, { width, height, types, errors, choose })}
    ${byError
      ? html`<p class="small soft">Brighter is a larger error as ${typeName(type)}.</p>`
      : html`<p class="tree-key small soft">${types.map((name, i) => html`<span class=${`tone-${Math.min(TONES - 1, i)}`}>${name}</span>`)}</p>`}`;
}
