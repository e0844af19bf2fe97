// The metadata of a model: all keys, with a search, whole values on request, and the elements of arrays with a search of
// their own, as for tokens.
import { effect, signal, type Signal } from '@preact/signals-core';
import { html, nothing, render, type TemplateResult } from 'lit-html';
import { apiErrorOf, type Client } from '../client';
import { h } from '../dom';
import { copyText } from '../exports';
import { bytes, integer, plural } from '../format';
import type { MetadataElements, ModelView } from '../protocol';

/** Elements of an array that are shown at once. */
const PAGE = 100;
/** Elements of an array that one call reads for a copy. */
const COPIED = 10_000;

interface Unfolded {
  /** The whole text of a string. */
  text?: string;
  /** The elements that match, so far. */
  array?: MetadataElements;
  search: string;
  error?: string;
}

interface State {
  client: Client;
  model: ModelView;
  search: Signal<string>;
  unfolded: Signal<ReadonlyMap<string, Unfolded>>;
  copied: Signal<string>;
}

export interface MetadataView {
  node: HTMLElement;
  restore: (search: string) => void;
}

export function metadataView(client: Client, model: ModelView, changed: (search: string) => void, life: AbortSignal): MetadataView {
  const state: State = { client, model, search: signal(''), unfolded: signal(new Map()), copied: signal('') };
  const node = h('div', { class: 'metadata' });
  const end = effect(() => {
    const focused = document.activeElement;
    const entry = node.contains(focused) ? focused?.closest('dd') : undefined;
    render(page(state, changed), node);
    // The focused button is gone, as "Show more" after the last elements.
    if (entry && !node.contains(document.activeElement)) (entry.querySelector<HTMLElement>('.elements, button') ?? node.querySelector('input'))?.focus({ preventScroll: true });
  });
  life.addEventListener('abort', end);
  return { node, restore: (search) => (state.search.value = search) };
}

function page(state: State, changed: (search: string) => void): TemplateResult {
  const { model, search } = state;
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const keys = model.metadata.filter(([key, value]) => words.every((word) => `${key} ${value}`.toLowerCase().includes(word)));
  const input = (event: Event) => {
    search.value = (event.target as HTMLInputElement).value;
    changed(search.value);
  };
  return html`<div class="tools">
      <input type="search" aria-label="Search keys and values" placeholder="Search: rope  tokenizer" .value=${search.value} @input=${input} />
      <p class="soft small" role="status">${integer(keys.length)} of ${plural(model.metadata.length, 'key')}</p>
      <span class="unseen" role="status">${state.copied.value}</span>
    </div>
    ${model.metadata.length === 0 ? html`<p class="soft">The headers of this model hold no metadata.</p>` : nothing}
    <dl class="keys-table">${keys.map(([key, value]) => entry(state, key, value))}</dl>
    <h2>Files</h2>
    <dl class="keys-table">
      ${model.files.map((file) => html`<div><dt class="mono">${file.name}</dt><dd class="num">${bytes(file.bytes)}, ${integer(file.bytes)} bytes</dd></div>`)}
    </dl>`;
}

function isArray(value: string): boolean {
  return /^\d+ values$/.test(value);
}

/** Long text is cut in the list of keys. */
function isCut(value: string): boolean {
  return value.endsWith('\u2026') || value.includes('\n');
}

function entry(state: State, key: string, value: string): TemplateResult {
  const open = state.unfolded.value.get(key);
  const unfolds = isArray(value) || isCut(value);
  const label = open ? 'Fold' : isArray(value) ? 'Show values' : 'Show all';
  const copied = state.copied.value === `Copied ${key}` ? 'Copied' : 'Copy';
  const toggle = () => (open ? fold(state, key) : unfold(state, key, value));
  return html`<div>
    <dt class="mono">${key}</dt>
    <dd>
      ${open ? unfoldedValue(state, key, value, open) : html`<span class="value">${value}</span>`}
      <span class="entry-actions">
        ${unfolds
          ? html`<button type="button" class="quiet small" aria-expanded=${String(open !== undefined)} aria-label=${`${label} of ${key}`} @click=${toggle}>
              ${label}
            </button>`
          : nothing}
        <button type="button" class="quiet small" aria-label=${`${copied} ${key}`} @click=${() => void copy(state, key, value)}>
          ${copied}
        </button>
      </span>
    </dd>
  </div>`;
}

function unfoldedValue(state: State, key: string, value: string, open: Unfolded): TemplateResult {
  if (open.error) return html`<span class="note bad" role="alert">${open.error}</span>`;
  if (open.text !== undefined)
    return html`<pre tabindex="0" role="region" aria-label=${key}>${open.text}</pre>`;
  if (!open.array) return html`<span class="value soft">Reading\u2026</span>`;
  const { found, elements } = open.array;
  const search = (event: Event) => void load(state, key, (event.target as HTMLInputElement).value, 0);
  return html`<span class="value">${value}</span>
    <label class="element-search small">
      <span class="soft">Search text or index</span>
      <input type="search" aria-label=${`Search in ${key}`} .value=${open.search} @input=${search} />
    </label>
    <p class="small soft" role="status">${integer(found)} found</p>
    <ol class="elements mono small" tabindex="0" aria-label=${`Values of ${key}`}>
      ${elements.map(([index, text]) => html`<li><span class="soft">${integer(index)}</span> <span>${visible(text)}</span></li>`)}
    </ol>
    ${elements.length < found
      ? html`<button type="button" class="small" @click=${() => void load(state, key, open.search, elements.length)}>Show more</button>`
      : nothing}`;
}

/** Control characters as the pictures that Unicode has for them. */
function visible(text: string): string {
  return text.replace(/[\u0000-\u001f]/g, (c) => String.fromCodePoint(0x2400 + (c.codePointAt(0) ?? 0)));
}

function put(state: State, key: string, open: Unfolded): void {
  state.unfolded.value = new Map(state.unfolded.value).set(key, open);
}

function fold(state: State, key: string): void {
  const next = new Map(state.unfolded.value);
  next.delete(key);
  state.unfolded.value = next;
}

function unfold(state: State, key: string, value: string): void {
  put(state, key, { search: '' });
  if (isArray(value)) void load(state, key, '', 0);
  else
    whole(state, key, value).then(
      (text) => put(state, key, { text, search: '' }),
      (reason: unknown) => put(state, key, { error: apiErrorOf(reason).message, search: '' }),
    );
}

/** The whole text of a value. */
async function whole({ client, model }: State, key: string, value: string): Promise<string> {
  return (await client.call('metadata_text', { model: model.id, key })) ?? value;
}

/** Reads elements after the first `skip`; the answer to an older search is dropped. */
async function load(state: State, key: string, search: string, skip: number): Promise<void> {
  const before = state.unfolded.value.get(key);
  put(state, key, { ...before, search });
  try {
    const more = await state.client.call('metadata_elements', { model: state.model.id, key, search, skip, count: PAGE });
    if (state.unfolded.value.get(key)?.search !== search) return;
    const elements = skip > 0 ? [...(before?.array?.elements ?? []), ...more.elements] : more.elements;
    put(state, key, { search, array: { ...more, elements } });
  } catch (reason) {
    put(state, key, { search, error: apiErrorOf(reason).message });
  }
}

/** All elements of an array, one per line. */
async function allElements({ client, model }: State, key: string): Promise<string> {
  const lines: string[] = [];
  for (;;) {
    const more = await client.call('metadata_elements', { model: model.id, key, search: '', skip: lines.length, count: COPIED });
    for (const [, text] of more.elements) lines.push(text);
    if (more.elements.length === 0 || lines.length >= more.found) return `${lines.join('\n')}\n`;
  }
}

async function copy(state: State, key: string, value: string): Promise<void> {
  let text = value;
  try {
    if (isArray(value)) text = await allElements(state, key);
    else if (isCut(value)) text = await whole(state, key, value);
  } catch (reason) {
    return put(state, key, { search: '', error: apiErrorOf(reason).message });
  }
  state.copied.value = (await copyText(text)) ? `Copied ${key}` : 'Not copied: the browser did not allow it';
  setTimeout(() => (state.copied.value = ''), 1500);
}
