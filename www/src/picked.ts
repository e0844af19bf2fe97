// Files that a person picked: how many are read, and one to be written before anything was written to it.

/** More than any checkpoint has; a folder beyond it was picked by mistake. */
export const MOST_FILES = 20_000;

type Removable = FileSystemFileHandle & { remove?: () => Promise<void> };

/** Removes a file that holds nothing: picking a new name creates one. A file with bytes is a person's, and stays. */
export async function dropEmpty(handle: FileSystemFileHandle): Promise<void> {
  if ((await handle.getFile()).size === 0) await (handle as Removable).remove?.();
}
