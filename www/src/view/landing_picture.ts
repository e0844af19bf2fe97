// The picture of the first screen: a smooth curve, and under the glass the stairs that quantization makes of it.
// An illustration of the idea, not a measurement.
import { h, svg } from '../dom';

const WIDTH = 1440;
const HEIGHT = 340;
const STEP = 26;
const RADIUS = 128;

function wave(x: number): number {
  return 170 - 104 * Math.sin((x - 36) / 205) - 22 * Math.sin(x / 71 + 1.2);
}

function curve(): string {
  let d = '';
  for (let x = 0; x <= WIDTH; x += 6) d += `${d ? 'L' : 'M'}${x} ${wave(x).toFixed(1)}`;
  return d;
}

/** The curve held at the nearest level until it is nearer to the next one. */
function stairs(): string {
  const level = (x: number) => Math.round((wave(x) - STEP / 2) / STEP) * STEP + STEP / 2;
  let d = `M0 ${level(0)}`;
  for (let x = 2; x <= WIDTH; x += 2) if (level(x) !== level(x - 2)) d += `H${x}V${level(x)}`;
  return `${d}H${WIDTH}`;
}

function levels(): SVGElement {
  const group = svg('g', { class: 'levels' });
  for (let y = STEP / 2; y < HEIGHT; y += STEP) group.append(svg('path', { d: `M0 ${y}H${WIDTH}` }));
  return group;
}

function error(smooth: string, stepped: string): SVGElement {
  return svg('path', { class: 'error', 'fill-rule': 'evenodd', d: `${smooth}${reverse(stepped)}Z` });
}

/** Walks the stairs back, so that the two lines enclose the error between them. */
function reverse(stepped: string): string {
  const points: [number, number][] = [];
  let x = 0;
  let y = 0;
  for (const [, command, value] of stepped.matchAll(/([MHV])([\d.-]+(?: [\d.-]+)?)/g)) {
    if (command === 'M') [x, y] = (value ?? '').split(' ').map(Number) as [number, number];
    else if (command === 'H') x = Number(value);
    else y = Number(value);
    points.push([x, y]);
  }
  return points
    .reverse()
    .map(([px, py]) => `L${px} ${py}`)
    .join('');
}

export function landingPicture(): HTMLElement {
  const smooth = curve();
  const stepped = stairs();
  const hole = svg('circle', { r: RADIUS });
  const ring = svg('circle', { class: 'ring', r: RADIUS });
  const handle = svg('path', { class: 'ring', 'stroke-linecap': 'round' });
  const glass = svg(
    'g',
    { 'clip-path': 'url(#glass)' },
    svg('rect', { class: 'glass', width: WIDTH, height: HEIGHT }),
    levels(),
    error(smooth, stepped),
    svg('path', { class: 'curve faint', d: smooth }),
    svg('path', { class: 'steps', d: stepped }),
  );
  const picture = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'xMidYMid slice', 'aria-hidden': 'true' },
    svg('clipPath', { id: 'glass' }, hole),
    svg('path', { class: 'curve', d: smooth }),
    glass,
    ring,
    handle,
  );
  const place = (x: number) => {
    const y = Math.min(Math.max(wave(x), RADIUS + 30), HEIGHT - RADIUS - 30);
    for (const circle of [hole, ring]) {
      circle.setAttribute('cx', x.toFixed(1));
      circle.setAttribute('cy', y.toFixed(1));
    }
    const reach = RADIUS * Math.SQRT1_2;
    handle.setAttribute('d', `M${x + reach + 4} ${y + reach + 4}l46 46`);
  };
  place(WIDTH * 0.47);
  const figure = h('div', { class: 'landing-picture' });
  figure.append(picture);
  figure.addEventListener('pointermove', (event) => place(toPicture(picture, event)));
  return figure;
}

function toPicture(picture: SVGElement, event: PointerEvent): number {
  const matrix = (picture as SVGSVGElement).getScreenCTM();
  return matrix ? new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse()).x : WIDTH / 2;
}
