// The job bar of the shell: running, waiting and ended conversions. It stays in sight whatever view is shown.
import { h, replace, type Child } from '../dom';
import { bytes, integer, seconds } from '../format';
import type { Job, Jobs, Order, State } from '../jobs';
import type { Picked, Progress, Saved } from '../protocol';
import { engineNote } from './engines';
import { errorNote } from './error_note';
import { progressBar } from './progress';

export interface Around {
  /** Whether the model of the order is open, so that its result can be compared with it. */
  mayCompare: (order: Order) => boolean;
  compare: (files: Picked[]) => void;
  /** Takes the focus when the bar has nothing left to hold it. */
  focusElsewhere: () => void;
}

interface Row {
  node: HTMLElement;
  kind?: State['kind'];
  show?: (since: number, p: Progress) => void;
}

export function jobBar(jobs: Jobs, around: Around): { node: HTMLElement; refresh: () => void } {
  const rows = new Map<Job, Row>();
  const list = h('ul', { class: 'job-list' });
  const said = h('p', { class: 'unseen', role: 'status' });
  const node = h('section', { class: 'jobs', 'aria-label': 'Conversions', hidden: true }, list, said);

  const fill = (job: Job, row: Row) => {
    row.kind = job.state.kind;
    delete row.show;
    row.node.className = `job job-${row.kind}`;
    replace(row.node, ...content(job, row, jobs, around));
  };
  const arrange = (again: boolean) => {
    for (const [job, row] of rows)
      if (!jobs.list.includes(job)) {
        row.node.remove();
        rows.delete(job);
      }
    for (const job of jobs.list) {
      const row: Row = rows.get(job) ?? { node: h('li') };
      rows.set(job, row);
      if (again || row.kind !== job.state.kind) fill(job, row);
      // Rows are in the order of the list: a new one is the last.
      if (!row.node.isConnected) list.append(row.node);
    }
    node.hidden = jobs.list.length === 0;
  };
  /** The focus stays in the row that had it, or goes to one near, or out of an empty bar: never to the body. */
  const keepingFocus = (change: () => void) => {
    const at = [...list.children].findIndex((row) => row.contains(document.activeElement));
    change();
    if (at < 0 || list.contains(document.activeElement)) return;
    const near = list.children[Math.min(at, list.children.length - 1)];
    const action = near?.querySelector<HTMLElement>('.job-cancel') ?? near?.querySelector<HTMLElement>('button, a');
    if (action) action.focus({ preventScroll: true });
    else around.focusElsewhere();
  };
  jobs.watch((job, progressed) => {
    if (!progressed) {
      keepingFocus(() => arrange(false));
      said.textContent = announcement(job);
    }
    const { state } = job;
    if (state.kind === 'running' && state.progress) rows.get(job)?.show?.(state.since, state.progress);
  });
  return { node, refresh: () => keepingFocus(() => arrange(true)) };
}

/** Spoken when a job starts or waits; its end is a note of its own. */
function announcement({ state, order }: Job): string {
  if (state.kind === 'queued') return `${order.name} waits for its turn`;
  if (state.kind === 'running') return state.paused ? `${order.name} is paused` : `${order.name} is being written`;
  return '';
}

function content(job: Job, row: Row, jobs: Jobs, around: Around): Child[] {
  const { state, order } = job;
  switch (state.kind) {
    case 'queued':
      return [name('Waiting', order), cancelButton(job, jobs)];
    case 'running':
      return running(job, row, jobs);
    case 'stopping':
      // It keeps the focus that the button had.
      return [name('Stopping', order), h('button', { type: 'button', 'aria-disabled': 'true' }, 'Stopping\u2026')];
    case 'saved':
      return [outcome(state.saved, order, around), dismissButton(job, jobs)];
    case 'stopped':
      return [
        h('p', { class: 'job-name', role: 'status' }, file(order), ' ', h('span', {}, `Cancelled. ${state.message}`)),
        dismissButton(job, jobs),
      ];
    case 'failed':
      return [h('div', { class: 'job-name' }, name('Not written', order), errorNote(state.error)), dismissButton(job, jobs)];
  }
}

function file({ name }: Order): HTMLElement {
  return h('span', { class: 'job-file mono small' }, name);
}

function name(what: string, order: Order): HTMLElement {
  return h('p', { class: 'job-name' }, h('span', { class: 'job-what' }, what), ' ', file(order));
}

function cancelButton(job: Job, jobs: Jobs): HTMLElement {
  const label = `Cancel ${job.order.name}`;
  return h('button', { type: 'button', class: 'job-cancel', 'aria-label': label, on: { click: () => jobs.cancel(job) } }, 'Cancel');
}

/** The same button pauses and continues, so that it keeps the focus. */
function pauseButton(job: Job, jobs: Jobs): HTMLElement {
  const button = h('button', { type: 'button' });
  const show = (paused: boolean) => {
    button.textContent = paused ? 'Continue' : 'Pause';
    button.setAttribute('aria-label', `${button.textContent} ${job.order.name}`);
  };
  show(false);
  button.addEventListener('click', () => {
    const paused = job.state.kind === 'running' && !job.state.paused;
    jobs.pause(job, paused);
    show(paused);
  });
  return button;
}

function dismissButton(job: Job, jobs: Jobs): HTMLElement {
  const label = `Dismiss ${job.order.name}`;
  const dismiss = () => jobs.dismiss(job);
  return h('button', { type: 'button', class: 'quiet', 'aria-label': label, on: { click: dismiss } }, 'Dismiss');
}

function running(job: Job, row: Row, jobs: Jobs): Child[] {
  const { recipe } = job.order;
  const bar = progressBar(`Quantizing to ${recipe.type ?? recipe.mix ?? '.q4'}`);
  const part = h('span', { class: 'job-part', 'aria-hidden': 'true' }, '0\u2009%');
  const rate = h('p', { class: 'job-rate soft small num' });
  row.show = (since, p) => {
    bar.show(p);
    if (p.total > 0) part.textContent = `${Math.floor((100 * p.done) / p.total)}\u2009%`;
    const gone = (performance.now() - since) / 1000;
    // A rate from the first moments would jump about.
    if (gone < 0.7 || p.done === 0) return;
    const left = ((p.total - p.done) * gone) / p.done;
    rate.textContent = `${bytes(p.done / gone)}/s, about ${seconds(left)} left`;
  };
  bar.node.append(rate);
  return [name('Quantizing', job.order), part, pauseButton(job, jobs), cancelButton(job, jobs), bar.node];
}

function outcome(saved: Saved, order: Order, around: Around): HTMLElement {
  const act = h('p', { class: 'act' });
  if (saved.written.length > 0 && around.mayCompare(order))
    act.append(
      h('button', { type: 'button', on: { click: () => around.compare(saved.written) } }, 'Compare with the source'),
    );
  if (saved.file) act.append(download(saved.file, order.name));
  return h(
    'div',
    { class: 'job-result' },
    h(
      'p',
      { class: 'job-name', role: 'status' },
      h('strong', { class: 'job-what' }, saved.file ? 'Ready to download' : 'Saved'),
      ' ',
      file(order),
      h(
        'span',
        { class: 'job-figures small' },
        h('span', {}, `${integer(saved.bytes)}\u00a0bytes in ${seconds(saved.seconds)}. `),
        h('span', { class: 'engine-note' }, engineNote(saved.report.run)),
      ),
    ),
    act,
  );
}

/** Files whose download was started by the page. */
const started = new WeakSet<File>();

/** Starts the download, and leaves the link for browsers that did not start it. */
function download(file: File, name: string): HTMLElement {
  const link = h('a', { href: URL.createObjectURL(file), download: name }, `Download ${name}`);
  if (!started.has(file)) queueMicrotask(() => link.click());
  started.add(file);
  return link;
}
