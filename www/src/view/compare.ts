// The comparison of two models: the error of each tensor of the candidate, and whether all of them pass.
import { apiErrorOf, type Client } from '../client';
import { h, replace } from '../dom';
import { copyButton, jsonButton, tsv } from '../exports';
import { integer, plural } from '../format';
import type { CompareView as Report, Finding, JobResult, ModelView, OpenOptions, Picked } from '../protocol';
import { EMPTY, nameOf, pickFiles } from './drop';
import { pairs, WORDS } from './compare_rows';
import { errorNote, type Again } from './error_note';
import { cancelled, progressBar } from './progress';

export interface CompareView {
  node: HTMLElement;
  /** Takes a candidate and compares at once. */
  take: (files: Picked[] | null) => void;
  /** Closes the candidate. */
  close: () => void;
}

const DEFAULT_THRESHOLD = 0.95;

export function compareView(client: Client, reference: ModelView): CompareView {
  let candidate: ModelView | undefined;
  let stop: AbortController | undefined;
  const slot = h('div', { class: 'slot-body' });
  const result = h('div', { class: 'compare-result', 'aria-live': 'polite' });
  const threshold = h('input', {
    type: 'number',
    min: '-1',
    max: '1',
    step: '0.001',
    value: String(DEFAULT_THRESHOLD),
    id: 'threshold',
  });

  const fail = (reason: unknown, again: Again) => invite(errorNote(apiErrorOf(reason), again));
  const invite = (after?: HTMLElement) =>
    replace(
      slot,
      candidate ? named(candidate) : h('p', { class: 'soft' }, 'Drop the other model here, or choose it.'),
      h('div', { class: 'act' }, pick('Choose files', false), pick('Choose a folder', true)),
      after,
    );
  const pick = (label: string, directory: boolean) =>
    h('button', { type: 'button', on: { click: () => void pickFiles(directory).then((files) => take(files), (reason: unknown) => invite(errorNote(apiErrorOf(reason)))) } }, label);
  const run = () => {
    if (!candidate) return;
    stop?.abort();
    stop = new AbortController();
    const mine = stop;
    const candidateName = candidate.name;
    const bar = progressBar('Comparing');
    const cancel = h('button', { type: 'button', on: { click: () => mine.abort() } }, 'Cancel');
    replace(result, h('div', { class: 'running' }, bar.node, cancel));
    const value = threshold.value.trim() === '' ? null : Number(threshold.value);
    client
      .call(
        'compare',
        { reference: reference.id, candidate: candidate.id, threshold: value },
        { signal: mine.signal, progress: bar.show },
      )
      .then((answer) => stop === mine && replace(result, outcome(answer, [reference.name, candidateName])))
      .catch((reason: unknown) => {
        if (stop !== mine) return;
        if (mine.signal.aborted) cancelled(result, run, 'Compare again');
        else replace(result, errorNote(apiErrorOf(reason)));
      });
  };
  const close = () => {
    if (candidate) void client.call('close', { model: candidate.id });
    candidate = undefined;
  };
  const take = (files: Picked[] | null, options: OpenOptions = {}) => {
    if (files === null) return;
    if (files.length === 0) return invite(errorNote(EMPTY));
    replace(slot, h('p', { role: 'status' }, 'Reading headers\u2026'));
    client
      .call('open', { files, name: nameOf(files, options), ...options })
      .then((model) => {
        close();
        candidate = model;
        invite();
        run();
      })
      .catch((reason: unknown) => fail(reason, (more) => take(files, { ...options, ...more })));
  };
  threshold.addEventListener('change', run);
  invite();
  replace(result, example());
  const node = h(
    'div',
    { class: 'compare' },
    h(
      'div',
      { class: 'slots' },
      h('section', { class: 'slot', 'aria-label': 'Baseline' }, h('h2', {}, 'Baseline'), named(reference)),
      h('section', { class: 'slot candidate', 'aria-label': 'Compared with' }, h('h2', {}, 'Compared with'), slot),
      h(
        'section',
        { class: 'slot gate', 'aria-label': 'Check' },
        h('h2', {}, h('label', { for: 'threshold' }, 'Minimum similarity')),
        threshold,
        h('p', { class: 'soft small' }, 'Similarity is the smaller of cosine and 1 \u2212 relative error\u00b2/2. A tensor below the minimum, or a difference in structure, fails the check. Leave empty for no check.'),
      ),
    ),
    result,
  );
  return { node, take, close };
}

/** The content of a comparison, shown before a model is chosen. */
function example(): HTMLElement {
  return h(
    'div',
    { class: 'example soft' },
    h('p', {}, 'For each tensor that both models have: RMSE, cosine similarity, the worst row and the largest error.'),
    h('p', {}, 'The two may have different formats and names: a Hugging Face folder and the GGUF made of it are compared tensor by tensor.'),
  );
}

function named(model: ModelView): HTMLElement {
  return h(
    'div',
    {},
    h('p', { class: 'slot-name' }, model.name),
    h('p', { class: 'soft small' }, `${model.container} \u00b7 ${plural(model.tensors.length, 'tensor')}`),
  );
}

function outcome(c: JobResult<Report>, names: readonly string[]): (HTMLElement | null)[] {
  // Without a pair of tensors there is no table: the findings give the reason.
  return [gate(c), findings(c.findings), c.tensors.length > 0 ? takeAway(c, names) : null, c.tensors.length > 0 ? pairs(c.tensors) : null];
}

/** The table as text, and the report of the command line's `compare`. */
function takeAway(c: JobResult<Report>, names: readonly string[]): HTMLElement {
  const { passes: _, least: __, run: ___, ...report } = c;
  const table = () =>
    tsv(
      ['tensor', 'type', 'numel', 'rmse', 'cosine', 'max_abs', 'verdict'],
      c.tensors.map((r) => [r.tensor, r.qtype, r.numel, r.rmse, r.cosine, r.max_abs, WORDS[r.verdict]]),
    );
  return h('p', { class: 'exports' }, copyButton('Copy table', table), jsonButton([...names, 'compare'], () => report));
}

const VERDICTS = ['green', 'yellow', 'red'] as const;

function gate(c: Report): HTMLElement {
  const [good, fair] = c.least;
  const legend = { green: `\u2265\u2009${good}`, yellow: `\u2265\u2009${fair}`, red: `<\u2009${fair}` };
  const tallies = VERDICTS.map((v) => {
    const n = c.tensors.filter((r) => r.verdict === v).length;
    return h('span', { class: `verdict ${v}` }, `${integer(n)} ${WORDS[v]} `, h('span', { class: 'soft small' }, legend[v]));
  });
  return h(
    'div',
    { class: `note verdicts ${c.threshold === null ? '' : c.passes ? 'good' : 'bad'}`, role: 'status' },
    h('p', {}, h('strong', {}, outcomeWords(c))),
    h(
      'p',
      { class: 'tallies' },
      tallies,
      c.findings.length > 0 && h('span', { class: 'soft' }, differences(c.findings.length)),
    ),
  );
}

function differences(n: number): string {
  return plural(n, 'difference in structure', 'differences in structure');
}

/** The outcome of the check, with the number of tensors that fail it. */
function outcomeWords(c: Report): string {
  const { threshold, tensors } = c;
  if (threshold === null) return 'No check was set';
  if (c.passes) return `Pass: all ${plural(tensors.length, 'tensor')} at or above ${threshold}`;
  const below = tensors.filter((r) => r.below_threshold).length;
  const failing = `${integer(below)} of ${plural(tensors.length, 'tensor')} below ${threshold}`;
  const parts = [below > 0 && failing, c.findings.length > 0 && differences(c.findings.length)];
  return `Fail: ${parts.filter(Boolean).join(', ')}`;
}

/** The findings by kind. Many of one kind are folded, so that the table below stays in sight. */
function findings(list: readonly Finding[]): HTMLElement | null {
  if (list.length === 0) return null;
  const kinds = [...new Set(list.map((f) => f.kind))];
  const groups = kinds.map((kind) => {
    const found = list.filter((f) => f.kind === kind);
    const head = h(
      'summary',
      {},
      h('code', { class: 'code' }, kind),
      ' ',
      h('span', { class: 'soft' }, plural(found.length, 'tensor')),
    );
    return h(
      'details',
      { open: found.length <= FEW },
      head,
      h(
        'ul',
        {},
        found.slice(0, MOST).map(line),
        found.length > MOST && h('li', { class: 'soft' }, `and ${integer(found.length - MOST)} more`),
      ),
    );
  });
  return h('section', { class: 'findings' }, h('h2', {}, 'Differences in structure'), groups);
}

const FEW = 4;
const MOST = 200;

function line(f: Finding): HTMLElement {
  return h('li', {}, f.tensor && h('span', { class: 'mono' }, f.tensor), f.tensor && ': ', f.detail);
}
