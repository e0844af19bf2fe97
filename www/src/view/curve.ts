// Size and error of every preset: a dot for each, the line of those that no other beats in both, and a slider for a size.
import { computed, effect, signal } from '@preact/signals-core';
import { html, nothing, render, svg, type TemplateResult } from 'lit-html';
import type { Client } from '../client';
import { h } from '../dom';
import { copyButton, pngButton, svgButton, tsv } from '../exports';
import { binaryBytes, bytes, fixed, marked, relative } from '../format';
import { presetError, plannedPresets, planPresets, type PlannedPreset } from '../presets';
import type { ModelView } from '../protocol';
import { catalog, measured, route } from '../store';
import { ROWS } from '../sweep';

export interface Dot extends PlannedPreset {
  error: number;
  /** True if the error is estimated from samples of the rows. */
  sampled: boolean;
  /** True if no other preset is smaller and has a smaller error. */
  best: boolean;
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [720, 300, 64, 36, 14, 84];

/** The presets with an error, largest first. */
export function dots(all: readonly PlannedPreset[], errors: ReadonlyMap<PlannedPreset, ReturnType<typeof presetError>>): Dot[] {
  const known = all.flatMap((preset) => {
    const found = errors.get(preset);
    return found && found.error > 0 ? [{ ...preset, ...found, best: false }] : [];
  });
  const beaten = (dot: Dot) =>
    known.some((o) => o !== dot && o.bytes <= dot.bytes && o.error <= dot.error && (o.bytes < dot.bytes || o.error < dot.error));
  return known.map((dot) => ({ ...dot, best: !beaten(dot) })).sort((a, b) => b.bytes - a.bytes);
}

/** The preset of the smallest error that is not larger than `limit` bytes. */
export function within(all: readonly Dot[], limit: number): Dot | undefined {
  return all.filter((dot) => dot.bytes <= limit).reduce<Dot | undefined>((best, dot) => (best && best.error <= dot.error ? best : dot), undefined);
}

/** `use` chooses a preset in the form. */
export function curveView(client: Client, model: ModelView, use: (preset: string) => void, life: AbortSignal): HTMLElement {
  const limit = signal<number | undefined>(undefined);
  const drawn = computed(() => {
    const table = measured.value;
    return dots(plannedPresets.value, new Map(plannedPresets.value.map((preset) => [preset, presetError(preset, model, table)])));
  });
  const slot = h('div', { class: 'curve-body' });
  const picture = () => slot.querySelector<SVGElement>('svg.curve-picture');
  const caption = `Size and weight error of the presets for ${model.name}`;
  const table = () => tsv(['preset', 'bytes', 'bits_per_weight', 'relative_error', 'sampled_rows'], drawn.value.map((d) => [d.name, d.bytes, d.bitsPerWeight, d.error, d.sampled ? ROWS : undefined]));
  const node = h(
    'section',
    { class: 'curve block', 'aria-label': 'Size and error' },
    h(
      'div',
      { class: 'titled' },
      h('h2', {}, 'Size and error of the presets'),
      h(
        'p',
        { class: 'exports' },
        copyButton('Copy table', table),
        svgButton([model.name, 'presets'], caption, picture),
        pngButton([model.name, 'presets'], picture),
      ),
    ),
    slot,
  );
  const ends = [
    effect(() => {
      if (catalog.value) void planPresets(client, model, catalog.value, life, () => true);
    }),
    effect(() => {
      if (route.value.view !== 'Quantize') return;
      const all = drawn.value;
      node.hidden = all.length < 2;
      if (all.length < 2) return;
      render(body(all, limit.value ?? all[Math.floor(all.length / 2)]?.bytes ?? 0, caption, limit, use), slot);
    }),
  ];
  life.addEventListener('abort', () => ends.forEach((end) => end()));
  return node;
}

function body(all: readonly Dot[], limit: number, caption: string, chosen: { value: number | undefined }, use: (preset: string) => void): TemplateResult {
  const found = within(all, limit);
  const [least, most] = [Math.min(...all.map((d) => d.bytes)), Math.max(...all.map((d) => d.bytes))];
  // The end of the slider is a whole number of steps from its start.
  const step = Math.max(1, Math.round((most - least) / 400));
  const last = least + step * Math.ceil((most - least) / step);
  const slide = (event: Event) => (chosen.value = Number((event.target as HTMLInputElement).value));
  return html`<div class="scroll-x" tabindex="0" role="region" aria-label=${caption}>${picture(all, limit, found, caption, use)}</div>
    <label class="curve-limit small"
      ><span>Weights of at most ${binaryBytes(limit)}</span>
      <input type="range" min=${least} max=${last} step=${step} .value=${String(limit)} @input=${slide}
    /></label>
    <p class="curve-choice" role="status">
      ${found
        ? html`<strong>${found.name}</strong>, ${bytes(found.bytes)}, ${fixed(found.bitsPerWeight, 2)} bits per weight, error ${marked(found.error, found.sampled)}
            <button type="button" class="small" @click=${() => use(found.preset)}>Use ${found.name}</button>`
        : 'No preset is that small.'}
    </p>
    <p class="small soft">Error of the weights, estimated from 64 rows of each matrix; not the quality of the answers. On the line: presets that no other beats in both.</p>
    <details>
      <summary class="small soft">As a table</summary>
      <table class="figures-table">
        <thead><tr><th scope="col">Preset</th><th scope="col">Weights</th><th scope="col">bpw</th><th scope="col">Error</th><th scope="col">On the line</th></tr></thead>
        <tbody>
          ${all.map(
            (d) => html`<tr><th scope="row">${d.name}</th><td>${bytes(d.bytes)}</td><td>${fixed(d.bitsPerWeight, 2)}</td><td>${marked(d.error, d.sampled)}</td><td>${d.best ? 'yes' : ''}</td></tr>`,
          )}
        </tbody>
      </table>
    </details>`;
}

/** The dots whose names have room beside them: the chosen one first, then usual presets, then those on the line. */
function labels(all: readonly Dot[], found: Dot | undefined, x: (size: number) => number, y: (error: number) => number): Set<Dot> {
  const rank = (d: Dot) => (d.preset === found?.preset ? 0 : d.usual ? 1 : d.best ? 2 : 3);
  const placed: Dot[] = [];
  const overlap = (a: Dot, b: Dot) => {
    const [left, right] = x(a.bytes) < x(b.bytes) ? [a, b] : [b, a];
    return Math.abs(y(a.error) - y(b.error)) < 13 && x(right.bytes) - x(left.bytes) < 7 * left.name.length + 8;
  };
  for (const dot of [...all].sort((a, b) => rank(a) - rank(b))) if (!placed.some((other) => overlap(dot, other))) placed.push(dot);
  return new Set(placed);
}

/** Errors are on a logarithmic axis. */
function picture(all: readonly Dot[], limit: number, found: Dot | undefined, caption: string, use: (preset: string) => void): TemplateResult {
  const [sizes, errors] = [all.map((d) => d.bytes), all.map((d) => Math.log(d.error))];
  const [x0, x1, y0, y1] = [Math.min(...sizes), Math.max(...sizes), Math.min(...errors), Math.max(...errors)];
  const x = (size: number) => LEFT + ((size - x0) / Math.max(1, x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const y = (error: number) => TOP + 10 + ((y1 - Math.log(error)) / Math.max(1e-9, y1 - y0)) * (HEIGHT - TOP - BOTTOM - 20);
  const line = all.filter((d) => d.best).map((d, i) => `${i === 0 ? 'M' : 'L'}${x(d.bytes).toFixed(1)} ${y(d.error).toFixed(1)}`).join('');
  const labelled = labels(all, found, x, y);
  const at = Math.max(LEFT, Math.min(WIDTH - RIGHT, x(limit)));
  return html`<svg class="curve-picture" role="img" aria-label=${caption} viewBox="0 0 ${WIDTH} ${HEIGHT}" width=${WIDTH} height=${HEIGHT}>
    <path class="axis" d="M${LEFT - 10} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - 10}"></path>
    <text class="tick" x=${LEFT - 14} y=${y(Math.exp(y1)) + 4} text-anchor="end">${relative(Math.exp(y1))}</text>
    <text class="tick" x=${LEFT - 14} y=${y(Math.exp(y0)) + 4} text-anchor="end">${relative(Math.exp(y0))}</text>
    <text class="tick" x=${x(x0)} y=${HEIGHT - BOTTOM + 18}>${bytes(x0)}</text>
    <text class="tick" x=${x(x1)} y=${HEIGHT - BOTTOM + 18} text-anchor="end">${bytes(x1)}</text>
    <path class="limit" d="M${at} ${TOP}V${HEIGHT - BOTTOM}"></path>
    <path class="pareto" d=${line}></path>
    ${all.map(
      (d) => svg`<g class="curve-dot" @click=${() => use(d.preset)}>
        <title>${d.name}: ${bytes(d.bytes)}, error ${marked(d.error, d.sampled)}</title>
        <circle class=${[d.best ? 'best' : '', d.preset === found?.preset ? 'found' : ''].join(' ')} cx=${x(d.bytes)} cy=${y(d.error)} r=${d.preset === found?.preset ? 7 : 5}></circle>
        ${labelled.has(d) ? svg`<text x=${x(d.bytes) + 9} y=${y(d.error) - 5}>${d.name}</text>` : nothing}
      </g>`,
    )}
  </svg>`;
}
