// The overview of a model: what it is, the tensors that lose most, what fits a memory, and where its bytes are.
import { effect, signal, type Signal } from '@preact/signals-core';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { h } from '../dom';
import { cacheBytesPerToken } from '../cache_size';
import { pngButton, svgButton } from '../exports';
import { binaryBytes, bytes, count, fixed, integer, marked, plural } from '../format';
import { presetError, plannedPresets, presetsRefused } from '../presets';
import type { ModelView, TensorRow } from '../protocol';
import { errorType, isEstimate, measured, route, sweepState } from '../store';
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
  const room = signal<Room>({ memory: defaultMemory(model), context: Math.min(CONTEXT, model.dimensions.context ?? CONTEXT) });
  // Where nearly all bytes have one type, its colour says nothing.
  const [[, most] = ['', 0]] = typesByBytes(model);
  const byError = signal(most > 0.99 * model.bytes);
  const width = signal(0);
  /** True while the table below the treemap is unfolded. */
  const listed = signal(false);
  const drawer = signal<Treemap | undefined>(undefined);
  const picture = () => parts.tree.querySelector<SVGElement>('svg');
  const ends = [
    whileShown(() => void render(worst(model, actions), parts.worst)),
    whileShown(() => void render(fits(model, room, actions), parts.fits)),
    whileShown(() => {
      if (drawer.value && width.value > 0) render(tree(model, drawer.value, width.value, byError.value, listed, actions), parts.tree);
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
  const [[most, held] = ['no weights', 0], ...others] = typesByBytes(model);
  const moe = experts !== undefined && `${plural(experts, 'expert')}${experts_used ? ` (${integer(experts_used)} used per token)` : ''}`;
  const parts = [
    model.architecture ?? 'Unknown architecture',
    layers !== undefined && plural(layers, 'layer'),
    moe,
    `${count(model.elements)} parameters`,
    others.length === 0 ? most : 2 * held > model.bytes ? `mostly ${most}` : `${most} and ${plural(others.length, 'other type')}`,
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
  const nan = nonFinite(model, actions);
  if (found.length === 0) return html`${nan}<p class="soft small">${nothingYet()}</p>`;
  return html`${nan}
    <ol class="worst-list">
      ${found.map(({ tensor, row }) => {
        return html`<li>
          <button type="button" class="link mono" title=${tensor.name} @click=${() => actions.open(tensor)}>${tensor.name.replace(/\.weight$/, '')}</button>
          <span class="num">${marked(row?.relative_error, isEstimate(table, tensor.index, type))}</span>
        </li>`;
      })}
    </ol>
    <p class="small soft">Relative error of the weights as ${typeName(type)}; \u2248 is estimated from some rows.</p>`;
}

/** The tensors with NaN or Inf, among the rows that were measured. */
function nonFinite(model: ModelView, actions: OverviewActions): TemplateResult | typeof nothing {
  const { tensors } = measured.value;
  const found = model.tensors.filter(({ index }) => {
    const stats = tensors.get(index)?.stats;
    return stats !== undefined && stats.nan + stats.inf > 0;
  });
  if (found.length === 0) return nothing;
  const inSamples = model.tensors.some(({ index }) => tensors.get(index)?.sampled !== undefined);
  return html`<p class="note bad">NaN or Inf in ${plural(found.length, 'tensor')}:
      <button type="button" class="link mono" @click=${() => actions.list(found)}>${found[0]?.name}</button>${found.length > 1 ? ' and others' : ''}.
      ${inSamples ? 'Only sampled rows were searched: there may be more. ' : ''}No quantized type holds them.</p>`;
}

function nothingYet(): string {
  const { kind } = sweepState.value;
  if (kind === 'running' || kind === 'off') return 'Measuring\u2026';
  return `No matrix was measured as ${typeName(errorType.value)}.`;
}

function defaultMemory(model: ModelView): number {
  return [2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 512].find((g) => 0.3 * model.bytes < g * GIB) ?? 1024;
}

/** The settings of "Will it fit?". */
interface Room {
  /** Memory in GiB. */
  memory: number;
  /** Tokens of context, for which the cache is counted. */
  context: number;
}

/** Tokens of context that are counted at first. */
const CONTEXT = 4096;

function fits(model: ModelView, room: Signal<Room>, actions: OverviewActions): TemplateResult {
  const { memory, context } = room.value;
  const perToken = cacheBytesPerToken(model);
  const cache = (perToken ?? 0) * context;
  const limit = memory * GIB;
  const set = (key: keyof Room, least: number) => (event: Event) => {
    const value = Number((event.target as HTMLInputElement).value);
    if (value >= least) room.value = { ...room.value, [key]: value };
  };
  const row = (name: string, size: number, bpw: number, error: string) => {
    const left = limit - size - cache;
    return html`<tr>
      <th scope="row">${name}</th><td>${bytes(size)}</td><td>${fixed(bpw, 2)}</td><td>${error}</td>
      <td class=${left >= 0 ? 'fits-yes' : 'fits-no'}>${left >= 0 ? 'yes' : 'no'}<span class="room">, ${left >= 0 ? `${binaryBytes(left)} left` : `${binaryBytes(-left)} too much`}</span></td>
    </tr>`;
  };
  const stored = (8 * model.bytes) / Math.max(1, model.elements);
  return html`<div class="tools">
      <label class="small memory"><span class="soft">Memory in GiB</span>
        <input type="number" min="0.0001" step="any" .value=${String(memory)} @change=${set('memory', 1e-9)} /></label>
      <label class="small memory"><span class="soft">Context in tokens</span>
        <input type="number" min="0" step="1" .value=${String(context)} @change=${set('context', 0)} ?disabled=${perToken === undefined} /></label>
    </div>
    <div class="scroll-x" tabindex="0" role="region" aria-label="Size of each preset">
      <table class="figures-table">
        <thead><tr><th scope="col">Preset</th><th scope="col">Weights</th><th scope="col">bpw</th><th scope="col">Error</th><th scope="col">${perToken === undefined ? 'Weights fit' : 'Fits'}</th></tr></thead>
        <tbody>
          ${row('as stored', model.bytes, stored, model.quantized ? '' : 'none')}
          ${plannedPresets.value.filter((preset) => preset.usual).map((preset) => {
            const found = presetError(preset, model, measured.value);
            return row(preset.name, preset.bytes, preset.bitsPerWeight, found ? marked(found.error, found.sampled) : sweepState.value.kind === 'done' ? '\u2013' : '\u2026');
          })}
        </tbody>
      </table>
    </div>
    ${presetsRefused.value && plannedPresets.value.length === 0 ? html`<p class="small soft">No presets: ${presetsRefused.value}.</p>` : nothing}
    <p class="small soft">
      ${needs(model, perToken, cache, context)} The error is that of the weights, not of the answers.
    </p>
    <button type="button" class="small" @click=${actions.quantize}>Choose and save</button>`;
}

/** What is counted, and what is not. */
function needs({ container }: ModelView, perToken: number | undefined, cache: number, context: number): string {
  const about = container !== 'safetensors' ? '' : 'Weights are planned before names are converted: the plan in Quantize is exact. ';
  if (perToken === undefined) return `${about}Only weights are counted: the size of this model\u2019s cache is not known.`;
  return `${about}Counted with the weights: ${binaryBytes(cache)} for the F16 cache of ${integer(context)} tokens. Buffers of the engine are not.`;
}

function tree(model: ModelView, { treePicture, treeTable, TONES }: Treemap, width: number, byError: boolean, listed: Signal<boolean>, actions: OverviewActions): TemplateResult {
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
      : html`<p class="tree-key small soft">${types.map((name, i) => html`<span class=${`tone-${Math.min(TONES - 1, i)}`}>${name}</span>`)}</p>`}
    <details @toggle=${(event: Event) => (listed.value = (event.target as HTMLDetailsElement).open)}>
      <summary class="small soft">As a table</summary>
      <div class="scroll-x" tabindex="0" role="region" aria-label="Bytes by layer and module, table">${listed.value ? treeTable(model, table, type, choose) : nothing}</div>
    </details>`;
}
