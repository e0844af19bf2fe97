// What a person takes away: text to the clipboard, a file of JSON or a picture. Nothing leaves the device.
import { h } from './dom';

/** Downloads `text` as a file. */
function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: url, download: name }).click();
  // The download has begun by then; the address is no more needed.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Rows as tab-separated text, with a line of heads. */
export function tsv(heads: readonly string[], rows: readonly (readonly (string | number | null | undefined)[])[]): string {
  const cell = (value: string | number | null | undefined) => String(value ?? '').replace(/[\t\r\n]+/g, ' ');
  return [heads, ...rows].map((row) => row.map(cell).join('\t')).join('\n') + '\n';
}

/** A name for a file: of the model and of what the file holds. */
function fileName(parts: readonly string[], extension: string): string {
  return `${parts.join('-').replace(/[^\w.-]+/g, '-')}.${extension}`;
}

/** A button that copies text, and says so. */
export function copyButton(label: string, text: () => string): HTMLElement {
  const button = h('button', { type: 'button', class: 'quiet small' }, label);
  const said = h('span', { class: 'unseen', role: 'status' });
  button.addEventListener('click', () => {
    const copied = async () => navigator.clipboard.writeText(text());
    copied().then(
      () => tell('Copied'),
      () => tell('Not copied: the browser did not allow it'),
    );
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
export function jsonButton(parts: readonly string[], value: () => unknown): HTMLElement {
  const click = () => save(fileName(parts, 'json'), 'application/json', `${JSON.stringify(value(), replacer, 2)}\n`);
  return h('button', { type: 'button', class: 'quiet small', on: { click } }, 'Save JSON');
}

/** Offsets beyond 2^53 are `bigint`, which JSON has no form for but that of a number. */
function replacer(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

/** A button that saves a picture with its colours and its caption. */
export function svgButton(parts: readonly string[], caption: string, picture: () => SVGElement | null): HTMLElement {
  const click = () => {
    const shown = picture();
    if (shown) save(fileName(parts, 'svg'), 'image/svg+xml', standalone(shown, caption));
  };
  return h('button', { type: 'button', class: 'quiet small', on: { click } }, 'Save SVG');
}

const STYLES = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'opacity'];

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
  return `${new XMLSerializer().serializeToString(copy)}\n`;
}
