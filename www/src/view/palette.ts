// The palette: one search over views, tensors, metadata keys and types.
import { h, replace, uid } from '../dom';

export interface Entry {
  /** The group, as `Tensor`. */
  kind: string;
  name: string;
  run: () => void;
}

/** Entries that are listed at once. */
const MOST = 40;

/** Entries whose kind and name contain every word. */
export function matching(entries: readonly Entry[], text: string): Entry[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Entry[] = [];
  for (const entry of entries) {
    const hay = `${entry.kind} ${entry.name}`.toLowerCase();
    if (words.every((word) => hay.includes(word))) found.push(entry);
    if (found.length === MOST) break;
  }
  return found;
}

export function showPalette(entries: readonly Entry[]): void {
  const [list, prefix] = [uid('found'), uid('entry')];
  let found: Entry[] = [];
  let at = 0;
  const input = h('input', {
    type: 'search',
    role: 'combobox',
    'aria-label': 'Go to a view, tensor, metadata key or type',
    placeholder: 'Go to: layers.3 up_proj',
    'aria-expanded': 'true',
    'aria-controls': list,
    'aria-autocomplete': 'list',
    autocomplete: 'off',
    spellcheck: 'false',
    autofocus: true,
  });
  const options = h('ul', { id: list, class: 'palette-list', role: 'listbox', 'aria-label': 'Found' });
  const count = h('p', { class: 'small soft', role: 'status' });
  const dialog = h('dialog', { class: 'palette', 'aria-label': 'Go to' }, input, options, count);
  const mark = () => {
    for (const [i, option] of [...options.children].entries()) option.setAttribute('aria-selected', String(i === at));
    const active = options.children[at];
    if (active) input.setAttribute('aria-activedescendant', active.id);
    else input.removeAttribute('aria-activedescendant');
    active?.scrollIntoView({ block: 'nearest' });
  };
  const search = () => {
    found = matching(entries, input.value);
    at = 0;
    replace(
      options,
      found.map((entry, i) =>
        h(
          'li',
          { id: `${prefix}-${i}`, role: 'option', on: { click: () => choose(i) } },
          h('span', { class: 'soft small' }, entry.kind),
          h('span', { class: 'mono' }, entry.name),
        ),
      ),
    );
    count.textContent = found.length === 0 ? 'Nothing found.' : found.length === MOST ? `The first ${MOST} are shown.` : '';
    mark();
  };
  const choose = (i: number) => {
    const entry = found[i];
    dialog.close();
    entry?.run();
  };
  input.addEventListener('input', search);
  input.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      at = Math.max(0, Math.min(found.length - 1, at + step));
      mark();
    } else if (event.key === 'Enter') choose(at);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  search();
  document.body.append(dialog);
  dialog.showModal();
}
