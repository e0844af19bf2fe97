// Starts the built page and a real browser for it.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { preview } from 'vite';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The system's Chromium, or the one that `CHROMIUM` names. */
export function findBrowser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];
  for (const dir of (process.env.PATH ?? '').split(delimiter))
    for (const name of names) if (existsSync(join(dir, name))) return join(dir, name);
  throw new Error('no Chromium on PATH: install the package "chromium", or set CHROMIUM to its path');
}

/** Serves the built page in `dist` as any static host would. */
export async function serve(dist = join(ROOT, 'dist')) {
  const options = { root: ROOT, logLevel: 'error', build: { outDir: dist }, preview: { port: 0, host: '127.0.0.1' } };
  const server = await preview(options);
  const { port } = server.httpServer.address();
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}

/**
 * A browser with a profile of its own on disk: in an incognito context the private file system lives in memory
 * and short writes are silent. `webgpu` lets pages use a graphics adapter, one in software where there is no other.
 */
export async function browser({ webgpu = false, ...options } = {}) {
  const profile = mkdtempSync(join(tmpdir(), 'quantoscope-page-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: findBrowser(),
    args: [
      '--no-sandbox',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--enable-precise-memory-info',
      ...(webgpu ? ['--enable-unsafe-webgpu'] : []),
    ],
    acceptDownloads: true,
    viewport: { width: 1440, height: 900 },
    ...options,
  });
  // Tests choose files by the input that other browsers show.
  await context.addInitScript(() => delete window.showOpenFilePicker);
  const close = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/**
 * No picker opens without a person. This puts private files in its place, which have the same interface, so that
 * everything behind the picker is tested as it is.
 */
export function saveIntoPrivateStorage(page) {
  return page.addInitScript(() => {
    window.showSaveFilePicker = async ({ suggestedName }) =>
      (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true });
    window.showDirectoryPicker = async () =>
      (await navigator.storage.getDirectory()).getDirectoryHandle(`folder-${Date.now()}`, { create: true });
  });
}
