// Errors: what happened and what to do, then the code and the place of the command line, small.
import { h, type Child } from '../dom';
import { integer } from '../format';
import type { Failure, OpenOptions } from '../protocol';

/** Opens the same files again. */
export type Again = (options: OpenOptions) => void;

export function errorNote(error: Failure, again?: Again): HTMLElement {
  if (error.choices && again) return question('Several models here. Which one?', error.choices, again);
  const places: [string, string | undefined][] = [
    ['tensor', error.tensor],
    ['element', error.element === undefined ? undefined : integer(error.element)],
    ['file', error.file],
    ['byte', error.offset === undefined ? undefined : integer(error.offset)],
    ['code', error.code],
  ];
  const known = places.filter((place): place is [string, string] => place[1] !== undefined);
  return h(
    'div',
    { class: 'note bad', role: 'alert' },
    h('p', {}, sentence(error.message)),
    again && waysOut(error, again),
    h(
      'dl',
      {},
      known.map(([name, value]) => [h('dt', {}, name), h('dd', { class: name === 'code' ? 'mono code' : 'mono' }, value)]),
    ),
  );
}

/** Messages of the core begin in lower case, as after the name of a program. */
function sentence(message: string): string {
  return message.charAt(0).toUpperCase() + message.slice(1);
}

const WRITERS: Record<string, string> = { core: 'aprender (core)', serve: 'aprender-serve (realizar)' };

function waysOut({ aprWriters }: Failure, again: Again): Child {
  if (!aprWriters) return null;
  return [
    h('p', {}, h('strong', {}, 'Which program wrote the file?')),
    h('div', { class: 'act choices' }, aprWriters.map((w) => button(WRITERS[w] ?? w, { aprWriter: w }, again))),
  ];
}

/** Nothing failed: something is to be chosen. */
function question(text: string, choices: readonly string[], again: Again): HTMLElement {
  return h(
    'div',
    { class: 'note', role: 'status' },
    h('p', {}, h('strong', {}, text)),
    h('div', { class: 'act choices' }, choices.map((choice) => button(choice, { choice }, again))),
  );
}

function button(label: string, options: OpenOptions, again: Again): HTMLElement {
  return h('button', { type: 'button', on: { click: () => again(options) } }, label);
}

export function warningNotes(warnings: readonly string[]): HTMLElement | null {
  if (warnings.length === 0) return null;
  return h(
    'div',
    { class: 'notes' },
    warnings.map((text) => h('p', { class: 'note' }, text)),
  );
}
