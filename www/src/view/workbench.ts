// The open model: its views, which of them is shown, and the keys that all of them share.
import { effect, untracked } from '@preact/signals-core';
import type { Client } from '../client';
import { h, replace } from '../dom';
import type { Jobs } from '../jobs';
import { forgetPresets, plannedPresets, planPresets } from '../presets';
import type { ModelView, Picked, TensorRow } from '../protocol';
import { go, VIEWS, type Route, type ViewName } from '../route';
import { catalog, errorType, measurableTypes, route, sweepState } from '../store';
import { FIRST_TYPES, type Sweep } from '../sweep';
import { compareView } from './compare';
import { warningNotes } from './error_note';
import { showKeys } from './keys';
import { mapView } from './map';
import { metadataView, type MetadataView } from './metadata';
import { inWords, overviewView } from './overview';
import { showPalette, type Entry } from './palette';
import { planView } from './plan';
import { tensorsPage } from './tensors_page';
import { typeName } from './type_name';

export interface Workbench {
  nodes: HTMLElement[];
  /** Shows a route without setting the address. */
  show: (route: Route) => void;
  /** Shows a route and sets the address. */
  visit: (route: Route, replaceEntry?: boolean) => void;
  compareWith: (files: Picked[] | null) => void;
  close: () => void;
}

interface Around {
  client: Client;
  jobs: Jobs;
  model: ModelView;
  sweep: Sweep;
  life: AbortSignal;
  notes: HTMLElement;
  /** The tabs. */
  tabs: HTMLElement;
}

export function workbench(around: Around): Workbench {
  const { client, jobs, model, sweep, life, notes, tabs } = around;
  const open = (tensor: TensorRow) => visit({ view: 'Tensors', tensor: tensor.name });
  const list = (all: readonly TensorRow[]) => visit(tensors.list(all));
  const actions = { open, list, quantize: () => visit({ view: 'Quantize' }) };
  const set = (next: Route, replaceEntry: boolean) => {
    route.value = next;
    go(next, replaceEntry);
  };
  const tensors = tensorsPage(client, model, life, set);
  const comparison = compareView(client, model);
  let metadata: MetadataView | undefined;
  const build: Record<ViewName, () => HTMLElement[]> = {
    Overview: () => [
      h('header', { class: 'model plain' }, h('div', {}, h('h1', {}, model.name), h('p', { class: 'what' }, inWords(model)))),
      warningNotes(model.warnings) ?? h('div', { hidden: true }),
      overviewView(model, actions, life),
    ],
    Tensors: () => [tensors.node],
    Map: () => [heading('Error map of', model), mapView(model, actions, life)],
    Quantize: () => [heading('Quantize', model), planView(client, jobs, model, life)],
    Compare: () => [heading('Compare', model), comparison.node],
    Metadata: () => {
      metadata = metadataView(client, model, (q) => set({ view: 'Metadata', query: { q } }, true), life);
      return [heading('Metadata of', model), metadata.node];
    },
  };
  const pages = new Map<ViewName, HTMLElement>();
  for (const view of VIEWS) pages.set(view, h('div', { class: `page page-${view.toLowerCase()}`, hidden: true }));
  const buttons = new Map(VIEWS.map((view) => [view, h('button', { type: 'button', on: { click: () => visit(tabRoute(view)) } }, view)]));
  /** A tab returns to the tensor that was shown. */
  const tabRoute = (view: ViewName): Route => (view === 'Tensors' ? tensors.route() : { view, query: queryOf(view) });
  const show = (next: Route) => {
    notes.replaceChildren();
    const page = pages.get(next.view);
    // A view is built when it is first shown.
    if (page?.childElementCount === 0) page.append(...build[next.view]());
    const focused = document.activeElement;
    for (const [view, each] of pages) each.hidden = view !== next.view;
    for (const [view, button] of buttons) {
      if (view === next.view) button.setAttribute('aria-current', 'page');
      else button.removeAttribute('aria-current');
    }
    const type = next.query?.['t'];
    if (type !== undefined && measurableTypes.value.includes(type)) errorType.value = type;
    if (next.view === 'Metadata') metadata?.restore(next.query?.['q'] ?? '');
    if (next.view === 'Tensors' && !tensors.show(next))
      replace(notes, h('p', { class: 'note' }, `This model has no tensor ${next.tensor}.`));
    route.value = next;
    // The focus stays in the document when the focused part is hidden.
    if (focused !== document.body && (focused === null || !isShown(focused))) document.querySelector<HTMLElement>('main')?.focus({ preventScroll: true });
  };
  const visit = (next: Route, replaceEntry = false) => {
    show(next);
    go(next, replaceEntry);
  };
  replace(tabs, [...buttons.values()]);
  listenToKeys(life, {
    visit: (view) => visit(tabRoute(view)),
    tensor: () => visit(tensors.route().tensor === undefined ? firstTensor(model) : tensors.route()),
    current: () => route.value.view,
    page: () => pages.get(route.value.view),
    tensors: tensors.key,
    palette: () => showPalette(entries(model, visit)),
  });
  sweepInBackground(around);
  const ends = effect(() => {
    const type = errorType.value;
    untracked(() => {
      // The type is part of the address of the map, and of filters by error.
      const { view, tensor } = route.value;
      if (view === 'Map') set({ view, query: { t: type } }, true);
      else if (view === 'Tensors' && tensors.route().query?.['t']) set({ view, ...(tensor !== undefined && { tensor }), query: tensors.route().query ?? {} }, true);
      if (sweep.begun) void sweep.measure([type]);
    });
  });
  life.addEventListener('abort', ends);
  const compareWith = (files: Picked[] | null) => {
    if (route.value.view !== 'Compare') visit({ view: 'Compare' });
    comparison.take(files);
  };
  return { nodes: [...pages.values()], show, visit, compareWith, close: comparison.close };
}

function queryOf(view: ViewName): Record<string, string> {
  return view === 'Map' ? { t: errorType.value } : {};
}

function firstTensor({ tensors }: ModelView): Route {
  const first = tensors.find((t) => t.shape.length > 1) ?? tensors[0];
  return { view: 'Tensors', ...(first && { tensor: first.name }) };
}

function isShown(node: Element): boolean {
  return node.isConnected && node.closest('[hidden]') === null;
}

/** The tab shows the view to those who see it; the heading names it for screen readers. */
function heading(what: string, model: ModelView): HTMLElement {
  return h('h1', { class: 'unseen' }, `${what} ${model.name}`);
}

/** The type whose error is shown first: Q4_K, or Q4_0 where most rows do not divide by the block of Q4_K. */
function usualType({ tensors }: ModelView): string {
  const matrices = tensors.filter((t) => t.shape.length > 1);
  const fitting = matrices.filter((t) => (t.shape.at(-1) ?? 0) % 256 === 0);
  return 2 * fitting.length >= matrices.length ? 'q4_k' : 'q4_0';
}

/** Begins the sweep, and plans the usual presets. */
function sweepInBackground({ client, model, sweep, life }: Around): void {
  forgetPresets();
  void client.call('catalog', {}).then(
    (found) => {
      if (life.aborted) return;
      catalog.value = found;
      // A link can name a type.
      const { t } = route.value.query ?? {};
      errorType.value = t !== undefined && measurableTypes.value.includes(t) ? t : usualType(model);
      void sweep.measure([...new Set([...FIRST_TYPES, errorType.value])]);
      // Presets take other types where the rows of a tensor do not divide by a block.
      void planPresets(client, model, found, life, (preset) => preset.usual).then(() => {
        if (!life.aborted) void sweep.measure([...new Set(plannedPresets.value.flatMap((preset) => [...preset.types.values()]))]);
      });
    },
    (reason: unknown) => (sweepState.value = { kind: 'failed', message: reason instanceof Error ? reason.message : String(reason) }),
  );
}

interface KeyActions {
  visit: (view: ViewName) => void;
  /** Shows the tensor that was shown last. */
  tensor: () => void;
  current: () => ViewName;
  page: () => HTMLElement | undefined;
  tensors: (event: KeyboardEvent, typing: boolean) => boolean;
  palette: () => void;
}

/** What the palette finds. */
function entries(model: ModelView, visit: (route: Route) => void): Entry[] {
  return [
    ...VIEWS.map((view): Entry => ({ kind: 'View', name: view, run: () => visit({ view }) })),
    ...measurableTypes.value.map((type): Entry => ({ kind: 'Error as', name: typeName(type), run: () => (errorType.value = type) })),
    ...model.tensors.map(({ name }): Entry => ({ kind: 'Tensor', name, run: () => visit({ view: 'Tensors', tensor: name }) })),
    ...model.metadata.map(([name]): Entry => ({ kind: 'Key', name, run: () => visit({ view: 'Metadata', query: { q: name } }) })),
  ];
}

const DIGITS: Readonly<Record<string, ViewName>> = { 1: 'Overview', 2: 'Tensors', 3: 'Map', 5: 'Quantize', 6: 'Compare', 7: 'Metadata' };

function listenToKeys(life: AbortSignal, actions: KeyActions): void {
  const used = (event: KeyboardEvent, typing: boolean): boolean => {
    if (actions.current() === 'Tensors' && actions.tensors(event, typing)) return true;
    if (typing) return false;
    const view = DIGITS[event.key];
    if (view) actions.visit(view);
    else if (event.key === '4') actions.tensor();
    else if (event.key === '?') showKeys();
    else if (event.key === '/') actions.page()?.querySelector<HTMLElement>('input[type=search]')?.focus();
    else return false;
    return true;
  };
  const listener = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.altKey || document.querySelector('dialog[open]')) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
      event.preventDefault();
      return actions.palette();
    }
    if (event.ctrlKey || event.metaKey) return;
    const typing = event.target instanceof HTMLElement && event.target.matches('input, select, textarea');
    if (used(event, typing)) event.preventDefault();
  };
  addEventListener('keydown', listener, { signal: life });
}
