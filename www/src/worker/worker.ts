// The worker: the only place that reads files and runs the core. Answers the page's calls, one message each.
import type { Model, Run } from '../pkg/quantoscope';
import type { Call, Calls, FromWorker, Picked, Progress, Request, Saved, ToWorker } from '../protocol';
import { drive } from './drive';
import { chooseEngine, engage, engineRoom, pace, probe } from './engines';
import { memoryBytes, startEngine } from './engine';
import { closeModel, modelOf, openModel, type Opened } from './models';
import { interrupted, Stop, toProblem } from './problem';
import {
  pickedDirectory,
  pickedFile,
  privateFile,
  releaseResult,
  stopped,
  type Left,
  type OutFile,
  type Sink,
} from './sinks';

interface Context {
  signal: AbortSignal;
  progress: (p: Progress) => void;
}

type Handlers = { [K in Call]: (ask: Calls[K]['ask'], context: Context) => Promise<Calls[K]['answer']> };

const handlers: Handlers = {
  open: ({ files, name }, { signal }) => openModel(files, name, signal),
  sample: async ({ base, files, name }, { signal }) =>
    openModel(await Promise.all(files.map((f) => fetched(base, f, signal))), name, signal),
  close: async ({ model }) => closeModel(model),
  memory: async () => ({ wasm: memoryBytes() }),
  measure: ({ model, tensor }, context) => measured(modelOf(model), (of) => of.look(tensor), context),
  rotated: ({ model, tensor, rotation }, context) =>
    measured(modelOf(model), (of) => of.rotated(tensor, [rotation]), context),
  plan: async ({ model, recipe }) => {
    const plan = modelOf(model).model.plan(recipe, false);
    try {
      return plan.view() as Calls['plan']['answer'];
    } finally {
      plan.free();
    }
  },
  convert,
  release: async ({ key }) => releaseResult(key),
  choose: async ({ engine }) => chooseEngine(engine),
  engines: engineRoom,
  probe: ({ kernel }) => probe(kernel),
  pace: ({ kernel }) => pace(kernel),
  compare: async ({ reference, candidate, threshold }, context) => {
    const [a, b] = [modelOf(reference), modelOf(candidate)];
    const run = a.model.compare(b.model, a.name, b.name, threshold);
    try {
      await engage(run, context);
      await drive({ run, files: { source: a.files, candidate: b.files }, sink: null, ...context });
      return run.report() as Calls['compare']['answer'];
    } finally {
      run.free();
    }
  },
};

/** Carries out work that writes nothing, and gives its report. */
async function measured<A>(source: Opened, plan: (model: Model) => Run, context: Context): Promise<A> {
  const run = plan(source.model);
  try {
    await engage(run, context);
    await drive({ run, files: { source: source.files, candidate: [] }, sink: null, ...context });
    return run.report() as A;
  } finally {
    run.free();
  }
}

/** The sample lies beside the page: the one thing that is ever fetched. */
async function fetched(base: string, name: string, signal: AbortSignal): Promise<Picked> {
  const response = await fetch(new URL(name, base), { signal });
  if (!response.ok)
    throw new Stop({ code: 'not_found', message: `the server answered ${response.status}`, file: name });
  return { path: `sample/${name}`, file: new File([await response.blob()], name) };
}

async function convert(ask: Calls['convert']['ask'], context: Context): Promise<Saved> {
  const source = modelOf(ask.model);
  const plan = source.model.plan(ask.recipe, true);
  const begun = performance.now();
  try {
    const view = plan.view() as Calls['plan']['answer'];
    const files = view.files.map((f, i) => ({ ...f, header: plan.header(i) as Uint8Array<ArrayBuffer> }));
    const sink = await sinkFor(ask, source.files, files, view.directory, context.signal);
    const run = plan.run();
    try {
      await engage(run, context);
      await drive({ run, files: { source: source.files, candidate: [] }, sink, ...context });
      if (context.signal.aborted) throw interrupted();
      const report = run.report() as Saved['report'];
      const total = run.total();
      context.progress({ done: total, total, label: 'Putting the file in place', device: false, anew: false });
      const end = await sink.finish();
      return { report, bytes: view.totals.total_bytes_out, seconds: (performance.now() - begun) / 1000, ...end };
    } catch (reason) {
      const left = await sink.abort().catch((): Left => 'unconfirmed');
      // The first reason is the one to tell.
      throw context.signal.aborted ? stopped(left) : reason;
    } finally {
      run.free();
    }
  } finally {
    plan.free();
  }
}

function sinkFor(
  { name, target }: Calls['convert']['ask'],
  inputs: readonly File[],
  files: OutFile[],
  directory: boolean,
  signal: AbortSignal,
): Promise<Sink> {
  const [only] = files;
  if (target.kind === 'directory') return pickedDirectory(target.handle, files, signal);
  if (target.kind === 'file' && !directory && only) return pickedFile(target.handle, only, inputs, signal);
  return privateFile(name, files, directory, signal);
}

const running = new Map<number, AbortController>();

function send(message: FromWorker): void {
  self.postMessage(message);
}

async function answer<K extends Call>(request: Request<K>): Promise<void> {
  const { id } = request;
  const stop = new AbortController();
  running.set(id, stop);
  const context = { signal: stop.signal, progress: (progress: Progress) => send({ id, progress }) };
  try {
    await started;
    const handler = handlers[request.call] as Handlers[K];
    send({ id, answer: await handler(request.ask, context) });
  } catch (reason) {
    send({ id, problem: toProblem(reason) });
  } finally {
    running.delete(id);
  }
}

const started = startEngine();
started.then(
  () => send({ ready: true }),
  // Every call will tell why.
  () => undefined,
);
self.addEventListener('message', (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if ('cancel' in message) running.get(message.cancel)?.abort();
  else void answer(message);
});
