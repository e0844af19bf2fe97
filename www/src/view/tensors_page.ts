// The page of tensors: the table, the chosen tensor beside it, and the keys of both.
import type { Client } from '../client';
import { h } from '../dom';
import type { ModelView, TensorRow } from '../protocol';
import type { Route } from '../route';
import { route as current } from '../store';
import { warningNotes } from './error_note';
import { summary } from './summary';
import { tensorPanel } from './tensor';
import { rangesOf } from './tensor_rows';
import { tensorsView } from './tensors';

/** Milliseconds that the keyboard rests on a row before its tensor is shown. */
const FOLLOW_MS = 250;

export interface TensorsPage {
  node: HTMLElement;
  /** Shows the tensor and the filter of a route. False if the model has no tensor of that name. */
  show: (route: Route) => boolean;
  /** Tensor and filter, for the address. */
  route: () => Route;
  /** True if the key was used. */
  key: (event: KeyboardEvent, typing: boolean) => boolean;
  /** Shows some tensors in the table. */
  list: (tensors: readonly TensorRow[]) => Route;
}

/** `go` sets the address; with `replaceEntry`, it adds no entry to the history. */
export function tensorsPage(
  client: Client,
  model: ModelView,
  life: AbortSignal,
  go: (route: Route, replaceEntry: boolean) => void,
): TensorsPage {
  const narrow = matchMedia('(max-width: 1179px)');
  let shown: TensorRow | undefined;
  const route = (): Route => ({ view: 'Tensors', ...(shown && { tensor: shown.name }), query: tensors.query() });
  const choose = (t: TensorRow, replaceEntry = false) => {
    reveal(t);
    go(route(), replaceEntry);
  };
  const reveal = (t: TensorRow) => {
    // A second choice of the same row moves the focus to its figures.
    if (narrow.matches || shown === t) panel.node.focus();
    if (shown !== t) panel.show(t);
    shown = t;
    tensors.select(t);
    tensors.look(true);
    head.sizeBar.mark(t.index);
    if (narrow.matches) panel.node.focus();
  };
  const unselect = () => {
    const inside = panel.node.contains(document.activeElement);
    shown = undefined;
    panel.home();
    tensors.select(undefined);
    tensors.look(false);
    head.sizeBar.mark(undefined);
    if (inside) tensors.focusTable();
  };
  const close = () => {
    unselect();
    go(route(), false);
    tensors.focusTable();
  };
  /** The same module in the layer before or after. */
  const sibling = (step: number) => {
    const t = shown && inLayer(model, shown, step);
    if (t) choose(t, true);
  };
  // Rows that the keyboard passes quickly are not measured.
  const stays = () => !life.aborted && current.value.view === 'Tensors';
  let passing: ReturnType<typeof setTimeout> | undefined;
  const follow = (t: TensorRow) => {
    clearTimeout(passing);
    if (!narrow.matches && t !== shown) passing = setTimeout(() => stays() && choose(t, true), FOLLOW_MS);
  };
  const panel = tensorPanel(client, model, close);
  const head = summary(model, (index) => {
    const tensor = model.tensors[index];
    if (tensor) choose(tensor);
  });
  const actions = { choose: (t: TensorRow) => choose(t), follow, changed: () => go(route(), true) };
  const tensors = tensorsView(model, actions, panel.node, life);
  const show = ({ tensor, query }: Route): boolean => {
    const t = tensor === undefined ? undefined : model.tensors.find((each) => each.name === tensor);
    if (query && !same(query, tensors.query())) tensors.restore(query);
    if (t) {
      if (t !== shown) reveal(t);
    } else if (shown) unselect();
    return tensor === undefined || t !== undefined;
  };
  const key = (event: KeyboardEvent, typing: boolean): boolean => {
    if (typing) return false;
    if (event.key === 'Escape' && shown) close();
    else if (event.key === '/') tensors.focusFilter();
    else if (event.key === '[' || event.key === ']') sibling(event.key === ']' ? 1 : -1);
    else return false;
    return true;
  };
  const list = (chosen: readonly TensorRow[]): Route => ({ view: 'Tensors', query: { only: rangesOf(chosen.map((t) => t.index)) } });
  return { node: h('div', {}, head.node, warningNotes(model.warnings), tensors.node), show, route, key, list };
}

function same(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((key) => (a[key] ?? '') === (b[key] ?? ''));
}

/** The tensor of the same name in a layer `step` away: the first number of the name is that of the layer. */
function inLayer({ tensors }: ModelView, { name }: TensorRow, step: number): TensorRow | undefined {
  const other = name.replace(/(^|\.)(\d+)(?=\.|$)/, (_, dot: string, layer: string) => `${dot}${Number(layer) + step}`);
  return other === name ? undefined : tensors.find((t) => t.name === other);
}
