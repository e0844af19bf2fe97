// The list of keys, as a dialog.
import { h, uid } from '../dom';

const KEYS: readonly (readonly [string, string])[] = [
  ['1 to 7', 'Overview, Tensors, Map, the last tensor, Quantize, Compare, Metadata'],
  ['/', 'Filter or search of the view'],
  ['arrows, Page Up, Page Down, Home, End', 'Rows of a table; the figures follow while a tensor is shown'],
  ['Enter', 'Show the tensor of the row, or unfold a group; again: go to the figures'],
  ['[ and ]', 'The same module in the layer before or after'],
  ['Escape', 'Close the figures, or this list'],
  ['Ctrl+K', 'Go to a view, tensor, metadata key or type by name'],
  ['?', 'This list'],
];

export function showKeys(): void {
  const title = uid('keys');
  const close = h('button', { type: 'button', class: 'primary', autofocus: true }, 'Close');
  const rows = KEYS.map(([key, what]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, what)]);
  const dialog = h(
    'dialog',
    { class: 'ask keys-dialog', 'aria-labelledby': title },
    h('h2', { id: title }, 'Keys'),
    h('dl', { class: 'pairs' }, rows),
    h('div', { class: 'act' }, close),
  );
  close.addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
