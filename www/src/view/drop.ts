// The ways in: dropping, picking files, picking a folder, the sample. Everything becomes a list of `Picked`.
import { h } from '../dom';
import type { Failure, OpenOptions, Picked } from '../protocol';

/** More than any checkpoint has; a folder beyond it was dropped by mistake. */
const MOST_FILES = 20_000;

/** The picked files; `null` where the picker was closed. */
export function pickFiles(directory: boolean): Promise<Picked[] | null> {
  return new Promise((resolve) => {
    const input = h('input', {
      type: 'file',
      multiple: true,
      class: 'unseen',
      tabindex: '-1',
      'aria-label': 'Model files',
    });
    if (directory) input.webkitdirectory = true;
    const done = () => {
      resolve([...(input.files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
      input.remove();
    };
    input.addEventListener('change', done);
    input.addEventListener('cancel', () => {
      resolve(null);
      input.remove();
    });
    // Some browsers only fire `change` for an input that is in the document.
    document.body.append(input);
    input.click();
  });
}

/** Entries must be taken before the first `await`: the transfer is emptied when its event ends. */
export function pickedFrom(transfer: DataTransfer): Promise<Picked[]> {
  const entries: FileSystemEntry[] = [];
  const plain: Picked[] = [];
  for (const item of transfer.items) {
    if (item.kind !== 'file') continue;
    const entry = item.webkitGetAsEntry?.();
    const file = entry ? null : item.getAsFile();
    if (entry) entries.push(entry);
    else if (file) plain.push({ path: file.name, file });
  }
  return walk(entries, plain);
}

async function walk(entries: FileSystemEntry[], found: Picked[]): Promise<Picked[]> {
  for (const entry of entries) {
    if (found.length >= MOST_FILES) return found;
    const path = entry.fullPath.replace(/^\//, '');
    if (entry.isFile) found.push({ path, file: await fileOf(entry as FileSystemFileEntry) });
    else if (!entry.name.startsWith('.')) await walk(await children(entry as FileSystemDirectoryEntry), found);
  }
  return found;
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** A reader hands out a hundred entries at a time and an empty list at the end. */
async function children(directory: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = directory.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all.sort((a, b) => (a.name < b.name ? -1 : 1));
    all.push(...some);
  }
}

/** Makes the whole page a place to drop on, with a sheet that says so. */
export function acceptDrops(hint: () => string, take: (files: Promise<Picked[]>) => void): void {
  const sheet = h('div', { class: 'over', hidden: true, 'aria-hidden': 'true' });
  document.body.append(sheet);
  const show = (on: boolean) => {
    sheet.textContent = hint();
    sheet.hidden = !on;
  };
  const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
  addEventListener('dragenter', (event) => carriesFiles(event) && show(true));
  // Leaving the window leads to no element; an element that goes away under the pointer sends no `dragleave`.
  addEventListener('dragleave', (event) => event.relatedTarget === null && show(false));
  addEventListener('mousemove', () => sheet.hidden || show(false));
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    show(false);
    if (event.dataTransfer && carriesFiles(event)) take(pickedFrom(event.dataTransfer));
  });
}

/** A short name for what was picked: what was chosen in it, else its folder where there is one, else its first file. */
export function nameOf(files: readonly Picked[], { choice }: OpenOptions = {}): string {
  if (choice !== undefined) return choice.replace(/\/$/, '').split('/').pop() ?? choice;
  const first = files[0]?.path ?? 'model';
  return first.includes('/') ? first.slice(0, first.indexOf('/')) : first;
}

export const EMPTY: Failure = { code: 'not_found', message: 'this folder is empty' };
