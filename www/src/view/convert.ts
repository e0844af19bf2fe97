// Quantizing: the button, where the result goes, progress, cancel, and what was written.
import { problemOf, type Client } from '../client';
import { h, replace } from '../dom';
import { bytes, integer, plural, seconds } from '../format';
import type { ConvertReport, ModelView, Picked, PlanView, Progress, Recipe, Saved, Target } from '../protocol';
import { engineNote } from './engines';
import { problemNote } from './problem';
import { progressBar } from './progress';

/** The parts of the file system API that only some browsers have. */
interface Pickers {
  showSaveFilePicker?: (options: { suggestedName: string }) => Promise<FileSystemFileHandle>;
  showDirectoryPicker?: (options: { mode: 'readwrite' }) => Promise<FileSystemDirectoryHandle>;
}

/** What else happens once it is done. */
export interface After {
  measured: (report: ConvertReport) => void;
  compare: (files: Picked[]) => void;
}

export function conversion(
  client: Client,
  model: ModelView,
  recipe: Recipe,
  plan: PlanView,
  after: After,
): HTMLElement {
  const node = h('section', { class: 'convert', 'aria-label': 'Quantize and save' });
  const idle = (said: HTMLElement | null) => {
    const go = h(
      'button',
      { type: 'button', class: 'primary', on: { click: () => void begin() } },
      'Quantize and save',
    );
    replace(
      node,
      h('div', { class: 'act' }, go, h('span', { class: 'soft small' }, place(recipe, plan))),
      said ?? command(model, recipe),
    );
  };
  const begin = async () => {
    const name = outputName(model, recipe);
    const target = await askTarget(recipe, name).catch(() => null);
    if (!target) return;
    const stop = new AbortController();
    const bar = timedBar(recipe.type ?? recipe.mix ?? '.q4');
    const cancel = h('button', { type: 'button', on: { click: () => stop.abort() } }, 'Cancel');
    replace(node, h('div', { class: 'running' }, bar.node, cancel));
    cancel.focus();
    addEventListener('beforeunload', askBeforeLeaving);
    client
      .call('convert', { model: model.id, recipe, name, target }, { signal: stop.signal, progress: bar.show })
      .then((saved) => {
        after.measured(saved.report);
        idle(outcome(saved, name, after.compare));
      })
      .catch((reason: unknown) => idle(stop.signal.aborted ? stopped() : problemNote(problemOf(reason))))
      .finally(() => removeEventListener('beforeunload', askBeforeLeaving));
  };
  idle(null);
  return node;
}

/** The same work for a script: the page and the command line write the same bytes. */
function command(model: ModelView, recipe: Recipe): HTMLElement {
  const words = [
    'quantoscope quantize',
    model.name.includes(' ') ? 'MODEL' : model.name,
    '-o',
    outputName(model, recipe).replace(/\.tar$/, ''),
  ];
  if (recipe.to !== 'gguf') words.push('--to', recipe.to);
  if (recipe.type) words.push('--type', recipe.type.toLowerCase());
  if (recipe.mix) words.push('--recipe', recipe.mix);
  if (recipe.q4_scheme === 'sym') words.push('--q4-scheme sym');
  if (recipe.pure) words.push('--pure');
  if (recipe.allow_requantize) words.push('--allow-requantize');
  if (recipe.allow_nonfinite) words.push('--allow-nonfinite');
  return h('p', { class: 'small soft command' }, 'The same bytes from a terminal: ', h('code', {}, words.join(' ')));
}

/** Leaving the page would throw away what has been written so far. */
function askBeforeLeaving(event: BeforeUnloadEvent): void {
  event.preventDefault();
}

function stopped(): HTMLElement {
  return h('p', { class: 'note', role: 'status' }, 'Stopped. Nothing was kept.');
}

function outputName(model: ModelView, recipe: Recipe): string {
  const stem = model.name.replace(/\.(safetensors|gguf|index\.json)$/i, '').replace(/[^\w.-]+/g, '-') || 'model';
  if (recipe.to === 'q4') return `${stem}-q4-${recipe.q4_scheme}.tar`;
  return `${stem}-${(recipe.mix ?? recipe.type ?? '').toLowerCase()}.${recipe.to}`;
}

/** Tells beforehand where the result will go; the browser decides what is possible. */
function place(recipe: Recipe, plan: PlanView): string {
  const pickers = window as Pickers;
  if (recipe.to !== 'q4')
    return pickers.showSaveFilePicker ? 'You choose where it is saved.' : 'It is saved as a download.';
  const files = plural(plan.files.length, 'file');
  return pickers.showDirectoryPicker
    ? `${files}, into a folder that you choose.`
    : `${files}, downloaded as one .tar archive.`;
}

async function askTarget(recipe: Recipe, name: string): Promise<Target> {
  const pickers = window as Pickers;
  if (recipe.to === 'q4' && pickers.showDirectoryPicker)
    return { kind: 'directory', handle: await pickers.showDirectoryPicker({ mode: 'readwrite' }) };
  if (recipe.to !== 'q4' && pickers.showSaveFilePicker)
    return { kind: 'file', handle: await pickers.showSaveFilePicker({ suggestedName: name }) };
  return { kind: 'private' };
}

function timedBar(type: string): { node: HTMLElement; show: (p: Progress) => void } {
  const bar = progressBar(`Quantizing to ${type}`);
  const begun = performance.now();
  const rate = h('p', { class: 'soft small num' });
  return {
    node: h('div', { class: 'running-bar' }, bar.node, rate),
    show: (p) => {
      bar.show(p);
      const gone = (performance.now() - begun) / 1000;
      // A rate from the first moments would jump about.
      if (gone < 0.7 || p.done === 0) return;
      const left = ((p.total - p.done) * gone) / p.done;
      rate.textContent = `${bytes(p.done / gone)}/s, about ${seconds(left)} left`;
    },
  };
}

function outcome(saved: Saved, name: string, compare: (files: Picked[]) => void): HTMLElement {
  const node = h(
    'div',
    { class: 'note good saved', role: 'status' },
    h(
      'p',
      {},
      h('strong', {}, saved.file ? 'Ready to download' : 'Saved'),
      `, ${integer(saved.bytes)} bytes in ${seconds(saved.seconds)}.`,
      h('span', { class: 'small engine-note' }, engineNote(saved.report.run)),
    ),
  );
  const act = h('p', { class: 'act' });
  if (saved.file) act.append(download(saved.file, name));
  if (saved.written.length > 0)
    act.append(h('button', { type: 'button', on: { click: () => compare(saved.written) } }, 'Compare with the source'));
  node.append(act);
  return node;
}

/** Starts the download, and leaves the link for those whose browser asked first. */
function download(file: File, name: string): HTMLElement {
  const link = h('a', { href: URL.createObjectURL(file), download: name }, `Download ${name}`);
  queueMicrotask(() => link.click());
  return link;
}
