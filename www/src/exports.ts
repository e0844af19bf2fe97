// Exports: text to the clipboard, a file of JSON or a picture. Nothing leaves the device.
import { h } from './dom';

/** Downloads `content` as a file. */
function save(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  h('a', { href: url, download: name }).click();
  // By then the download has begun, and the address is not needed.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Rows as tab-separated text, with a line of heads. */
export function tsv(heads: readonly string[], rows: readonly (readonly (string | number | null | undefined)[])[]): string {
  const cell = (value: string | number | null | undefined) => String(value ?? '').replace(/[\t\r\n]+/g, ' ');
  return [heads, ...rows].map((row) => row.map(cell).join('\t')).join('\n') + '\n';
}

/** The parts of a file name: the model, and the content of the file. */
type Parts = readonly string[] | (() => readonly string[]);

function fileName(parts: Parts, extension: string): string {
  const words = typeof parts === 'function' ? parts() : parts;
  return `${words.join('-').replace(/[^\w.-]+/g, '-')}.${extension}`;
}

/** Whether the browser allowed the copy. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** A button that copies text, and then shows “Copied”. */
export function copyButton(label: string, text: () => string): HTMLElement {
  const button = h('button', { type: 'button', class: 'quiet small' }, label);
  const said = h('span', { class: 'unseen', role: 'status' });
  button.addEventListener('click', () => {
    void copyText(text()).then((done) => tell(done ? 'Copied' : 'Not copied: the browser did not allow it'));
  });
  const tell = (word: string) => {
    button.textContent = word;
    said.textContent = word;
    setTimeout(() => {
      button.textContent = label;
      said.textContent = '';
    }, 1500);
  };
  return h('span', {}, button, said);
}

/** A button that saves JSON in the schema of the command line. */
export function jsonButton(parts: Parts, value: () => unknown): HTMLElement {
  const click = () => save(fileName(parts, 'json'), new Blob([`${JSON.stringify(value(), replacer, 2)}\n`], { type: 'application/json' }));
  return h('button', { type: 'button', class: 'quiet small', on: { click } }, 'Save JSON');
}

/** Offsets beyond 2^53 are `bigint`; JSON has numbers only. */
function replacer(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

/** A button that saves a picture with its colours and its caption. */
export function svgButton(parts: Parts, caption: string | (() => string), picture: () => SVGElement | null): HTMLElement {
  const click = () => {
    const shown = picture();
    const title = typeof caption === 'function' ? caption() : caption;
    if (shown) save(fileName(parts, 'svg'), new Blob([standalone(shown, title)], { type: 'image/svg+xml' }));
  };
  return h('button', { type: 'button', class: 'quiet small', on: { click } }, 'Save SVG');
}

/** Pixels of a saved picture for each of its units, where the limits of canvases allow so many. */
const PIXELS = 2;
/** Pixels of a side of a canvas, and of its area: what all browsers draw. */
const [MOST_SIDE, MOST_AREA] = [16_384, 1 << 26];

/** A button that saves a picture as PNG, on the colour of the page. */
export function pngButton(parts: Parts, picture: () => SVGElement | null): HTMLElement {
  const click = () => {
    const shown = picture();
    if (shown) void raster(shown).then((image) => image && save(fileName(parts, 'png'), image));
  };
  return h('button', { type: 'button', class: 'quiet small', on: { click } }, 'Save PNG');
}

async function raster(shown: SVGElement): Promise<Blob | null> {
  const { width, height } = (shown as SVGSVGElement).viewBox.baseVal;
  const url = URL.createObjectURL(new Blob([standalone(shown, '')], { type: 'image/svg+xml' }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const pixels = Math.min(PIXELS, MOST_SIDE / width, MOST_SIDE / height, Math.sqrt(MOST_AREA / (width * height)));
    const canvas = h('canvas', { width: Math.floor(width * pixels), height: Math.floor(height * pixels) });
    const pen = canvas.getContext('2d');
    if (!pen) return null;
    pen.fillStyle = getComputedStyle(document.body).backgroundColor;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  } finally {
    URL.revokeObjectURL(url);
  }
}

const STYLES = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-opacity', 'stroke-dasharray', 'opacity', 'font-size', 'font-weight', 'font-family'];

/** Control characters and others that no XML document holds. */
const NOT_XML = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/** The picture without the style sheet: the computed styles are written into it. */
function standalone(shown: SVGElement, caption: string): string {
  const copy = shown.cloneNode(true) as SVGElement;
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  const originals = [...shown.querySelectorAll('*')];
  for (const [i, node] of [...copy.querySelectorAll('*')].entries()) {
    const style = getComputedStyle(originals[i] as Element);
    for (const name of STYLES) node.setAttribute(name, style.getPropertyValue(name));
    node.removeAttribute('class');
  }
  const title = document.createElementNS('http://www.w3.org/2000/svg', 'title');
  title.textContent = caption;
  copy.prepend(title);
  // Names of tensors can hold characters that XML cannot.
  return `${new XMLSerializer().serializeToString(copy).replace(NOT_XML, '\ufffd')}\n`;
}
