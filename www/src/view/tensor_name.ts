// The name of a tensor in a table, and a share with its bar.
import { h, vary } from '../dom';

/** The number of a layer or expert, or its place in a pattern. */
const NUMBER = /^(\d+|#)$/;

/**
 * A name of which numbers always show: layer and expert tell the rows apart. Where it is too wide, what comes before the
 * first number is elided first, then the words between numbers; the last part stays.
 */
export function tensorName(name: string, second?: string): HTMLElement {
  const end = /\.(weight|bias)$/.exec(name)?.[0] ?? '';
  const path = name.slice(0, name.length - end.length).split('.');
  const last = path.pop() ?? '';
  const number = path.findIndex((part) => NUMBER.test(part));
  const part = (kind: string, text: string) => text !== '' && h('span', { class: kind, 'aria-hidden': 'true' }, text);
  const dotted = (parts: readonly string[]) => parts.map((p) => `${p}.`).join('');
  // Boxes would be read as so many words, so the name is said once, whole.
  const line = h(
    'span',
    { class: 'whole', title: name },
    h('span', { class: 'unseen' }, name),
    number < 0 && part('path', dotted(path)),
    number >= 0 && part('path head', dotted(path.slice(0, number))),
    number >= 0 && runs(path.slice(number)).map((run) => part(run.number ? 'number' : 'path', dotted(run.parts))),
    part('tail', last),
    part('tail end', end),
  );
  return second === undefined ? line : h('span', {}, line, h('span', { class: 'second' }, second));
}

/** Parts of a path, numbers apart from words. */
function runs(path: readonly string[]): { number: boolean; parts: string[] }[] {
  const found: { number: boolean; parts: string[] }[] = [];
  for (const part of path) {
    const number = NUMBER.test(part);
    const open = found.at(-1);
    if (open?.number === number) open.parts.push(part);
    else found.push({ number, parts: [part] });
  }
  return found;
}

/** Bars are drawn against the largest part, so that they differ; the number is the share of the whole. */
export function share(part: number, text: string): HTMLElement {
  const bar = h('span', { class: 'bar', 'aria-hidden': 'true' });
  vary(bar, '--part', part);
  return h('span', { class: 'share' }, bar, h('span', { class: 'num right' }, text));
}
