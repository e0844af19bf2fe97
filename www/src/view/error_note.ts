// Errors, with the codes and words of the command line.
import { h } from '../dom';
import { integer } from '../format';
import type { ApiError } from '../protocol';

export function errorNote(error: ApiError): HTMLElement {
  const places: [string, string | undefined][] = [
    ['tensor', error.tensor],
    ['element', error.element === undefined ? undefined : integer(error.element)],
    ['file', error.file],
    ['byte', error.offset === undefined ? undefined : integer(error.offset)],
  ];
  const known = places.filter((place): place is [string, string] => place[1] !== undefined);
  return h(
    'div',
    { class: 'note bad', role: 'alert' },
    h('p', {}, h('code', { class: 'code' }, error.code), ' ', error.message),
    known.length > 0 &&
      h(
        'dl',
        {},
        known.map(([name, value]) => [h('dt', {}, name), h('dd', { class: 'mono' }, value)]),
      ),
  );
}

export function warningNotes(warnings: readonly string[]): HTMLElement | null {
  if (warnings.length === 0) return null;
  return h(
    'div',
    { class: 'notes' },
    warnings.map((text) => h('p', { class: 'note' }, text)),
  );
}
