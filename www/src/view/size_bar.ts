// A model as one size bar: every tensor a block, in file order, as wide as its bytes.
import { h, vary } from '../dom';
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

/** `label` describes the size bar to those who cannot see it; the tables hold the same facts. With `choose`, a block is chosen by mouse or keyboard. */
export function sizeBar(label: string, choose?: (index: number) => void): SizeBar {
  const canvas = h('canvas', choose ? { role: 'slider', tabindex: 0, 'aria-label': label } : { role: 'img', 'aria-label': label });
  const tip = h('p', { class: 'tip small', 'aria-hidden': 'true', hidden: true });
  const node = h('div', { class: 'bar-and-tip' }, canvas, tip);
  let blocks: readonly Block[] = [];
  let scale = 1;
  let marked: number | undefined;
  /** The block that the pointer or the keyboard is at. */
  let at: number | undefined;
  const draw = () => paint(canvas, blocks, scale, at ?? marked);
  const reach = (index: number | undefined) => {
    at = index;
    const block = blocks[index ?? -1];
    tip.hidden = !block;
    if (block) {
      const text = `${block.name}, ${bytes(block.bytes)}, ${percent(block.bytes, scale)}`;
      tip.textContent = text;
      vary(tip, '--at', middle(blocks, index ?? 0) / scale);
      if (choose) canvas.setAttribute('aria-valuetext', text);
    }
    draw();
  };
  const under = (event: MouseEvent) => {
    const box = canvas.getBoundingClientRect();
    return blockAt(blocks, ((event.clientX - box.left) / box.width) * scale);
  };
  const now = (index: number) => {
    canvas.setAttribute('aria-valuenow', String(index + 1));
    reach(index);
  };
  canvas.addEventListener('pointermove', (event) => reach(under(event)));
  canvas.addEventListener('pointerleave', () => reach(undefined));
  if (choose) {
    canvas.addEventListener('click', (event) => {
      const index = under(event);
      if (index !== undefined) choose(index);
    });
    canvas.addEventListener('focus', () => now(marked ?? 0));
    canvas.addEventListener('blur', () => reach(undefined));
    canvas.addEventListener('keydown', (event) => {
      const from = at ?? marked ?? 0;
      const to = ({ ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: blocks.length - 1 } as Record<string, number>)[event.key];
      if (to !== undefined) now(Math.max(0, Math.min(blocks.length - 1, to)));
      else if (event.key === 'Enter' || event.key === ' ') choose(from);
      else return;
      event.preventDefault();
    });
  }
  new ResizeObserver(draw).observe(canvas);
  onThemeChange(draw);
  return {
    node,
    show: (next, whole) => {
      blocks = next;
      scale = Math.max(1, whole);
      if (choose) {
        canvas.setAttribute('aria-valuemin', '1');
        canvas.setAttribute('aria-valuemax', String(Math.max(1, next.length)));
        canvas.setAttribute('aria-valuenow', '1');
        canvas.setAttribute('aria-valuetext', next[0]?.name ?? '');
      }
      draw();
    },
    mark: (index) => {
      marked = index;
      draw();
    },
  };
}

/** Where the middle of a block lies, in bytes. */
function middle(blocks: readonly Block[], index: number): number {
  let start = 0;
  for (let i = 0; i < index; i += 1) start += blocks[i]?.bytes ?? 0;
  return start + (blocks[index]?.bytes ?? 0) / 2;
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
