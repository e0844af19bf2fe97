// The panel of one tensor: its place in the file, the distribution of its values, and its error in each type.
import { apiErrorOf, type Client } from '../client';
import { h, replace, vary, type Child } from '../dom';
import { copyButton, jsonButton, tsv } from '../exports';
import { bytes, fixed, integer, measure as figure, relative, shape } from '../format';
import type { ApiError, EncodingRow, EncodingSize, ModelView, Sampled, StatsView, TensorRow } from '../protocol';
import { measured, takeFigures, type MeasuredError } from '../store';
import { asReport, begun, complete, measure, type Details } from './details';
import { engineNote } from './engines';
import { FULL_ERROR } from './error_type';
import { histogramView } from './histogram';
import { errorNote, warningNotes } from './error_note';
import { cancelled, progressBar, stoppable } from './progress';
import { rotationView } from './rotation';
import { tensorName } from './tensor_name';
import { typeName } from './type_name';

export interface TensorPanel {
  node: HTMLElement;
  show: (tensor: TensorRow) => void;
  /** Shows no tensor. */
  home: () => void;
}

export function tensorPanel(client: Client, model: ModelView, close: () => void): TensorPanel {
  // The panel is focusable, so that the keyboard can scroll it.
  const node = h('section', { class: 'panel', 'aria-label': 'Tensor', tabindex: 0 });
  const seen = new Map<number, Details>();
  let shown: AbortController | undefined;
  const home = () => {
    shown?.abort();
    replace(node, backButton(close), invitation());
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
        const [report] = asReport(details)?.tensors ?? [];
        if (report) takeFigures(tensor.index, report);
        if (current()) parts.draw(details);
      };
      measure(client, model, tensor, details, { signal: stop.signal, progress: bar.part, arrived }).then(
        () => {
          if (!current()) return;
          // The Cancel button is removed: its focus moves to the panel.
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

/** The kurtosis from which outliers are visible on a logarithmic scale only. */
const OUTLIERS = 10;

function backButton(close: () => void): HTMLElement {
  return h('button', { type: 'button', class: 'quiet back', on: { click: close } }, '\u2190 All tensors');
}

/** Before a tensor is chosen. */
function invitation(): HTMLElement {
  const text = 'Select a tensor to see its statistics, histogram and quantization error. The table shows errors that are estimated from 64 rows; the figures here are exact, except for very large tensors.';
  return h('div', { class: 'invite' }, h('h2', {}, 'Select a tensor'), h('p', { class: 'soft' }, text));
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

/** The blocks of the panel. Each is filled when its figures arrive; blocks that are filled keep their state. */
function figuresOf(tensor: TensorRow, model: ModelView, measureAll: () => void, rotation: () => HTMLElement): Parts {
  const slot = () => h('div', { class: 'panel-part' });
  const [errors, rotated, histogram, values, foot] = [slot(), slot(), slot(), slot(), slot()];
  let drawn: Details['values'];
  const draw = (d: Details) => {
    const notes = [tensor.quantized && comparedWith(tensor), d.values?.sampled && sampledNote(d.values.sampled, measureAll)];
    const none = d.run !== undefined && d.values === undefined;
    // A tensor that cannot be measured has a warning with the reason.
    if (none) return replace(errors, warningNotes(d.warnings.slice(-1).map((w) => w.message)));
    const inside = errors.contains(document.activeElement);
    const left = errors.querySelector('.scroll-x')?.scrollLeft ?? 0;
    replace(errors, encodings(d, notes, tensor), exportButtons(d, tensor, model));
    const table = errors.querySelector<HTMLElement>('.scroll-x');
    if (table) table.scrollLeft = left;
    // The focus stays in the table that is drawn again.
    if (inside) (table ?? errors.closest<HTMLElement>('.panel'))?.focus({ preventScroll: true });
    if (d.run) replace(foot, h('p', { class: 'small soft' }, engineNote(d.run)));
    if (!d.values || d.values === drawn) return;
    if (!drawn && tensor.shape.length > 1) replace(rotated, rotation());
    drawn = d.values;
    replace(histogram, drawn.histogram && histogramView(drawn.histogram, tensor.name, model.name, (drawn.stats?.kurtosis ?? 0) > OUTLIERS));
    replace(values, drawn.stats && statistics(drawn.stats));
  };
  return { nodes: [errors, rotated, histogram, values, foot], draw };
}

/** The buttons for copying and saving, once all figures have arrived. */
function exportButtons(d: Details, tensor: TensorRow, model: ModelView): Child {
  if (!complete(d) || d.errors.size === 0) return false;
  const heads = ['type', 'bits_per_weight', 'sqnr_db', 'relative_error', 'rmse', 'max_abs', 'cosine', 'sampled_rows'];
  const rows = () =>
    sizesFirst(d.encodings).map(({ encoding }) => {
      const e = d.errors.get(encoding);
      return [typeName(encoding), e?.bits_per_weight, e?.sqnr_db, e?.relative_error, e?.rmse, e?.max_abs, e?.cosine, d.values?.sampled?.rows];
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

/** The SQNR, or "lossless" where the error is 0. */
function signal(e: EncodingRow): string {
  return e.sqnr_db === undefined && e.rmse === 0 ? 'lossless' : fixed(e.sqnr_db, 1);
}

/** The number of rows that were measured, and a button that measures all of them. */
function sampledNote({ rows, of }: Sampled, measureAll: () => void): HTMLElement {
  return h(
    'p',
    { class: 'small soft sampled' },
    `Estimated from ${integer(rows)} of ${integer(of)} rows, evenly spread. `,
    h('button', { type: 'button', class: 'small', on: { click: measureAll } }, 'Measure all rows'),
  );
}

/** The types with the most bits first. */
function sizesFirst(list: readonly EncodingSize[]): EncodingSize[] {
  return [...list].sort((a, b) => b.bits_per_weight - a.bits_per_weight);
}

/** The message of a refusal, with row and column of the first value that cannot be encoded. */
function refusal({ message, element }: ApiError, { shape: axes }: TensorRow): string {
  const cols = axes[axes.length - 1] ?? 0;
  if (element === undefined || cols === 0) return message;
  const [row, column] = [BigInt(element) / BigInt(cols), BigInt(element) % BigInt(cols)];
  return `${message}: the first one is at row ${integer(row)}, column ${integer(column)}.`;
}

/** A note on the figures of a quantized tensor: they do not include its first quantization error. */
function comparedWith({ dtype }: TensorRow): Child {
  return h('p', { class: 'small soft' }, `Compared with the ${dtype} values in this file, not with the original model.`);
}

/** A row for each type from the start, with the estimate of the sweep until its figures arrive. The bar is the error. */
function encodings(d: Details, notes: Child, tensor: TensorRow): Child {
  if (d.encodings.length === 0) return false;
  const title = 'Quantization error by type';
  const [first] = d.errors.values();
  // A refusal that all types have in common is shown once.
  if (first?.refused && [...d.errors.values()].every((e) => e.refused?.code === first.refused?.code))
    return h(
      'section',
      { class: 'block', 'aria-label': title },
      h('h3', {}, title),
      h('p', { class: 'note bad' }, refusal(first.refused, tensor)),
    );
  const heads = ['Type', 'bpw', 'SQNR (dB)', 'Relative error', 'RMSE', 'Cosine'];
  const known = measured.value.tensors.get(tensor.index)?.errors;
  const rows = sizesFirst(d.encodings).map((size) => {
    const { encoding } = size;
    return encodingRow(size, d.errors.get(encoding), known?.get(encoding));
  });
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

function encodingRow(size: EncodingSize, exact: EncodingRow | undefined, estimate: MeasuredError | undefined): HTMLElement {
  const e = exact ?? estimate;
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
  vary(bar, '--part', Math.min(1, (e.relative_error ?? 0) / FULL_ERROR));
  const mark = exact || !estimate?.sampled ? '' : '\u2248\u2009';
  return h(
    'tr',
    { class: exact ? '' : 'waits estimated', title: `Max abs error ${figure(e.max_abs)}` },
    name,
    bpw,
    h('td', {}, mark, signal(e)),
    h('td', { class: 'lost' }, mark, relative(e.relative_error), bar),
    h('td', {}, figure(e.rmse, 3)),
    h('td', {}, fixed(e.cosine, 6)),
  );
}
