// The part of the address after `#`: which view, and which tensor, is shown. It never carries names of files or folders.

export type ViewName = 'Tensors' | 'Quantize' | 'Compare';

export interface Route {
  view: ViewName;
  /** The name of a tensor that is shown in the view of tensors. */
  tensor?: string;
}

const PATHS: Record<ViewName, string> = { Tensors: 'tensors', Quantize: 'quantize', Compare: 'compare' };

/** The route of an address; nothing where it names none. */
export function parse(hash: string): Route | undefined {
  const [path, name] = hash.replace(/^#\/?/, '').split(/\/(.*)/s);
  if (path === 't' && name) return { view: 'Tensors', tensor: decoded(name) };
  const found = (Object.entries(PATHS) as [ViewName, string][]).find(([, word]) => word === path);
  return found && { view: found[0] };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not one of ours: then no tensor has this name.
    return text;
  }
}

export function format({ view, tensor }: Route): string {
  return tensor === undefined ? `#/${PATHS[view]}` : `#/t/${encodeURIComponent(tensor)}`;
}

/** Sets the address without asking anybody: `again` replaces the entry of the history instead of adding one. */
export function go(route: Route | undefined, again = false): void {
  const url = route ? format(route) : location.pathname + location.search;
  if (route ? location.hash === url : location.hash === '') return;
  if (again) history.replaceState(null, '', url);
  else history.pushState(null, '', url);
}
