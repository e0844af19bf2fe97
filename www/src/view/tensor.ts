// One tensor: what it is, how its values are spread, and what each encoding would cost it.
import { apiErrorOf, type Client } from '../client';
import { h, replace, vary, type Child } from '../dom';
import { bytes, fixed, integer, measure, relative, shape } from '../format';
import type { ApiError, EncodingRow, JobResult, ModelView, StatsReport, StatsView, TensorRow } from '../protocol';
import { engineNote } from './engines';
import { histogramView } from './histogram';
import { errorNote, warningNotes } from './error_note';
import { cancelled, progressBar, stoppable } from './progress';
import { rotationView } from './rotation';
import { tensorName } from './tensors';
import { typeName } from './type_name';

type Report = JobResult<StatsReport>;

export interface TensorPanel {
  node: HTMLElement;
  show: (tensor: TensorRow) => void;
  /** Files and metadata of the model, as before a tensor was chosen. */
  home: () => void;
}

export function tensorPanel(client: Client, model: ModelView, close: () => void): TensorPanel {
  // It can be scrolled with the keyboard.
  const node = h('section', { class: 'panel', 'aria-label': 'Tensor', tabindex: 0 });
  const seen = new Map<number, Report>();
  let running: AbortController | undefined;
  const home = () => {
    running?.abort();
    replace(node, backButton(close), invitation(model));
  };
  const show = (tensor: TensorRow) => {
    running?.abort();
    running = new AbortController();
    const mine = running.signal;
    const body = h('div', { class: 'panel-body' });
    replace(node, head(tensor, model, close), body);
    node.scrollTop = 0;
    const known = seen.get(tensor.index);
    const tell = (answer: Report) =>
      replace(body, report(answer, tensor, () => rotationView(client, model, tensor, mine)));
    if (known) return tell(known);
    const measure = async (stop: AbortController) => {
      mine.addEventListener('abort', () => stop.abort());
      const bar = progressBar('Reading values');
      replace(body, stoppable(bar.node, stop));
      try {
        const ask = { model: model.id, tensor: tensor.index };
        const answer = await client.call('measure', ask, { signal: stop.signal, progress: bar.show });
        seen.set(tensor.index, answer);
        if (!mine.aborted) tell(answer);
      } catch (reason) {
        if (mine.aborted) return;
        if (stop.signal.aborted) cancelled(body, () => void measure(new AbortController()));
        else replace(body, errorNote(apiErrorOf(reason)));
      }
    };
    void measure(new AbortController());
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

/** A tensor that cannot be measured has no report but a warning that says why. */
function report(r: Report, tensor: TensorRow, rotation: () => HTMLElement): Child[] {
  // Of a large tensor, the types that search are a second entry: a sample of its rows.
  const [found, part] = r.tensors;
  if (!found) return [warningNotes(r.warnings.slice(-1).map((w) => w.message))];
  return [
    encodings(
      [...(found.encodings ?? []), ...(part?.encodings ?? [])],
      [
        tensor.quantized && comparedWith(tensor),
        part?.sampled && sampledNote(part.sampled, part.encodings ?? []),
      ],
      tensor,
    ),
    warningNotes(r.warnings.filter((w) => w.code === 'row_too_long').map((w) => w.message)),
    tensor.shape.length > 1 && rotation(),
    found.histogram && histogramView(found.histogram, tensor.name),
    found.stats && statistics(found.stats),
    h('p', { class: 'small soft' }, engineNote(r.run)),
  ];
}

function statistics(s: StatsView): HTMLElement {
  const facts: [string, string, boolean?][] = [
    ['mean', measure(s.mean)],
    ['std', measure(s.std)],
    ['kurtosis', measure(s.kurtosis)],
    ['min', measure(s.min)],
    ['max', measure(s.max)],
    ['absmax', measure(s.absmax)],
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

/** Which figures are of a part of the tensor, and of how much of it. */
function sampledNote({ rows, of }: { rows: number; of: number }, list: readonly EncodingRow[]): HTMLElement {
  const names = list.map((e) => typeName(e.encoding)).join(', ');
  return h(
    'p',
    { class: 'small soft' },
    `Estimated from ${integer(rows)} of ${integer(of)} rows for K- and IQ-types (${names}); \u201cquantoscope sweep\u201d measures all rows.`,
  );
}

/** From the largest to the smallest, the better of two equals first. */
function byBits(a: EncodingRow, b: EncodingRow): number {
  return b.bits_per_weight - a.bits_per_weight || (b.sqnr_db ?? 0) - (a.sqnr_db ?? 0);
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

/** The bar is the signal kept, up to 60 dB: more makes no visible difference. */
function encodings(list: readonly EncodingRow[], note: Child, tensor: TensorRow): Child {
  if (list.length === 0) return false;
  const [first] = list;
  // The same refusal eleven times says no more than once.
  if (first?.refused && list.every((e) => e.refused?.code === first.refused?.code))
    return h(
      'section',
      { class: 'block', 'aria-label': 'Quantization error by type' },
      h('h3', {}, 'Quantization error by type'),
      h('p', { class: 'note bad' }, refusal(first.refused, tensor)),
    );
  const heads = ['Type', 'bpw', 'SQNR (dB)', 'Relative error', 'RMSE', 'Cosine'];
  const row = (e: EncodingRow) => {
    const name = h('th', { scope: 'row' }, h('span', { class: 'tag made' }, typeName(e.encoding)));
    if (e.refused)
      return h(
        'tr',
        {},
        name,
        h('td', { class: 'refused', colspan: 5 }, h('code', {}, e.refused.code), ' ', e.refused.message),
      );
    const bar = h('span', { class: 'bar rose', 'aria-hidden': 'true' });
    vary(bar, '--part', Math.max(0, Math.min(1, (e.sqnr_db ?? 60) / 60)));
    return h(
      'tr',
      { title: `Max abs error ${measure(e.max_abs)}` },
      name,
      h('td', {}, fixed(e.bits_per_weight, 2)),
      h('td', { class: 'signal' }, signal(e), bar),
      h('td', {}, relative(e.relative_error)),
      h('td', {}, measure(e.rmse, 3)),
      h('td', {}, fixed(e.cosine, 6)),
    );
  };
  return h(
    'section',
    { class: 'block', 'aria-label': 'Quantization error by type' },
    h('h3', {}, 'Quantization error by type'),
    h(
      'div',
      { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': 'Quantization error by type, table' },
      h(
        'table',
        { class: 'figures-table' },
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            heads.map((text) => h('th', { scope: 'col' }, text)),
          ),
        ),
        h('tbody', {}, [...list].sort(byBits).map(row)),
      ),
    ),
    note,
  );
}
