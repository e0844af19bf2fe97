// The first screen: a sentence about the page, and the buttons that open a model.
import { h, replace } from '../dom';
import type { Failure } from '../protocol';
import { landingPicture } from './landing_picture';
import { errorNote, type Again } from './error_note';

export interface Ways {
  files: () => void;
  folder: () => void;
  sample: () => void;
  /** The model that was opened last, in this browser. */
  again?: { name: string; open: () => void };
  /** The sentence for a link that was opened without its model. */
  wanted?: string;
}

export interface Landing {
  node: HTMLElement;
  busy: (label: string | null) => void;
  /** True while a model is being opened or an error is shown. */
  working: () => boolean;
  fail: (error: Failure, again?: Again) => void;
}

export function landing(ways: Ways): Landing {
  const act = h('div', { class: 'act' });
  const notes = h('div', { 'aria-live': 'polite' });
  const { again: last, wanted } = ways;
  const buttons = [
    last && h('button', { type: 'button', class: 'primary', on: { click: last.open } }, `Open ${last.name} again`),
    h('button', { type: 'button', class: last ? 'also' : 'primary', on: { click: ways.files } }, 'Choose files'),
    h('button', { type: 'button', on: { click: ways.folder } }, 'Choose a folder'),
    h('button', { type: 'button', on: { click: ways.sample } }, 'Open the sample model'),
  ];
  const busy = (label: string | null) => {
    replace(notes);
    if (label === null) replace(act, buttons);
    else replace(act, h('div', { class: 'busy', role: 'status' }, label));
  };
  busy(null);
  const node = h(
    'section',
    { class: 'landing' },
    h(
      'div',
      { class: 'words' },
      h('h1', {}, 'See what fewer bits do to every tensor.'),
      h(
        'div',
        {},
        h(
          'p',
          { class: 'say' },
          'Drop a model here: a Hugging Face folder or a file. Quantoscope measures the error that each type would cause, shows the exact size, and writes the quantized file. ',
          h('strong', {}, 'Nothing is uploaded: it all runs in this tab.'),
        ),
        wanted !== undefined && h('p', { class: 'note', role: 'status' }, wanted),
        act,
        notes,
      ),
    ),
    landingPicture(),
    h(
      'p',
      { class: 'formats' },
      h('span', {}, 'Reads safetensors (shards and index too), GGUF, APR and lattice .q4'),
      h('span', {}, 'Writes GGUF for llama.cpp, safetensors and .q4'),
      h('span', {}, 'Opening reads headers only, whatever the size'),
    ),
  );
  return {
    node,
    busy,
    working: () => notes.hasChildNodes() || act.querySelector('.busy') !== null,
    fail: (error, again) => {
      busy(null);
      replace(notes, errorNote(error, again));
    },
  };
}
