// The question before anything that would end a conversion.
import { h, uid } from '../dom';
import { plural } from '../format';
import type { Jobs } from '../jobs';

let asking = false;

/**
 * Whether the conversions, if there are any, may be stopped; it does not stop them. True at once where none runs, and
 * when the last one ends while the question is open. False for a second question while the first is open.
 */
export async function confirmStop(jobs: Jobs): Promise<boolean> {
  if (jobs.active.length === 0) return true;
  if (asking) return false;
  asking = true;
  try {
    return await ask(jobs);
  } finally {
    asking = false;
  }
}

function ask(jobs: Jobs): Promise<boolean> {
  const [title, text] = [uid('ask'), uid('ask')];
  const said = h('p', { id: text });
  const keep = h('button', { type: 'button', class: 'primary', autofocus: true }, 'Keep running');
  const stop = h('button', { type: 'button', class: 'danger' }, 'Stop');
  const dialog = h(
    'dialog',
    { class: 'ask', role: 'alertdialog', 'aria-labelledby': title, 'aria-describedby': text },
    h('h2', { id: title }, 'Stop the conversion?'),
    said,
    h('div', { class: 'act' }, keep, stop),
  );
  const watching = new AbortController();
  const update = () => {
    if (jobs.active.length === 0) dialog.close('stop');
    const words = sentence(jobs);
    if (said.textContent !== words) said.textContent = words;
  };
  jobs.watch(update, watching.signal);
  update();
  keep.addEventListener('click', () => dialog.close('keep'));
  stop.addEventListener('click', () => dialog.close('stop'));
  // A click beside it lands on the dialog itself.
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close('keep'));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    // Escape closes it without a value: the conversion goes on.
    dialog.addEventListener('close', () => {
      watching.abort();
      dialog.remove();
      resolve(dialog.returnValue === 'stop');
    });
  });
}

function sentence(jobs: Jobs): string {
  const done = jobs.part === undefined ? '' : `${Math.floor(100 * jobs.part)} % done. `;
  const waiting = jobs.active.filter((job) => job.state.kind === 'queued').length;
  const more = waiting > 0 ? ` ${plural(waiting, 'waiting conversion')} will not start.` : '';
  return `${done}Stopping removes the unfinished file.${more}`;
}
