// The page: which model is open, which view is shown, and what a drop means there.
import { Client, apiErrorOf } from './client';
import { h, replace } from './dom';
import { Jobs } from './jobs';
import mark from './mark.svg';
import type { Failure, ModelView, OpenOptions, Picked, TensorRow } from './protocol';
import { remember, remembered, type Recent } from './recent';
import { go, parse, type Route, type ViewName } from './route';
import { themeButton } from './theme';
import { confirmStop } from './view/confirm_stop';
import { compareView, type CompareView } from './view/compare';
import { engineChip } from './view/engines';
import { acceptDrops, EMPTY, filesBehind, handlesOf, nameOf, pickFiles } from './view/drop';
import { landing, type Landing } from './view/landing';
import { jobBar } from './view/jobs';
import { planView } from './view/plan';
import { errorNote, warningNotes, type Again } from './view/error_note';
import { summary } from './view/summary';
import { tensorPanel } from './view/tensor';
import { tensorsView } from './view/tensors';

const VIEWS: readonly ViewName[] = ['Tensors', 'Quantize', 'Compare'];

/** How long the keyboard rests on a row before its tensor is shown. */
const FOLLOW_MS = 250;

const SAMPLE = {
  base: 'sample/',
  name: 'sample model',
  files: ['model.safetensors', 'config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'],
};

const client = new Client();
const jobs = new Jobs(client);
const main = h('main', { id: 'main', tabindex: -1 });
const notes = h('div', { class: 'notes', 'aria-live': 'polite' });
const views = h('nav', { class: 'views', 'aria-label': 'Views' });
const other = h(
  'button',
  { type: 'button', class: 'quiet', hidden: true, on: { click: () => void leave() } },
  'Open another',
  h('span', { class: 'longer' }, ' model'),
);
let open: ModelView | undefined;
let current: ViewName = 'Tensors';
let compared: CompareView | undefined;
/** Ends when the open model is closed. */
let life = new AbortController();
let title = 'Quantoscope';
const bar = jobBar(jobs, {
  mayCompare: ({ model }) => model.id === open?.id,
  compare: (files) => {
    goCompare();
    compared?.take(files);
  },
  focusElsewhere: () => {
    const go = main.querySelector<HTMLElement>('.page:not([hidden]) .convert .primary');
    (go ?? main).focus({ preventScroll: true });
  },
});
let goCompare: () => void = () => {};
/** Shows what a route asks for in the open model. */
let goTo: (route: Route) => void = () => {};

function shell(): void {
  const brand = h(
    'button',
    { type: 'button', class: 'brand', on: { click: () => void leave() } },
    h('img', { src: mark, alt: '', width: 30, height: 30 }),
    'Quantoscope',
  );
  const top = h('header', { class: 'top' }, brand, views, h('div', { class: 'end' }, other, themeButton()));
  const foot = h(
    'footer',
    { class: 'foot' },
    h('span', {}, 'Files stay on your device: this page cannot connect to any other server (CSP).'),
    engineChip(client),
  );
  replace(document.querySelector('#app') as Element, top, bar.node, main, foot);
  jobs.watch(retitle);
}

/** The title shows the progress of the running conversion, for tabs in the background. */
function retitle(): void {
  const { part } = jobs;
  const text = part === undefined ? title : `${Math.floor(100 * part)} % \u00b7 ${title}`;
  if (document.title !== text) document.title = text;
}

/** Back to the first screen, unless a conversion is to be kept running. */
async function leave(): Promise<boolean> {
  if (!(await confirmStop(jobs))) return false;
  go(undefined);
  start().node.querySelector('button')?.focus({ preventScroll: true });
  return true;
}

/** What the address asks for, in the open model; what was asked of one that is not open is kept for it. */
function follow(): void {
  const route = parse(location.hash);
  if (open && route) return goTo(route);
  if (open) void leave().then((left) => left || !open || go({ view: current }));
  else start();
}

/** The sentence for a link that was opened without its model. */
function wanted(): string | undefined {
  const route = parse(location.hash);
  if (!route) return undefined;
  const what = route.tensor === undefined ? `the view \u201c${route.view}\u201d of a model` : `the tensor ${route.tensor}`;
  return `This link shows ${what}. Open its model to go there.`;
}

/** The first screen; what was open is closed. */
function start(): Landing {
  letGo();
  other.hidden = true;
  views.replaceChildren();
  title = 'Quantoscope';
  retitle();
  const last = recent;
  const link = wanted();
  const first = landing({
    ...(last && { again: { name: last.name, open: () => reopen(last) } }),
    ...(link !== undefined && { wanted: link }),
    files: () => pick(false),
    folder: () => pick(true),
    sample: () =>
      load('Fetching the sample model\u2026', () =>
        client.call('sample', { ...SAMPLE, base: new URL(SAMPLE.base, document.baseURI).href }),
      ),
  });
  replace(main, first.node);
  shown = first;
  return first;
}

let shown: Landing | undefined;

function pick(directory: boolean): void {
  pickFiles(directory).then((files) => openFiles(files), (reason: unknown) => fail(apiErrorOf(reason)));
}

/** What was opened last in this browser. */
let recent: Recent | undefined;

function reopen({ handles }: Recent): void {
  filesBehind(handles).then(
    (files) => (files ? openFiles(files) : fail({ code: 'io', message: 'the browser was not allowed to read the files again' })),
    (reason: unknown) => fail(apiErrorOf(reason)),
  );
}

/** `files` are those of a picker that was closed, where they are `null`. */
function openFiles(files: Picked[] | null, options: OpenOptions = {}): void {
  if (files === null) return;
  if (files.length === 0) return fail(EMPTY);
  const again = (more: OpenOptions) => openFiles(files, { ...options, ...more });
  const ask = { files, name: nameOf(files, options), ...options };
  const opened = async () => {
    const model = await client.call('open', ask);
    const handles = handlesOf(files);
    if (handles.length > 0) {
      recent = { name: nameOf(files), handles };
      void remember(recent);
    }
    return model;
  };
  load('Reading headers\u2026', opened, again);
}

function fail(error: Failure, again?: Again): void {
  if (shown) shown.fail(error, again);
  else replace(notes, errorNote(error, again));
}

/** What is open stays open until the next model has been read: a bad file costs nothing, and stops nothing. */
function load(label: string, ask: () => Promise<ModelView>, again?: Again): void {
  const mine = (asked += 1);
  const say = shown ? shown.busy : busyNote;
  say(label);
  ask().then(
    async (model) => {
      // What was asked for last is opened.
      if (mine !== asked) return client.call('close', { model: model.id });
      if (!(await confirmStop(jobs))) {
        notes.replaceChildren();
        return client.call('close', { model: model.id });
      }
      // The address was of the model before.
      if (open) go({ view: current }, true);
      letGo();
      open = model;
      return begin(model);
    },
    (reason: unknown) => {
      if (mine === asked) fail(apiErrorOf(reason), again);
    },
  );
}

/** Counts openings, and what ends them. */
let asked = 0;

function letGo(): void {
  asked += 1;
  jobs.cancelAll();
  client.cancelAll();
  life.abort();
  life = new AbortController();
  compared?.close();
  compared = undefined;
  if (open) void client.call('close', { model: open.id });
  open = undefined;
  goCompare = () => {};
  goTo = () => {};
  bar.refresh();
}

function busyNote(label: string): void {
  replace(notes, h('p', { class: 'note', role: 'status' }, label));
}

function begin(model: ModelView): void {
  title = `${model.name} \u00b7 Quantoscope`;
  retitle();
  bar.refresh();
  other.hidden = false;
  shown = undefined;
  const { pages, showTensor, shownTensor } = buildPages(model);
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
  const visit = (name: ViewName) => {
    show(name);
    go({ view: name, ...(name === 'Tensors' && nameOfShown(shownTensor())) });
  };
  replace(
    views,
    VIEWS.map((name) => h('button', { type: 'button', on: { click: () => visit(name) } }, name)),
  );
  replace(main, notes, [...pages.values()]);
  goCompare = () => visit('Compare');
  goTo = ({ view, tensor }) => {
    show(view);
    if (view === 'Tensors') showTensor(tensor);
  };
  const asked = parse(location.hash);
  goTo(asked ?? { view: 'Tensors' });
  go({ view: current, ...(current === 'Tensors' && nameOfShown(shownTensor())) }, asked !== undefined);
  main.focus({ preventScroll: true });
}

function nameOfShown(tensor: TensorRow | undefined): { tensor: string } | undefined {
  return tensor && { tensor: tensor.name };
}

/** A page that is made when it is first shown: a plan is not computed before it is wanted. */
function lazily(build: () => HTMLElement[]): HTMLElement {
  const page = h('div', { class: 'page' });
  page.addEventListener('shown', () => page.append(...build()), { once: true });
  return page;
}

/** The tab that is chosen says it to those who see; the heading says it to those who listen. */
function heading(what: string, model: ModelView): HTMLElement {
  return h('h1', { class: 'unseen' }, `${what} ${model.name}`);
}

interface Pages {
  pages: Map<ViewName, HTMLElement>;
  /** Shows a tensor by name, or none. */
  showTensor: (name: string | undefined) => void;
  shownTensor: () => TensorRow | undefined;
}

function buildPages(model: ModelView): Pages {
  const pages = new Map<ViewName, HTMLElement>();
  const comparison = compareView(client, model);
  compared = comparison;
  const narrow = matchMedia('(max-width: 1179px)');
  let shownTensor: TensorRow | undefined;
  /** `again`: the entry of the history is replaced, as for rows that the keyboard passes. */
  const choose = (t: TensorRow, again = false) => {
    reveal(t);
    go({ view: 'Tensors', tensor: t.name }, again);
  };
  const reveal = (t: TensorRow) => {
    // A second choice of the same row goes to its figures.
    if (narrow.matches || shownTensor === t) panel.node.focus();
    if (shownTensor !== t) panel.show(t);
    shownTensor = t;
    tensors.select(t);
    tensors.look(true);
    head.sizeBar.mark(t.index);
    if (narrow.matches) panel.node.focus();
  };
  const unselect = (look: boolean) => {
    shownTensor = undefined;
    panel.home();
    tensors.select(undefined);
    tensors.look(look);
    head.sizeBar.mark(undefined);
  };
  const close = () => {
    unselect(false);
    go({ view: 'Tensors' });
    tensors.focusTable();
  };
  const about = () => {
    unselect(true);
    go({ view: 'Tensors' });
    panel.node.focus();
  };
  const showTensor = (name: string | undefined) => {
    const t = name === undefined ? undefined : model.tensors.find((each) => each.name === name);
    if (t) {
      if (t !== shownTensor) reveal(t);
    } else if (shownTensor) unselect(false);
    if (name !== undefined && !t) replace(notes, h('p', { class: 'note' }, `This model has no tensor ${name}.`));
  };
  /** The same module in the layer before or after. */
  const sibling = (step: number) => {
    const t = shownTensor && inLayer(model, shownTensor, step);
    if (t) choose(t, true);
  };
  // Measuring is not begun for every row that is passed.
  let passing: ReturnType<typeof setTimeout> | undefined;
  const follow = (t: TensorRow) => {
    clearTimeout(passing);
    if (!narrow.matches && t !== shownTensor) passing = setTimeout(() => life.signal.aborted || choose(t, true), FOLLOW_MS);
  };
  const panel = tensorPanel(client, model, close);
  const head = summary(model, (index) => {
    const tensor = model.tensors[index];
    if (tensor) choose(tensor);
  });
  const tensors = tensorsView(model, { choose: (t) => choose(t), follow, about }, panel.node);
  addEventListener(
    'keydown',
    (event) => {
      const typing = event.target instanceof HTMLElement && event.target.matches('input, select, textarea');
      if (current !== 'Tensors' || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector('dialog[open]')) return;
      if (event.key === 'Escape' && !typing && tensors.node.classList.contains('looking')) close();
      else if (event.key === '/' && !typing) tensors.focusFilter();
      else if ((event.key === '[' || event.key === ']') && !typing) sibling(event.key === ']' ? 1 : -1);
      else return;
      event.preventDefault();
    },
    { signal: life.signal },
  );
  pages.set('Tensors', h('div', { class: 'page' }, head.node, warningNotes(model.warnings), tensors.node));
  pages.set(
    'Quantize',
    lazily(() => [heading('Quantize', model), planView(client, jobs, model, life.signal)]),
  );
  pages.set('Compare', h('div', { class: 'page' }, heading('Compare', model), comparison.node));
  return { pages, showTensor, shownTensor: () => shownTensor };
}

/** The tensor of the same name in a layer `step` away: the first number of the name is that of the layer. */
function inLayer({ tensors }: ModelView, { name }: TensorRow, step: number): TensorRow | undefined {
  const other = name.replace(/(^|\.)(\d+)(?=\.|$)/, (_, dot: string, layer: string) => `${dot}${Number(layer) + step}`);
  return other === name ? undefined : tensors.find((t) => t.name === other);
}

shell();
start();
addEventListener('popstate', follow);
void remembered().then((found) => {
  recent ??= found;
  // The first screen has no model and runs nothing yet: it is drawn again with the way to open it.
  if (found && shown && !shown.working()) start();
});
acceptDrops(
  () => (current === 'Compare' && compared ? 'Drop to compare with the open model' : open ? `Drop to open (replaces ${open.name})` : 'Drop to open'),
  (files) => {
    const take = current === 'Compare' && compared ? compared.take : openFiles;
    files.then(
      (found) => take(found),
      (reason: unknown) => fail(apiErrorOf(reason)),
    );
  },
);
