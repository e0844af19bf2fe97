// Progress bars of running work.
import { h, replace, vary } from '../dom';
import { bytes } from '../format';
import type { Progress } from '../protocol';

export interface ProgressBar {
  node: HTMLElement;
  show: (p: Progress) => void;
  /** Shows a part from 0 to 1 alone, of work that is done in several runs. */
  part: (part: number) => void;
}

export function progressBar(label: string): ProgressBar {
  const bar = h('div', {
    class: 'bar tall',
    role: 'progressbar',
    'aria-label': label,
    'aria-valuemin': 0,
    'aria-valuemax': 100,
  });
  const text = h('p', { class: 'soft small num' }, `${label}\u2026`);
  const fill = (part: number) => {
    vary(bar, '--part', part);
    bar.setAttribute('aria-valuenow', String(Math.round(100 * part)));
  };
  const show = (p: Progress) => {
    fill(p.total > 0 ? p.done / p.total : 0);
    const far = `${bytes(p.done)} of ${bytes(p.total)}${whose(p)}`;
    replace(text, h('span', { class: 'progress-label' }, `${p.label}, `), far);
  };
  return { node: h('div', { class: 'progress' }, bar, text), show, part: fill };
}

/** A bar with its Cancel. */
export function stoppable(bar: HTMLElement, stop: AbortController): HTMLElement {
  const cancel = h('button', { type: 'button', on: { click: () => stop.abort() } }, 'Cancel');
  return h('div', { class: 'running' }, bar, cancel);
}

/** Shows that the work was cancelled, and a button that begins it again, which takes the focus of Cancel. */
export function cancelled(place: Element, again: () => void, label = 'Measure'): void {
  const button = h('button', { type: 'button', on: { click: again } }, label);
  replace(place, h('p', { class: 'note', role: 'status' }, 'Cancelled.'), h('div', { class: 'act' }, button));
  button.focus({ preventScroll: true });
}

function whose({ device, restarted }: Progress): string {
  if (restarted) return ', restarted on the CPU: the GPU produced wrong bytes';
  return device ? ', with WebGPU' : '';
}
