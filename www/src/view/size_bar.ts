// A model as one size bar: every tensor a block, in file order, as wide as its bytes.
import { h } from '../dom';
import { bytes, percent } from '../format';
import { onThemeChange } from '../theme';

export type Tone = 'matrix' | 'vector' | 'made';

export interface Block {
  name: string;
  bytes: number;
  tone: Tone;
}

export interface SizeBar {
  node: HTMLElement;
  show: (blocks: readonly Block[], scale: number) => void;
  mark: (index: number | undefined) => void;
}

const HEIGHT = 34;
const COLOUR: Record<Tone, string> = { matrix: '--stain', vector: '--edge', made: '--rose' };

/** `label` describes the size bar to those who cannot see it; the tables hold the same facts. */
export function sizeBar(label: string, choose?: (index: number) => void): SizeBar {
  const canvas = h('canvas', { role: 'img', 'aria-label': label });
  const under = h('span', { class: 'under', 'aria-hidden': 'true' });
  const node = h('div', {}, canvas);
  let blocks: readonly Block[] = [];
  let scale = 1;
  let marked: number | undefined;
  const draw = () => paint(canvas, blocks, scale, marked);
  const at = (event: MouseEvent) => {
    const box = canvas.getBoundingClientRect();
    return blockAt(blocks, ((event.clientX - box.left) / box.width) * scale);
  };
  canvas.addEventListener('pointermove', (event) => {
    const block = blocks[at(event) ?? -1];
    canvas.title = block ? `${block.name}, ${bytes(block.bytes)}, ${percent(block.bytes, scale)}` : '';
  });
  canvas.addEventListener('click', (event) => {
    const index = at(event);
    if (index !== undefined) choose?.(index);
  });
  new ResizeObserver(draw).observe(canvas);
  onThemeChange(draw);
  node.append(under);
  return {
    node,
    show: (next, whole) => {
      blocks = next;
      scale = Math.max(1, whole);
      draw();
    },
    mark: (index) => {
      marked = index;
      draw();
    },
  };
}

function blockAt(blocks: readonly Block[], position: number): number | undefined {
  let end = 0;
  for (const [i, block] of blocks.entries()) {
    end += block.bytes;
    if (position < end) return i;
  }
  return undefined;
}

function paint(canvas: HTMLCanvasElement, blocks: readonly Block[], scale: number, marked: number | undefined): void {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const pen = canvas.getContext('2d');
  if (!pen || width === 0) return;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(HEIGHT * ratio);
  pen.scale(ratio, ratio);
  pen.fillStyle = colour(canvas, '--sunken');
  pen.fillRect(0, 0, width, HEIGHT);
  const tones = {
    matrix: colour(canvas, COLOUR.matrix),
    vector: colour(canvas, COLOUR.vector),
    made: colour(canvas, COLOUR.made),
  };
  let start = 0;
  for (const [i, block] of blocks.entries()) {
    const [x0, x1] = [(start / scale) * width, ((start + block.bytes) / scale) * width];
    start += block.bytes;
    pen.globalAlpha = marked === undefined || marked === i ? (i % 2 ? 0.78 : 1) : 0.3;
    pen.fillStyle = tones[block.tone];
    // A hairline between blocks, where there is room for one.
    pen.fillRect(x0, 0, Math.max(x1 - x0 - (x1 - x0 > 3 ? 1 : 0), 0.3), HEIGHT);
  }
  pen.globalAlpha = 1;
}

/** Canvases know no custom properties; a probe element resolves one to a colour of the current theme. */
function colour(near: HTMLElement, name: string): string {
  const probe = h('span', { class: 'probe' });
  probe.style.color = `var(${name})`;
  near.after(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
