// Errors, with the codes and words of the command line.
import { h } from '../dom';
import { integer } from '../format';
import type { Problem } from '../protocol';

export function problemNote(problem: Problem): HTMLElement {
  const places: [string, string | undefined][] = [
    ['tensor', problem.tensor],
    ['element', problem.element === undefined ? undefined : integer(problem.element)],
    ['file', problem.file],
    ['byte', problem.offset === undefined ? undefined : integer(problem.offset)],
  ];
  const known = places.filter((place): place is [string, string] => place[1] !== undefined);
  return h(
    'div',
    { class: 'note bad', role: 'alert' },
    h('p', {}, h('code', { class: 'code' }, problem.code), ' ', problem.message),
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
