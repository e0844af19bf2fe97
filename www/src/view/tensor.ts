// One tensor: what it is, how its values are spread, and what each encoding would cost it.
import { apiErrorOf, type Client } from '../client';
import { h, replace, vary, type Child } from '../dom';
import { copyButton, jsonButton, tsv } from '../exports';
import { bytes, fixed, integer, measure as figure, relative, shape } from '../format';
import type { ApiError, EncodingRow, EncodingSize, ModelView, Sampled, StatsView, TensorRow } from '../protocol';
import { asReport, begun, complete, measure, type Details } from './details';
import { engineNote } from './engines';
import { histogramView } from './histogram';
import { errorNote, warningNotes } from './error_note';
import { cancelled, progressBar, stoppable } from './progress';
import { rotationView } from './rotation';
import { tensorName } from './tensors';
import { typeName } from './type_name';

export interface TensorPanel {
  node: HTMLElement;
  show: (tensor: TensorRow) => void;
  /** Files and metadata of the model, as before a tensor was chosen. */
  home: () => void;
}

export function tensorPanel(client: Client, model: ModelView, close: () => void): TensorPanel {
  // It can be scrolled with the keyboard.
  const node = h('section', { class: 'panel', 'aria-label': 'Tensor', tabindex: 0 });
  const seen = new Map<number, Details>();
  let shown: AbortController | undefined;
  const home = () => {
    shown?.abort();
    replace(node, backButton(close), invitation(model));
  };
  const show = (tensor: TensorRow) => {
    shown?.abort();
    shown = new AbortController();
    const mine = shown.signal;
    const status = h('div', {});
    const parts = figuresOf(tensor, model, () => start(begun(true)), () => rotationView(client, model, tensor, mine));
    replace(node, head(tensor, model, close), h('div', { class: 'panel-body' }, status, parts.nodes));
    node.scrollTop = 0;
    let running: AbortController | undefined;
    const start = (details: Details) => {
      // Of two runs, the later one is shown.
      running?.abort();
      seen.set(tensor.index, details);
      const stop = (running = new AbortController());
      const current = () => !mine.aborted && running === stop;
      mine.addEventListener('abort', () => stop.abort());
      parts.draw(details);
      if (complete(details)) return;
      const bar = progressBar('Measuring');
      replace(status, stoppable(bar.node, stop));
      const arrived = () => {
        if (current()) parts.draw(details);
      };
      measure(client, model, tensor, details, { signal: stop.signal, progress: bar.part, arrived }).then(
        () => {
          if (!current()) return;
          // The focus of a Cancel that goes away stays in the panel.
          if (status.contains(document.activeElement)) node.focus({ preventScroll: true });
          replace(status);
        },
        (reason: unknown) => {
          if (!current()) return;
          if (stop.signal.aborted) cancelled(status, () => start(details));
          else replace(status, errorNote(apiErrorOf(reason)));
        },
      );
    };
    start(seen.get(tensor.index) ?? begun(false));
  };
  home();
  return { node, show, home };
}

function backButton(close: () => void): HTMLElement {
  return h('button', { type: 'button', class: 'quiet back', on: { click: close } }, '\u2190 All tensors');
}

/** Before a tensor is chosen: what else the headers said. */
function invitation(model: ModelView): HTMLElement {
  const lines = (title: string, pairs: readonly (readonly [string, string])[]) =>
    pairs.length > 0 &&
    h(
      'section',
      { class: 'block' },
      h('h3', {}, title),
      h(
        'dl',
        { class: 'pairs' },
        pairs.map(([k, v]) => [h('dt', {}, k), h('dd', {}, v)]),
      ),
    );
  return h(
    'div',
    { class: 'invite' },
    h('h2', {}, 'Select a tensor'),
    h(
      'p',
      { class: 'soft' },
      'Select a tensor to see its statistics, histogram and quantization error. Weights are read only then.',
    ),
    lines(
      'Files',
      model.files.map((f) => [f.name, bytes(f.bytes)] as const),
    ),
    lines('Metadata', model.metadata),
  );
}

function head(tensor: TensorRow, model: ModelView, close: () => void): HTMLElement {
  const file = model.files[tensor.file]?.name;
  const facts = [tensor.dtype, shape(tensor.shape), `${integer(tensor.elements)} parameters`, bytes(tensor.bytes)];
  return h(
    'div',
    { class: 'panel-head' },
    backButton(close),
    h('h2', { class: 'mono' }, tensorName(tensor.name)),
    h('p', { class: 'soft small num' }, facts.join(' \u00b7 ')),
    h(
      'p',
      { class: 'soft small num' },
      `bytes ${integer(tensor.offset)} to ${integer(tensor.offset + tensor.bytes)}${file ? ` of ${file}` : ''}`,
    ),
  );
}

interface Parts {
  nodes: HTMLElement[];
  draw: (details: Details) => void;
}

/** The blocks of the panel. Each is filled when its figures arrive; what is there already keeps its state. */
function figuresOf(tensor: TensorRow, model: ModelView, measureAll: () => void, rotation: () => HTMLElement): Parts {
  const slot = () => h('div', { class: 'panel-part' });
  const [errors, rotated, histogram, values, foot] = [slot(), slot(), slot(), slot(), slot()];
  let drawn: Details['values'];
  const draw = (d: Details) => {
    const notes = [tensor.quantized && comparedWith(tensor), d.values?.sampled && sampledNote(d.values.sampled, measureAll)];
    const none = d.run !== undefined && d.values === undefined;
    // A tensor that cannot be measured has a warning that says why.
    if (none) return replace(errors, warningNotes(d.warnings.slice(-1).map((w) => w.message)));
    const inside = errors.contains(document.activeElement);
    const left = errors.querySelector('.scroll-x')?.scrollLeft ?? 0;
    replace(errors, encodings(d, notes, tensor), takeAway(d, tensor, model));
    const table = errors.querySelector<HTMLElement>('.scroll-x');
    if (table) table.scrollLeft = left;
    // The focus stays in what was drawn again.
    if (inside) (table ?? errors.closest<HTMLElement>('.panel'))?.focus({ preventScroll: true });
    if (d.run) replace(foot, h('p', { class: 'small soft' }, engineNote(d.run)));
    if (!d.values || d.values === drawn) return;
    if (!drawn && tensor.shape.length > 1) replace(rotated, rotation());
    drawn = d.values;
    replace(histogram, drawn.histogram && histogramView(drawn.histogram, tensor.name, model.name));
    replace(values, drawn.stats && statistics(drawn.stats));
  };
  return { nodes: [errors, rotated, histogram, values, foot], draw };
}

/** Once all figures are there. */
function takeAway(d: Details, tensor: TensorRow, model: ModelView): Child {
  if (!complete(d) || d.errors.size === 0) return false;
  const heads = ['type', 'bits_per_weight', 'sqnr_db', 'relative_error', 'rmse', 'max_abs', 'cosine'];
  const rows = () =>
    sizesFirst(d.encodings).map(({ encoding }) => {
      const e = d.errors.get(encoding);
      return [typeName(encoding), e?.bits_per_weight, e?.sqnr_db, e?.relative_error, e?.rmse, e?.max_abs, e?.cosine];
    });
  return h(
    'p',
    { class: 'exports' },
    copyButton('Copy table', () => tsv(heads, rows())),
    jsonButton([model.name, tensor.name], () => asReport(d)),
  );
}

function statistics(s: StatsView): HTMLElement {
  const facts: [string, string, boolean?][] = [
    ['mean', figure(s.mean)],
    ['std', figure(s.std)],
    ['kurtosis', figure(s.kurtosis)],
    ['min', figure(s.min)],
    ['max', figure(s.max)],
    ['absmax', figure(s.absmax)],
    ['zeros', integer(s.zeros)],
    ['NaN', integer(s.nan), s.nan > 0],
    ['Inf', integer(s.inf), s.inf > 0],
  ];
  return h(
    'section',
    { class: 'block', 'aria-label': 'Statistics' },
    h('h3', {}, 'Statistics'),
    h(
      'dl',
      { class: 'facts' },
      facts.map(([name, value, bad]) =>
        h('div', {}, h('dt', {}, name), h('dd', { class: bad ? 'num bad' : 'num' }, value)),
      ),
    ),
    s.asymmetry !== undefined && symmetry(s.asymmetry, s.worth_asymmetric ?? false),
  );
}

function symmetry(value: number, worth: boolean): HTMLElement {
  const advice = worth
    ? 'Rows are not centred on 0: asymmetric types (Q4_1) fit better than symmetric ones (Q4_0)'
    : 'Rows are centred on 0: symmetric types (Q4_0) fit as well as asymmetric ones (Q4_1)';
  return h('p', { class: 'small soft' }, `${advice}: mean |row mean| is ${fixed(100 * value, 2)}\u2009% of absmax.`);
}

/** Where there is no noise, no ratio is shown. */
function signal(e: EncodingRow): string {
  return e.sqnr_db === undefined && e.rmse === 0 ? 'lossless' : fixed(e.sqnr_db, 1);
}

/** Which part of the tensor was measured, and the way to measure the rest. */
function sampledNote({ rows, of }: Sampled, measureAll: () => void): HTMLElement {
  return h(
    'p',
    { class: 'small soft sampled' },
    `Estimated from ${integer(rows)} of ${integer(of)} rows, evenly spread. `,
    h('button', { type: 'button', class: 'small', on: { click: measureAll } }, 'Measure all rows'),
  );
}

/** From the largest to the smallest. */
function sizesFirst(list: readonly EncodingSize[]): EncodingSize[] {
  return [...list].sort((a, b) => b.bits_per_weight - a.bits_per_weight);
}

/** Where the first value lies that no type holds. */
function refusal({ message, element }: ApiError, { shape: axes }: TensorRow): string {
  const cols = axes[axes.length - 1] ?? 0;
  if (element === undefined || cols === 0) return message;
  const [row, column] = [BigInt(element) / BigInt(cols), BigInt(element) % BigInt(cols)];
  return `${message}: the first one is at row ${integer(row)}, column ${integer(column)}.`;
}

/** The figures of a quantized tensor say nothing about the original model. */
function comparedWith({ dtype }: TensorRow): Child {
  return h('p', { class: 'small soft' }, `Compared with the ${dtype} values in this file, not with the original model.`);
}

/** A row for each type from the start, filled as its figures arrive. The bar is the signal kept, up to 60 dB: more makes no visible difference. */
function encodings(d: Details, notes: Child, tensor: TensorRow): Child {
  if (d.encodings.length === 0) return false;
  const title = 'Quantization error by type';
  const [first] = d.errors.values();
  // The same refusal eleven times says no more than once.
  if (first?.refused && [...d.errors.values()].every((e) => e.refused?.code === first.refused?.code))
    return h(
      'section',
      { class: 'block', 'aria-label': title },
      h('h3', {}, title),
      h('p', { class: 'note bad' }, refusal(first.refused, tensor)),
    );
  const heads = ['Type', 'bpw', 'SQNR (dB)', 'Relative error', 'RMSE', 'Cosine'];
  const rows = sizesFirst(d.encodings).map((size) => encodingRow(size, d.errors.get(size.encoding)));
  return h(
    'section',
    { class: 'block', 'aria-label': title, 'aria-busy': complete(d) ? undefined : 'true' },
    h('h3', {}, title),
    h(
      'div',
      { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': `${title}, table` },
      h(
        'table',
        { class: 'figures-table' },
        h('thead', {}, h('tr', {}, heads.map((text) => h('th', { scope: 'col' }, text)))),
        h('tbody', {}, rows),
      ),
    ),
    notes,
  );
}

function encodingRow(size: EncodingSize, e: EncodingRow | undefined): HTMLElement {
  const name = h('th', { scope: 'row' }, h('span', { class: 'tag made' }, typeName(size.encoding)));
  if (e?.refused)
    return h(
      'tr',
      {},
      name,
      h('td', { class: 'refused', colspan: 5 }, h('code', {}, e.refused.code), ' ', e.refused.message),
    );
  const bpw = h('td', {}, fixed(size.bits_per_weight, 2));
  if (!e) return h('tr', { class: 'waits' }, name, bpw, h('td', { colspan: 4 }, '\u2026'));
  const bar = h('span', { class: 'bar rose', 'aria-hidden': 'true' });
  vary(bar, '--part', Math.max(0, Math.min(1, (e.sqnr_db ?? 60) / 60)));
  return h(
    'tr',
    { title: `Max abs error ${figure(e.max_abs)}` },
    name,
    bpw,
    h('td', { class: 'signal' }, signal(e), bar),
    h('td', {}, relative(e.relative_error)),
    h('td', {}, figure(e.rmse, 3)),
    h('td', {}, fixed(e.cosine, 6)),
  );
}
