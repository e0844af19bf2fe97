// The page: opens and closes models, and shows the first screen or the views of the open model.
import { Client, apiErrorOf } from './client';
import { h, replace } from './dom';
import { Jobs } from './jobs';
import mark from './mark.svg';
import type { Failure, ModelView, OpenOptions, Picked } from './protocol';
import { remember, remembered, type Recent } from './recent';
import { go, parse } from './route';
import * as store from './store';
import { Sweep } from './sweep';
import { themeButton } from './theme';
import { confirmStop } from './view/confirm_stop';
import { engineChip } from './view/engines';
import { acceptDrops, EMPTY, filesBehind, handlesOf, nameOf, pickFiles } from './view/drop';
import { landing, type Landing } from './view/landing';
import { jobBar } from './view/jobs';
import { errorNote, type Again } from './view/error_note';
import { sweepLine } from './view/sweep_line';
import { workbench, type Workbench } from './view/workbench';

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
let bench: Workbench | undefined;
let sweep: Sweep | undefined;
/** Ends when the open model is closed. */
let life = new AbortController();
let title = 'Quantoscope';
const bar = jobBar(jobs, {
  mayCompare: ({ model }) => model.id === open()?.id,
  compare: (files) => bench?.compareWith(files),
  focusElsewhere: () => {
    const go = main.querySelector<HTMLElement>('.page:not([hidden]) .convert .primary');
    (go ?? main).focus({ preventScroll: true });
  },
});

/** The open model. */
function open(): ModelView | undefined {
  return store.model.value;
}

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
  replace(document.querySelector('#app') as Element, top, bar.node, sweepLine(() => sweep), main, foot);
  jobs.watch(retitle);
}

/** The title shows the progress of the running conversion, for tabs in the background. */
function retitle(): void {
  const { part } = jobs;
  const text = part === undefined ? title : `${Math.floor(100 * part)} % \u00b7 ${title}`;
  if (document.title !== text) document.title = text;
  const percent = part === undefined ? undefined : Math.floor(100 * part);
  if (percent === badge) return;
  badge = percent;
  // Only pages that are installed as an app have a badge.
  const shown = percent === undefined ? navigator.clearAppBadge?.() : navigator.setAppBadge?.(percent);
  shown?.catch(() => undefined);
}

/** Goes back to the first screen, unless the user keeps a conversion running. */
async function leave(): Promise<boolean> {
  if (!(await confirmStop(jobs))) return false;
  go(undefined);
  start().node.querySelector('button')?.focus({ preventScroll: true });
  return true;
}

/** Shows the view of the address. Without an open model, the first screen says what the address is for. */
function follow(): void {
  const asked = parse(location.hash);
  if (!bench) return void start();
  if (asked === 'unknown') return noView(location.hash);
  if (asked) return bench.show(asked);
  void leave().then((left) => left || go(store.route.value));
}

/** The sentence for a link that was opened without its model. */
function wanted(): string | undefined {
  const route = parse(location.hash);
  if (route === undefined || route === 'unknown') return undefined;
  if (route.view === 'Overview') return undefined;
  const what = route.tensor === undefined ? `the view \u201c${route.view}\u201d of a model` : `the tensor ${route.tensor}`;
  return `This link shows ${what}. Open its model to go there.`;
}

/** Shows the first screen; an open model is closed. */
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
/** Percent on the badge. */
let badge: number | undefined;

function pick(directory: boolean): void {
  pickFiles(directory).then((files) => openFiles(files), (reason: unknown) => fail(apiErrorOf(reason)));
}

/** The model that was opened last in this browser. */
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

/** The open model stays open until the next one has been read: a file that cannot be read changes nothing. */
function load(label: string, ask: () => Promise<ModelView>, again?: Again): void {
  const mine = (asked += 1);
  const say = shown ? shown.busy : busyNote;
  say(label);
  ask().then(
    async (model) => {
      // Only the model that was asked for last is opened.
      if (mine !== asked) return client.call('close', { model: model.id });
      if (!(await confirmStop(jobs))) {
        notes.replaceChildren();
        return client.call('close', { model: model.id });
      }
      // The address belonged to the model before: only its view is kept.
      if (open()) go({ view: store.route.value.view }, true);
      letGo();
      return begin(model);
    },
    (reason: unknown) => {
      if (mine === asked) fail(apiErrorOf(reason), again);
    },
  );
}

/** Counts openings; closing a model counts too, so that a late answer is dropped. */
let asked = 0;

function letGo(): void {
  asked += 1;
  jobs.cancelAll();
  client.cancelAll();
  life.abort();
  life = new AbortController();
  sweep?.end();
  sweep = undefined;
  bench?.close();
  bench = undefined;
  const model = open();
  if (model) void client.call('close', { model: model.id });
  store.model.value = undefined;
  store.route.value = { view: 'Overview' };
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
  const asked = parse(location.hash);
  const { hash } = location;
  sweep = new Sweep(client, model);
  const made = workbench({ client, jobs, model, sweep, life: life.signal, notes, tabs: views });
  bench = made;
  replace(main, notes, made.nodes);
  store.model.value = model;
  const first = asked === undefined || asked === 'unknown' ? { view: 'Overview' as const } : asked;
  made.visit(first, asked !== undefined);
  if (asked === 'unknown') noView(hash);
  main.focus({ preventScroll: true });
}

/** An address without its view: the model stays open. */
function noView(hash: string): void {
  replace(notes, h('p', { class: 'note', role: 'status' }, `This page has no view ${hash}.`));
}

shell();
start();
addEventListener('popstate', follow);
void remembered().then((found) => {
  recent ??= found;
  // The first screen is drawn again, with a button for the model that was opened last.
  if (found && shown && !shown.working()) start();
});
/** True where a drop is the other model of a comparison. */
const comparing = () => bench !== undefined && store.route.value.view === 'Compare';
const dropHint = () => {
  if (comparing()) return 'Drop to compare with the open model';
  return open() ? `Drop to open (replaces ${open()?.name})` : 'Drop to open';
};
acceptDrops(
  dropHint,
  (files) => {
    const take = comparing() && bench ? bench.compareWith : openFiles;
    files.then(
      (found) => take(found),
      (reason: unknown) => fail(apiErrorOf(reason)),
    );
  },
);
