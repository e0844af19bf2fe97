// The model that was opened last, as handles of its files: after a reload it is opened again with one click. The handles stay
// in this browser; names and bytes of files go nowhere.
import { createStore, get, set } from 'idb-keyval';
import { MOST_FILES } from './picked';
import type { Picked } from './protocol';

/** The handles of a drop or a picker, and the name of the model. */
export interface Recent {
  name: string;
  handles: FileSystemHandle[];
}

type Asking = FileSystemHandle & { requestPermission?: (options: { mode: 'read' }) => Promise<PermissionState> };
type Entries = FileSystemDirectoryHandle & { values: () => AsyncIterable<FileSystemHandle> };

const KEY = 'last';
const kept = () => createStore('quantoscope', 'recent');

/** Storage may be switched off: then nothing is remembered. */
export async function remember(recent: Recent): Promise<void> {
  if (recent.handles.length === 0) return;
  try {
    await set(KEY, recent, kept());
  } catch {
    // Nothing is remembered.
  }
}

export async function remembered(): Promise<Recent | undefined> {
  try {
    return await get<Recent>(KEY, kept());
  } catch {
    return undefined;
  }
}

/** The files behind the handles; `null` where the browser is not allowed to read them. */
export async function filesOf({ handles }: Recent): Promise<Picked[] | null> {
  const found: Picked[] = [];
  for (const handle of handles as Asking[]) {
    if (((await handle.requestPermission?.({ mode: 'read' })) ?? 'granted') !== 'granted') return null;
    await walk(handle, '', found);
  }
  return found;
}

async function walk(handle: FileSystemHandle, above: string, found: Picked[]): Promise<void> {
  if (found.length >= MOST_FILES) return;
  const path = above + handle.name;
  if (handle.kind === 'file') {
    found.push({ path, file: await (handle as FileSystemFileHandle).getFile() });
    return;
  }
  const inside: FileSystemHandle[] = [];
  for await (const entry of (handle as Entries).values()) if (inside.push(entry) >= MOST_FILES) break;
  inside.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of inside) if (entry.kind === 'file' || !entry.name.startsWith('.')) await walk(entry, `${path}/`, found);
}
