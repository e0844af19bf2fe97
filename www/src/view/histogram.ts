// The histogram of a tensor's values. On the logarithmic scale, single outliers are visible.
import { h, replace, svg } from '../dom';
import { svgButton } from '../exports';
import { integer, measure } from '../format';
import type { HistogramView } from '../protocol';

const WIDTH = 480;
const HEIGHT = 170;

/** `log`: the scale to begin with. */
export function histogramView(histogram: HistogramView, name: string, model: string, log: boolean): HTMLElement {
  const picture = h('div', { class: 'histogram' });
  const button = h('button', { type: 'button', class: 'quiet small', 'aria-pressed': String(log) }, 'Log scale');
  const draw = () => replace(picture, bars(histogram, log, name));
  button.addEventListener('click', () => {
    log = !log;
    button.setAttribute('aria-pressed', String(log));
    draw();
  });
  draw();
  return h(
    'section',
    { class: 'block', 'aria-label': 'Distribution of values' },
    h('div', { class: 'block-head' }, h('h3', {}, 'Values'), h('span', {}, svgButton([model, name, 'histogram'], describe(histogram, name), () => picture.querySelector('svg')), button)),
    picture,
    h('details', {}, h('summary', { class: 'small soft' }, 'As a table'), table(histogram)),
  );
}

/** The bars, with the values at both ends below them. */
export function bars(histogram: HistogramView, log: boolean, name: string): Node[] {
  const height = (n: number) => (log ? Math.log10(1 + n) : n);
  const top = Math.max(1e-9, ...histogram.counts.map(height));
  const step = WIDTH / histogram.counts.length;
  const gap = step > 3 ? 0.6 : 0;
  let d = '';
  histogram.counts.forEach((n, i) => {
    if (n === 0) return;
    // A bin that is not empty is at least one unit high.
    const y = HEIGHT - Math.max(1, (height(n) / top) * (HEIGHT - 4));
    d += `M${(i * step).toFixed(2)} ${HEIGHT}V${y.toFixed(2)}h${(step - gap).toFixed(2)}V${HEIGHT}Z`;
  });
  const zero = (-histogram.lo / (histogram.hi - histogram.lo)) * WIDTH;
  const picture = svg(
    'svg',
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: 'none',
      role: 'img',
      'aria-label': describe(histogram, name),
    },
    svg('path', { class: 'bars', d }),
    zero > 0 &&
      zero < WIDTH &&
      svg('path', { class: 'zero', d: `M${zero} 0V${HEIGHT}`, 'vector-effect': 'non-scaling-stroke' }),
  );
  const ends = h(
    'div',
    { class: 'ends num' },
    h('span', {}, measure(histogram.lo, 3)),
    h('span', {}, measure(histogram.hi, 3)),
  );
  return [picture, ends];
}

function describe(histogram: HistogramView, name: string): string {
  const most = histogram.counts.indexOf(Math.max(...histogram.counts));
  const width = (histogram.hi - histogram.lo) / histogram.counts.length;
  const [from, to] = [histogram.lo + most * width, histogram.lo + (most + 1) * width];
  return `Histogram of ${name}: from ${measure(histogram.lo, 3)} to ${measure(histogram.hi, 3)}, fullest between ${measure(from, 3)} and ${measure(to, 3)}`;
}

/** The histogram as a table of at most sixteen rows. */
function table(histogram: HistogramView): HTMLElement {
  const group = Math.max(1, Math.ceil(histogram.counts.length / 16));
  const width = (histogram.hi - histogram.lo) / histogram.counts.length;
  const rows: HTMLElement[] = [];
  for (let i = 0; i < histogram.counts.length; i += group) {
    const part = histogram.counts.slice(i, i + group);
    const n = part.reduce((sum, c) => sum + c, 0);
    const end = histogram.lo + (i + part.length) * width;
    rows.push(
      h(
        'tr',
        {},
        h('td', {}, measure(histogram.lo + i * width, 3)),
        h('td', {}, measure(end, 3)),
        h('td', {}, integer(n)),
      ),
    );
  }
  const head = h(
    'tr',
    {},
    ['From', 'To', 'Values'].map((text) => h('th', { scope: 'col' }, text)),
  );
  return h('table', { class: 'figures-table' }, h('thead', {}, head), h('tbody', {}, rows));
}
