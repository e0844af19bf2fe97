// The error map: layers times modules, coloured by the error of the chosen type, with a table of the same figures.
import { computed, effect, signal } from '@preact/signals-core';
import { html, nothing, render, svg, type TemplateResult } from 'lit-html';
import { h } from '../dom';
import { copyButton, pngButton, svgButton, tsv } from '../exports';
import { integer, marked, plural, relative } from '../format';
import type { ModelView, TensorRow } from '../protocol';
import { errorType, measured, route, sweepState, type MeasuredTable } from '../store';
import { colourAt, errorColour, inkOn, scaleOf, SHARED, type ErrorScale } from './colour_scale';
import { typeSelect } from './error_type';
import { errorMap, errorsOf, type Cell, type ErrorMap, type MeanError } from './map_cells';
import { typeName } from './type_name';

/** Widths and heights of the picture, in its own units. */
const [LEFT, TOP, WIDTH, HEIGHT] = [56, 96, 76, 22];
/** Width of a character of a row's name. */
const CHARACTER = 6.6;

export interface MapActions {
  open: (tensor: TensorRow) => void;
  /** Shows several tensors in the table. */
  list: (tensors: readonly TensorRow[]) => void;
}

export function mapView(model: ModelView, actions: MapActions, life: AbortSignal): HTMLElement {
  const shared = signal(false);
  const map = computed(() => errorMap(model, measured.value, errorType.value));
  const scale = computed(() => (shared.value ? SHARED : scaleOf(errorsOf(map.value))));
  const choose = (cell: Cell) => {
    const [only] = cell.tensors;
    if (cell.tensors.length === 1 && only) actions.open(only);
    else actions.list(cell.tensors);
  };
  const slot = h('div', { class: 'map-body' });
  const picture = () => slot.querySelector<SVGElement>('svg.map');
  const caption = () => `Relative error of ${typeName(errorType.value)} in ${model.name}, layers by modules`;
  const name = () => [model.name, 'map', errorType.value];
  const tools = h(
    'div',
    { class: 'tools' },
    typeSelect('Error as', life),
    sharedBox(shared),
    h(
      'span',
      { class: 'exports' },
      copyButton('Copy table', () => tableText(map.value, measured.value, errorType.value)),
      svgButton(name, caption, picture),
      pngButton(name, picture),
    ),
  );
  const end = effect(() => {
    if (route.value.view !== 'Map') return;
    const drawn = map.value;
    if (drawn.rows.length === 0 && drawn.outside.length === 0) render(html`<p class="soft">This model has no matrices.</p>`, slot);
    else render(body(drawn, scale.value, caption(), choose), slot);
  });
  life.addEventListener('abort', end);
  return h('div', { class: 'map-view' }, tools, slot);
}

function sharedBox(shared: { value: boolean }): HTMLElement {
  const input = h('input', { type: 'checkbox' });
  input.addEventListener('change', () => (shared.value = input.checked));
  return h('label', { class: 'check small' }, input, 'One scale for all types');
}

function body(map: ErrorMap, scale: ErrorScale, caption: string, choose: (cell: Cell) => void): TemplateResult {
  const worst = [...map.rows.flatMap((row) => [...row.cells.values()])].reduce<Cell | undefined>(
    (most, cell) => ((cell.error ?? 0) > (most?.error ?? 0) ? cell : most),
    undefined,
  );
  return html`<p class="small">
      ${worst
        ? html`Largest: <button type="button" class="link mono" @click=${() => choose(worst)}>${worst.tensors[0]?.name}</button>,
            ${figure(worst)}${worst.tensors.length > 1 ? ` (mean of ${integer(worst.tensors.length)})` : ''}.`
        : unmeasured()}
      A click on a cell opens its tensor.
    </p>
    <div class="scroll-x map-scroll" tabindex="0" role="region" aria-label="Error map">${picture(map, scale, caption, choose)}</div>
    ${legend(scale)} ${outside(map, scale, choose)}
    <details>
      <summary class="small soft">As a table</summary>
      <div class="scroll-x" tabindex="0" role="region" aria-label="Error map, table">${table(map, choose)}</div>
    </details>`;
}

/** Why there is no figure. */
function unmeasured(): string {
  const name = typeName(errorType.value);
  return sweepState.value.kind === 'done' ? `No tensor was measured as ${name}: rows must divide by its block.` : 'Nothing was measured yet.';
}

function picture(map: ErrorMap, scale: ErrorScale, caption: string, choose: (cell: Cell) => void): TemplateResult {
  const { modules, rows, means } = map;
  const longest = Math.max(0, ...[...rows, ...means].map(({ name }) => name.length));
  const left = Math.max(LEFT, Math.ceil(longest * CHARACTER) + 16);
  const [width, height] = [left + WIDTH * (modules.length + 1) + 8, TOP + HEIGHT * (rows.length + means.length) + 8];
  const x = (column: number) => left + WIDTH * column;
  const y = (row: number) => TOP + HEIGHT * row;
  const head = (text: string, column: number) => {
    const [cx, cy] = [x(column) + 12, TOP - 8];
    return svg`<text class="map-head" x=${cx} y=${cy} transform="rotate(-24 ${cx} ${cy})">${text}</text>`;
  };
  const label = (name: string, row: number) => svg`<text class="map-layer" x=${left - 8} y=${y(row) + 15} text-anchor="end">${name}</text>`;
  const mean = (of: MeanError | undefined, column: number, row: number) =>
    svg`<text class="map-mean" x=${x(column) + WIDTH / 2} y=${y(row) + 15} text-anchor="middle">${of?.error === undefined ? '' : figure(of)}</text>`;
  return html`<svg class="map" role="img" aria-label=${caption} viewBox="0 0 ${width} ${height}" width=${width} height=${height}>
    <defs>
      <pattern id="estimated" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
        <path d="M0 0V6" stroke="#fff" stroke-opacity="0.28" stroke-width="1.5"></path>
      </pattern>
    </defs>
    ${modules.map(head)} ${head('Mean', modules.length)}
    ${rows.map((row, r) => [
      label(row.name, r),
      ...modules.map((module, m) => {
        const cell = row.cells.get(module);
        return cell ? cellOf(cell, `Layer ${row.name}, ${module}`, x(m), y(r), scale, choose) : nothing;
      }),
      mean(row.mean, modules.length, r),
    ])}
    ${means.map((stack, s) => [
      label(stack.name, rows.length + s),
      ...modules.map((module, m) => mean(stack.modules.get(module), m, rows.length + s)),
    ])}
  </svg>`;
}

/** A figure in words, with its mark. */
function figure({ error, sampled }: MeanError): string {
  return marked(error, sampled);
}

function cellOf(cell: Cell, what: string, x: number, y: number, scale: ErrorScale, choose: (cell: Cell) => void): TemplateResult {
  const { error, sampled, tensors } = cell;
  const several = tensors.length > 1 ? `, mean of ${integer(tensors.length)} tensors` : '';
  const tip = `${what}${several}: ${error === undefined ? 'not measured' : relative(error)}${sampled ? ', estimated' : ''}`;
  const [w, hgt] = [WIDTH - 2, HEIGHT - 2];
  const fill = error === undefined ? 'none' : errorColour(error, scale);
  return svg`<g class="map-cell" @click=${() => choose(cell)}>
    <title>${tip}</title>
    <rect class=${error === undefined ? 'unmeasured' : ''} x=${x} y=${y} width=${w} height=${hgt} rx="2" fill=${fill}></rect>
    ${sampled && error !== undefined ? svg`<rect x=${x} y=${y} width=${w} height=${hgt} rx="2" fill="url(#estimated)"></rect>` : nothing}
    ${error === undefined ? nothing : svg`<text class="map-figure" x=${x + w / 2} y=${y + 14} text-anchor="middle" fill=${inkOn(error, scale)}>${relative(error)}</text>`}
  </g>`;
}

function legend({ lo, hi }: ErrorScale): TemplateResult {
  const steps = Array.from({ length: 32 }, (_, i) => i);
  return html`<p class="map-legend small soft">
    <span>${relative(lo)}</span>
    <svg viewBox="0 0 160 10" width="160" height="10" aria-hidden="true">
      ${steps.map((i) => svg`<rect x=${i * 5} y="0" width="5.2" height="10" fill=${colourAt(i / 31)}></rect>`)}
    </svg>
    <span>${relative(hi)} relative error</span>
    <span class="hatched">hatched: estimated from some rows</span>
  </p>`;
}

function outside(map: ErrorMap, scale: ErrorScale, choose: (cell: Cell) => void): TemplateResult | typeof nothing {
  if (map.outside.length === 0) return nothing;
  const shown = map.outside.slice(0, 12);
  const rest = map.outside.length - shown.length;
  const swatch = (cell: Cell) =>
    cell.error === undefined
      ? nothing
      : html`<svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" fill=${errorColour(cell.error, scale)}></rect></svg>`;
  return html`<div class="map-outside small">
    <span class="soft">Outside the layers:</span>
    ${shown.map(
      ({ name, cell }) =>
        html`<button type="button" class="quiet small" @click=${() => choose(cell)}>
          ${swatch(cell)} <span class="mono">${name}</span> ${figure(cell)}
        </button>`,
    )}
    ${rest > 0 ? html`<span class="soft">and ${plural(rest, 'more tensor')}</span>` : nothing}
  </div>`;
}

function table(map: ErrorMap, choose: (cell: Cell) => void): TemplateResult {
  const cell = (found: Cell | undefined) =>
    found
      ? html`<td><button type="button" class="link" @click=${() => choose(found)}>${figure(found)}</button></td>`
      : html`<td></td>`;
  return html`<table class="figures-table">
    <thead><tr><th scope="col">Layer</th>${map.modules.map((m) => html`<th scope="col">${m}</th>`)}<th scope="col">Mean</th></tr></thead>
    <tbody>
      ${map.rows.map(
        (row) =>
          html`<tr><th scope="row">${row.name}</th>${map.modules.map((m) => cell(row.cells.get(m)))}<td>${figure(row.mean)}</td></tr>`,
      )}
      ${map.means.map(
        ({ name, modules }) =>
          html`<tr><th scope="row">${name}</th>${map.modules.map((m) => html`<td>${meanFigure(modules.get(m))}</td>`)}<td></td></tr>`,
      )}
    </tbody>
  </table>`;
}

/** Nothing for modules that a stack does not have. */
function meanFigure(of: MeanError | undefined): string {
  return of === undefined ? '' : figure(of);
}

/** A row for each cell; `sampled_rows` is empty for exact figures. */
function tableText(map: ErrorMap, table: MeasuredTable, type: string): string {
  const line = (layer: string, module: string, { tensors, error }: Cell) => {
    const rows = tensors.flatMap(({ index }) => table.tensors.get(index)?.errors.get(type)?.sampled?.rows ?? []);
    return [layer, module, error, tensors.length, rows.length > 0 ? rows.reduce((sum, n) => sum + n, 0) : undefined];
  };
  const inner = map.rows.flatMap((row) => [...row.cells].map(([module, cell]) => line(row.name, module, cell)));
  const outer = map.outside.map(({ name, cell }) => line('', name, cell));
  return tsv(['layer', 'module', 'relative_error', 'tensors', 'sampled_rows'], [...inner, ...outer]);
}
