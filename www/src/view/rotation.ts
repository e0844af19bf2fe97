// One tensor with rotation and without: the error of each encoding side by side, and how the values are spread.
import { apiErrorOf, type Client } from '../client';
import { h, replace, svg, uid, type Child } from '../dom';
import { fixed, integer, relative } from '../format';
import type { FrameView, HistogramView, ModelView, RotatedEncoding, RotationReport, StatsView, TensorRow } from '../protocol';
import { bars } from './histogram';
import { errorNote, warningNotes } from './error_note';
import { cancelled, progressBar, stoppable } from './progress';
import { typeName } from './type_name';

const CHOICES: readonly (readonly [string, string])[] = [
  ['none', 'None'],
  ['block:32', 'Block 32'],
  ['block:128', 'Block 128'],
  ['quarot', 'Full'],
];

/** `mine` ends when another tensor is looked at. */
export function rotationView(client: Client, model: ModelView, tensor: TensorRow, mine: AbortSignal): HTMLElement {
  const known = new Map<string, RotationReport>();
  const body = h('div', { class: 'rotation-body' });
  let running = new AbortController();
  mine.addEventListener('abort', () => running.abort());
  const show = (rotation: string) => {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const seen = known.get(rotation);
    if (rotation === 'none') return replace(body);
    if (seen) return replace(body, ...report(seen, tensor));
    const stop = running;
    const bar = progressBar('Rotating values');
    replace(body, stoppable(bar.node, stop));
    client
      .call('rotated', { model: model.id, tensor: tensor.index, rotation }, { signal, progress: bar.show })
      .then((answer) => {
        known.set(rotation, answer);
        if (!signal.aborted) replace(body, ...report(answer, tensor));
      })
      .catch((reason: unknown) => {
        if (mine.aborted || running !== stop) return;
        if (signal.aborted) cancelled(body, () => show(rotation));
        else replace(body, errorNote(apiErrorOf(reason)));
      });
  };
  const group = uid('rotation');
  const options = CHOICES.map(([value, label]) => {
    const input = h('input', { type: 'radio', name: group, value, checked: value === 'none' });
    input.addEventListener('change', () => show(value));
    return h('label', { class: 'segment' }, input, h('span', {}, label));
  });
  return h(
    'section',
    { class: 'block', 'aria-label': 'Hadamard rotation (QuaRot)' },
    h('h3', {}, 'Hadamard rotation (QuaRot)'),
    h(
      'fieldset',
      { class: 'segments' },
      h('legend', { class: 'small soft' }, 'Preview: error if this tensor were Hadamard-rotated'),
      options,
    ),
    h('div', { 'aria-live': 'polite' }, body),
  );
}

function report(r: RotationReport, tensor: TensorRow): Child[] {
  const [found] = r.tensors;
  const [frame] = found?.frames ?? [];
  if (!found || !frame) return [warningNotes(r.warnings.slice(-1).map((w) => w.message))];
  if (frame.absent) return [h('p', { class: 'small soft' }, `Not rotated: ${frame.absent}.`)];
  // The lines of each rotation come first; of one tensor they say no more than the table.
  const words = r.summary.words.slice(r.rotations.length);
  return [
    h('p', { class: 'small soft' }, how(frame)),
    errors(found.encodings, frame.rotation),
    words.map((line) => h('p', { class: 'small' }, line)),
    warningNotes(r.warnings.filter((w) => w.code === 'not_by_rules').map((w) => w.message)),
    h(
      'div',
      { class: 'beside' },
      spread('As stored', tensor.name, found.histogram, found.stats),
      spread('Rotated', `${tensor.name}, rotated`, frame.histogram, frame.stats),
    ),
  ];
}

function how(frame: FrameView): string {
  const side = frame.along === 'rows' ? 'Rotated on the output side' : 'Rotated on the input side';
  const gain = frame.folded
    ? '; RMSNorm weight folded in'
    : frame.by_rules
      ? ''
      : '; no rules for this model, so norm weights are not folded in';
  const part = frame.weights === undefined ? '' : ` Estimated from ${integer(frame.weights)} of its weights.`;
  return `${side}${gain}. Errors are relative to the (rotated) tensor itself.${part}`;
}

/** Each row has a scale of its own: what counts is which bar is shorter, and where the mark is. */
function errors(list: readonly RotatedEncoding[], rotation: string): HTMLElement {
  const row = (e: RotatedEncoding) => {
    const rotated = e.rotated.find((r) => r.rotation === rotation);
    const name = h('th', { scope: 'row' }, h('span', { class: 'tag made' }, typeName(e.encoding)));
    const refused = e.refused ?? rotated?.refused;
    if (refused)
      return h('tr', {}, name, h('td', { class: 'refused', colspan: 5 }, h('code', {}, refused.code), ' ', refused.message));
    const gain = rotated?.gain_db;
    const tone = gain === undefined || Math.abs(gain) <= 0.5 ? 'num' : gain > 0 ? 'num gain' : 'num loss';
    return h(
      'tr',
      {},
      name,
      h('td', { class: 'pair' }, pair(e.relative_error, rotated?.relative_error, e.floor)),
      h('td', {}, relative(e.relative_error)),
      h('td', {}, relative(rotated?.relative_error)),
      h('td', {}, relative(e.floor)),
      h('td', { class: tone }, gain === undefined ? '\u2013' : `${gain > 0 ? '+' : ''}${fixed(gain, 2)}`),
    );
  };
  const heads = ['Type', 'Error', 'As stored', 'Rotated', 'Gaussian limit', 'SQNR gain (dB)'];
  return h(
    'figure',
    { class: 'rotation-errors' },
    h(
      'figcaption',
      { class: 'keys small soft' },
      h('span', { class: 'key stored' }, 'as stored'),
      h('span', { class: 'key rotated' }, 'rotated'),
      h('span', { class: 'key floor' }, 'Gaussian limit: error of this type on normal data, the best rotation can reach'),
    ),
    h(
      'div',
      { class: 'scroll-x', tabindex: 0, role: 'region', 'aria-label': 'Error as stored and rotated, table' },
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
        h('tbody', {}, [...list].sort((a, b) => b.bits_per_weight - a.bits_per_weight).map(row)),
      ),
    ),
  );
}

const WIDTH = 100;

function pair(stored = 0, rotated = 0, floor = 0): SVGElement {
  const most = Math.max(stored, rotated, floor, Number.MIN_VALUE);
  const at = (x: number) => ((x / most) * (WIDTH - 2)).toFixed(2);
  return svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} 14`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('path', { class: 'stored', d: `M0 1h${at(stored)}v5H0Z` }),
    svg('path', { class: 'rotated', d: `M0 8h${at(rotated)}v5H0Z` }),
    floor > 0 && svg('path', { class: 'floor', d: `M${at(floor)} 0V14`, 'vector-effect': 'non-scaling-stroke' }),
  );
}

function spread(title: string, name: string, histogram: HistogramView | undefined, stats: StatsView | undefined): HTMLElement {
  return h(
    'figure',
    {},
    h('figcaption', { class: 'small' }, title, h('span', { class: 'soft num' }, ` kurtosis ${fixed(stats?.kurtosis, 2)}`)),
    histogram && h('div', { class: 'histogram low' }, bars(histogram, false, name)),
  );
}
