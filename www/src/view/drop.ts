// The ways in: dropping, picking files, picking a folder, the sample. Everything becomes a list of `Picked`.
import { h } from '../dom';
import type { Failure, OpenOptions, Picked } from '../protocol';
import { MOST_FILES } from '../picked';
import { filesOf } from '../recent';

/** Handles of what was picked or dropped, in browsers that give them. */
const handles = new WeakMap<readonly Picked[], FileSystemHandle[]>();

export function handlesOf(files: readonly Picked[]): FileSystemHandle[] {
  return handles.get(files) ?? [];
}

interface Pickers {
  showOpenFilePicker?: (options: { multiple: boolean }) => Promise<FileSystemFileHandle[]>;
  showDirectoryPicker?: (options: { mode: 'read' }) => Promise<FileSystemDirectoryHandle>;
}

/** The picked files; `null` where the picker was closed. */
export async function pickFiles(directory: boolean): Promise<Picked[] | null> {
  const { showOpenFilePicker, showDirectoryPicker } = window as Pickers;
  if (!showOpenFilePicker || !showDirectoryPicker) return pickByInput(directory);
  try {
    const picked = directory ? [await showDirectoryPicker({ mode: 'read' })] : await showOpenFilePicker({ multiple: true });
    return await filesBehind(picked);
  } catch (reason) {
    if (reason instanceof DOMException && reason.name === 'AbortError') return null;
    throw reason;
  }
}

/** The files of handles, which are kept with them. */
export async function filesBehind(picked: FileSystemHandle[]): Promise<Picked[] | null> {
  const files = await filesOf({ name: '', handles: picked });
  if (files) handles.set(files, picked);
  return files;
}

function pickByInput(directory: boolean): Promise<Picked[] | null> {
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
  const asked: Promise<FileSystemHandle | null>[] = [];
  for (const item of transfer.items) {
    if (item.kind !== 'file') continue;
    const entry = item.webkitGetAsEntry?.();
    const handle = (item as Dropped).getAsFileSystemHandle?.();
    if (handle) asked.push(handle.catch(() => null));
    const file = entry ? null : item.getAsFile();
    if (entry) entries.push(entry);
    else if (file) plain.push({ path: file.name, file });
  }
  return walk(entries, plain).then(async (files) => {
    const given = await Promise.all(asked);
    if (given.every((handle) => handle !== null)) handles.set(files, given);
    return files;
  });
}

type Dropped = DataTransferItem & { getAsFileSystemHandle?: () => Promise<FileSystemHandle | null> };

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
