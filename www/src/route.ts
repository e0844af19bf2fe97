// The part of the address after `#`: the view, the tensor and the settings of the view. It never holds names of files or folders.

export type ViewName = 'Overview' | 'Tensors' | 'Map' | 'Quantize' | 'Compare' | 'Metadata';

export interface Route {
  view: ViewName;
  /** The name of the tensor that is shown in the view of tensors. */
  tensor?: string;
  /** Settings of the view, as after `?`. */
  query?: Readonly<Record<string, string>>;
}

const PATHS: Record<ViewName, string> = {
  Overview: '',
  Tensors: 'tensors',
  Map: 'map',
  Quantize: 'quantize',
  Compare: 'compare',
  Metadata: 'meta',
};

/** The views in the order of the tabs. */
export const VIEWS = Object.keys(PATHS) as ViewName[];

/** The route of an address: `undefined` for an address without `#`, `'unknown'` for a view that does not exist. */
export function parse(hash: string): Route | 'unknown' | undefined {
  if (hash === '' || hash === '#') return undefined;
  const [whole = '', settings = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const query = Object.fromEntries(new URLSearchParams(settings));
  const [path = '', name] = whole.split(/\/(.*)/s);
  if (path === 't' && name) return { view: 'Tensors', tensor: decoded(name), query };
  const view = VIEWS.find((each) => PATHS[each] === path);
  return view && !name ? { view, query } : 'unknown';
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // This page did not write such an address, so no tensor has this name.
    return text;
  }
}

export function format({ view, tensor, query }: Route): string {
  const settings = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value !== '')).toString();
  const path = tensor === undefined ? PATHS[view] : `t/${encodeURIComponent(tensor)}`;
  return `#/${path}${settings === '' ? '' : `?${settings}`}`;
}

/** Sets the address. With `replaceEntry`, no entry is added to the history. */
export function go(route: Route | undefined, replaceEntry = false): void {
  const url = route ? format(route) : location.pathname + location.search;
  if (route ? location.hash === url : location.hash === '') return;
  if (replaceEntry) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
}
