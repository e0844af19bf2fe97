// The page: which model is open, which view is shown, and what a drop means there.
import { Client, problemOf } from './client';
import { h, replace } from './dom';
import mark from './mark.svg';
import type { ModelView, Picked, Problem, TensorRow } from './protocol';
import { themeButton } from './theme';
import { compareView, type CompareView } from './view/compare';
import { engineChip } from './view/engines';
import { acceptDrops, nameOf, pickFiles } from './view/drop';
import { hero } from './view/hero';
import { planView } from './view/plan';
import { problemNote, warningNotes } from './view/problem';
import { summary } from './view/summary';
import { tensorPanel } from './view/tensor';
import { tensorsView } from './view/tensors';

const VIEWS = ['Tensors', 'Quantize', 'Compare'] as const;
type ViewName = (typeof VIEWS)[number];

const SAMPLE = {
  base: 'sample/',
  name: 'sample model',
  files: ['model.safetensors', 'config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'],
};

const client = new Client();
const main = h('main', { id: 'main', tabindex: -1 });
const notes = h('div', { class: 'notes', 'aria-live': 'polite' });
const views = h('nav', { class: 'views', 'aria-label': 'Views' });
const other = h(
  'button',
  { type: 'button', class: 'quiet', hidden: true, on: { click: () => start() } },
  'Open another',
);
let open: ModelView | undefined;
let current: ViewName = 'Tensors';
let compared: CompareView | undefined;

function shell(): void {
  const brand = h(
    'button',
    { type: 'button', class: 'brand', on: { click: () => start() } },
    h('img', { src: mark, alt: '', width: 30, height: 30 }),
    'Quantoscope',
  );
  const top = h('header', { class: 'top' }, brand, views, h('div', { class: 'end' }, other, themeButton()));
  const foot = h(
    'footer',
    { class: 'foot' },
    h('span', {}, 'Files are read where they are. The policy of this page forbids connections to any other place.'),
    engineChip(client),
  );
  replace(document.querySelector('#app') as Element, top, main, foot);
}

/** The first screen; what was open is let go. */
function start(): ReturnType<typeof hero> {
  letGo();
  other.hidden = true;
  views.replaceChildren();
  document.title = 'Quantoscope';
  const first = hero({
    files: () => void pickFiles(false).then(openFiles),
    folder: () => void pickFiles(true).then(openFiles),
    sample: () =>
      load('Fetching the sample model\u2026', () =>
        client.call('sample', { ...SAMPLE, base: new URL(SAMPLE.base, document.baseURI).href }),
      ),
  });
  replace(main, first.node);
  landing = first;
  return first;
}

let landing: ReturnType<typeof hero> | undefined;

function openFiles(files: Picked[]): void {
  if (files.length > 0) load('Reading headers\u2026', () => client.call('open', { files, name: nameOf(files) }));
}

/** What is open stays open until the next model has been read: a bad file costs nothing. */
function load(label: string, ask: () => Promise<ModelView>): void {
  const say = landing ? landing.busy : busyNote;
  const fail = landing ? landing.fail : failNote;
  say(label);
  ask().then(
    (model) => {
      letGo();
      open = model;
      begin(model);
    },
    (reason: unknown) => fail(problemOf(reason)),
  );
}

function letGo(): void {
  client.cancelAll();
  compared?.close();
  compared = undefined;
  if (open) void client.call('close', { model: open.id });
  open = undefined;
}

function busyNote(label: string): void {
  replace(notes, h('p', { class: 'note', role: 'status' }, label));
}

function failNote(problem: Problem): void {
  replace(notes, problemNote(problem));
}

function begin(model: ModelView): void {
  document.title = `${model.name} \u00b7 Quantoscope`;
  other.hidden = false;
  landing = undefined;
  const pages = buildPages(model);
  const show = (name: ViewName) => {
    current = name;
    notes.replaceChildren();
    for (const [key, page] of pages) page.hidden = key !== name;
    pages.get(name)?.dispatchEvent(new Event('shown'));
    for (const button of views.children) {
      if (button.textContent === name) button.setAttribute('aria-current', 'page');
      else button.removeAttribute('aria-current');
    }
  };
  replace(
    views,
    VIEWS.map((name) => h('button', { type: 'button', on: { click: () => show(name) } }, name)),
  );
  replace(main, notes, [...pages.values()]);
  pages.goCompare = () => show('Compare');
  show('Tensors');
  main.focus({ preventScroll: true });
}

class Pages extends Map<ViewName, HTMLElement> {
  goCompare: () => void = () => {};
}

/** A page that is made when it is first shown: nobody should wait for a plan they did not ask for. */
function lazily(build: () => HTMLElement[]): HTMLElement {
  const page = h('div', { class: 'page' });
  page.addEventListener('shown', () => page.append(...build()), { once: true });
  return page;
}

/** The tab that is chosen says it to those who see; the heading says it to those who listen. */
function heading(what: string, model: ModelView): HTMLElement {
  return h('h1', { class: 'unseen' }, `${what} ${model.name}`);
}

function buildPages(model: ModelView): Pages {
  const pages = new Pages();
  const comparison = compareView(client, model);
  compared = comparison;
  const narrow = matchMedia('(max-width: 1179px)');
  const choose = (t: TensorRow) => {
    panel.show(t);
    tensors.select(t);
    head.strip.mark(t.index);
    if (narrow.matches) panel.node.focus();
  };
  const close = () => {
    tensors.select(undefined);
    head.strip.mark(undefined);
    tensors.node.querySelector<HTMLElement>('.grid')?.focus();
  };
  const panel = tensorPanel(client, model, close);
  const head = summary(model, (index) => {
    const tensor = model.tensors[index];
    if (tensor) choose(tensor);
  });
  const tensors = tensorsView(model, choose, panel.node);
  pages.set('Tensors', h('div', { class: 'page' }, head.node, warningNotes(model.warnings), tensors.node));
  pages.set(
    'Quantize',
    lazily(() => [
      heading('Quantize', model),
      planView(client, model, (files) => {
        pages.goCompare();
        comparison.take(files);
      }),
    ]),
  );
  pages.set('Compare', h('div', { class: 'page' }, heading('Compare', model), comparison.node));
  return pages;
}

shell();
start();
acceptDrops(
  () => (current === 'Compare' && compared ? 'Drop to compare with the open model' : 'Drop to open'),
  (files) => {
    const take = current === 'Compare' && compared ? compared.take : openFiles;
    files.then(take, (reason: unknown) => (landing ? landing.fail : failNote)(problemOf(reason)));
  },
);
