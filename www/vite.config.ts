// Builds the page. The sample model lies in `sample/` once; it is served from there while developing and
// copied beside the page when building, so that the repository holds a single copy.
import { cpSync, createReadStream, readdirSync, statSync } from 'node:fs';
import { join, normalize, resolve } from 'node:path';
import { defineConfig, type Plugin } from 'vite';

/** Fonts and libraries whose licences are copied beside the page. */
const LICENSED = [
  '@fontsource-variable/instrument-sans',
  '@fontsource-variable/spline-sans-mono',
  '@preact/signals-core',
  'd3-hierarchy',
  'idb-keyval',
  'lit-html',
];
const SAMPLE = join(import.meta.dirname, 'sample');

/** The file may have an extension. */
function licence(name: string): string {
  const folder = join(import.meta.dirname, 'node_modules', name);
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (file === undefined) throw new Error(`${name} has no licence file`);
  return join(folder, file);
}

function sample(): Plugin {
  let out = '';
  return {
    name: 'sample-model',
    configResolved(config) {
      out = resolve(config.root, config.build.outDir);
    },
    configureServer(server) {
      server.middlewares.use('/sample', (req, res, next) => {
        const path = normalize(join(SAMPLE, decodeURIComponent((req.url ?? '').split('?')[0] ?? '')));
        if (!path.startsWith(SAMPLE) || !statSync(path, { throwIfNoEntry: false })?.isFile()) return next();
        res.setHeader('content-length', statSync(path).size);
        createReadStream(path).pipe(res);
      });
    },
    closeBundle() {
      cpSync(SAMPLE, join(out, 'sample'), { recursive: true });
      for (const name of LICENSED)
        cpSync(
          licence(name),
          join(out, 'licenses', `${name.split('/').at(-1)}.txt`),
        );
    },
  };
}

/** The development server injects styles and a socket; only the built page carries the strict policy. */
function relaxedPolicyWhileDeveloping(): Plugin {
  return {
    name: 'relaxed-policy-while-developing',
    apply: 'serve',
    transformIndexHtml: (html) =>
      html
        .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
        .replace("connect-src 'self'", "connect-src 'self' ws:"),
  };
}

export default defineConfig({
  base: './',
  plugins: [sample(), relaxedPolicyWhileDeveloping()],
  worker: { format: 'es' },
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: false, chunkSizeWarningLimit: 600 },
});
