// The worker: the only place that reads files and runs the core. Answers the page's calls, one message each.
import type { Plan, Run } from '../pkg/full';
import { ApiFailure } from '../api_failure';
import type {
  Call,
  Calls,
  Catalog,
  ConversionAsk,
  EncodingSize,
  FromWorker,
  OutFileView,
  Picked,
  PlanView,
  Progress,
  Request,
  RotationOptions,
  Saved,
  ToWorker,
} from '../protocol';
import { interrupted, toApiError } from './api_error';
import { drive, type Files } from './drive';
import { benchmarkKernel, chooseEngine, enginesView, probe, selectEngine, wantsDevice } from './engine_select';
import {
  closeImatrix,
  closeModel,
  existing,
  fullModel,
  imatrixOf,
  matrixIn,
  modelOf,
  openImatrix,
  openModel,
  smallModel,
  sourceOf,
  sourceToVerify,
  type Held,
} from './models';
import { memoryBytes, smallCore, startCore, type Core } from './modules';
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
import { readSlice } from './sources';

interface Context {
  signal: AbortSignal;
  progress: (p: Progress) => void;
}

type Handlers = { [K in Call]: (ask: Calls[K]['ask'], context: Context) => Promise<Calls[K]['answer']> };

const handlers: Handlers = {
  catalog: async () => smallCore().api.catalog() as Catalog,
  open: ({ files, name, ...options }, { signal }) => openModel(files, name, signal, options),
  sample: async ({ base, files, name }, { signal }) =>
    openModel(await Promise.all(files.map((f) => fetched(base, f, signal))), name, signal),
  close: async ({ model }) => closeModel(model),
  open_imatrix: ({ file }, { signal }) => openImatrix(file, signal),
  close_imatrix: async ({ imatrix }) => closeImatrix(imatrix),
  memory: async () => ({ wasm: memoryBytes() }),
  encodings: async ({ model, tensor }) => modelOf(model).model.tensor_encodings(tensor) as EncodingSize[][],
  values: ({ model, tensor, all }, context) =>
    measured(model, ({ model: of }) => of.tensor_values(tensor, all ?? false), context),
  errors: ({ model, tensor, encodings, all }, context) =>
    measured(model, ({ model: of }) => of.tensor_errors(tensor, encodings, all ?? false), context),
  rotated: ({ model, tensor, rotation, seed }, context) =>
    measured(model, ({ model: of }) => of.rotated(tensor, [rotation], seed), context),
  rotation_options: async ({ what, seed }) => smallCore().api.rotation_options(what, seed) as RotationOptions,
  plan: async (ask) => {
    const plan = await planIn(await sourceOf(ask.model, ask.recipe), ask, false);
    try {
      return plan.view() as PlanView;
    } finally {
      plan.free();
    }
  },
  convert,
  release: async ({ key }) => releaseResult(key),
  choose_engine: async ({ engine }) => chooseEngine(engine),
  engines: enginesView,
  probe: ({ kernel }) => probe(kernel),
  benchmark: ({ kernel }) => benchmarkKernel(kernel),
  compare: async ({ reference, candidate, threshold }, context) => {
    const [a, b] = [modelOf(reference), modelOf(candidate)];
    const { core, model } = await fullModel(reference);
    const run = model.compare((await fullModel(candidate)).model, a.name, b.name, threshold);
    return reported(core, run, { source: a.files, candidate: b.files }, context);
  },
  verify: async (ask, context) => {
    const output = modelOf(ask.model);
    if (ask.source === undefined) {
      if (ask.imatrix !== undefined)
        throw new ApiFailure({ code: 'usage', message: 'an importance matrix is used only to verify against a source' });
      return measured(ask.model, ({ model }) => model.verify(output.name), context);
    }
    const source = modelOf(ask.source);
    const { core, model: made } = await fullModel(ask.model);
    const { model } = await sourceToVerify(ask.source, made);
    const run =
      ask.imatrix === undefined
        ? made.verify_against(model, output.name, source.name)
        : made.weighted_verify_against(model, await matrixIn(core, ask.imatrix), output.name, source.name);
    const importance = ask.imatrix === undefined ? [] : [imatrixOf(ask.imatrix).file];
    return reported(core, run, { source: source.files, candidate: output.files, importance }, context);
  },
};

/** Drives a run of one model that writes nothing, and returns its report. */
async function measured<A>(id: number, start: (held: Held) => Run, context: Context): Promise<A> {
  const files = { source: modelOf(id).files };
  let held = smallModel(id);
  const run = start(held);
  let moved: boolean;
  try {
    moved = await wantsDevice(run.total(), context.signal);
  } catch (reason) {
    run.free();
    throw reason;
  }
  if (!moved) return reported(held.core, run, files, context);
  run.free();
  held = await fullModel(id);
  return reported(held.core, start(held), files, context);
}

/** Drives a run that writes nothing to its end, and returns its report. */
async function reported<A>(core: Core, run: Run, files: Files, context: Context): Promise<A> {
  try {
    if (core.full) await selectEngine(run, context);
    const onDevice = () => run.on_device();
    await drive({ core, run, total: run.total(), files, onDevice, ...context });
    return run.report() as A;
  } finally {
    run.free();
  }
}

async function planIn({ core, model }: Held, { recipe, imatrix }: ConversionAsk, measure: boolean): Promise<Plan> {
  return imatrix === undefined
    ? model.plan(recipe, measure)
    : model.weighted_plan(recipe, await matrixIn(core, imatrix), measure);
}

/** The sample lies beside the page: the one thing that is ever fetched. */
async function fetched(base: string, name: string, signal: AbortSignal): Promise<Picked> {
  const response = await fetch(new URL(name, base), { signal });
  if (!response.ok)
    throw new ApiFailure({ code: 'not_found', message: `the server answered ${response.status}`, file: name });
  return { path: `sample/${name}`, file: new File([await response.blob()], name) };
}

async function convert(ask: Calls['convert']['ask'], context: Context): Promise<Saved> {
  const source = modelOf(ask.model);
  const importance = ask.imatrix === undefined ? [] : [imatrixOf(ask.imatrix).file];
  const input: Files = { source: source.files, importance };
  let held = await sourceOf(ask.model, ask.recipe);
  if (!held.core.full && (await wantsDevice(source.bytes, context.signal))) held = await fullModel(ask.model);
  const { core } = held;
  const plan = await planIn(held, ask, true);
  const begun = performance.now();
  try {
    const run = plan.run();
    try {
      const view = plan.view() as PlanView;
      const header = async ({ name, bytes, copied }: OutFileView, i: number) =>
        copied
          ? readSlice(existing(source.picked, name), 0, bytes, context.signal)
          : (plan.header(i) as Uint8Array<ArrayBuffer>);
      const files = await Promise.all(view.files.map(async (f, i) => ({ ...f, header: await header(f, i) })));
      const inputs = [...source.files, ...importance];
      const sink = await sinkFor(ask, inputs, files, view.directory, context.signal);
      const end = await write(core, run, sink, input, context, () => checkEquivalence(core, plan, run, ask, input, context));
      return { bytes: view.totals.total_bytes_out, seconds: (performance.now() - begun) / 1000, ...end };
    } finally {
      run.free();
    }
  } finally {
    plan.free();
  }
}

/** Runs source and plan of a rotation on a few tokens. Nothing is written where their logits differ. */
async function checkEquivalence(
  core: Core,
  plan: Plan,
  run: Run,
  { check = {} }: Calls['convert']['ask'],
  files: Files,
  { signal, progress }: Context,
): Promise<void> {
  // The small module rotates nothing.
  const passes = core.full && plan.equivalence_check(check.tokens, check.tolerance, check.allowUnprobed ?? false);
  if (!passes) return;
  const total = run.total();
  // How much the two passes read is not known beforehand.
  const label = 'Checking the rotated model on a few tokens';
  progress({ done: 0, total, label, device: false, restarted: false });
  try {
    await drive({ core, run: passes, total, files, signal, progress: (p) => progress({ ...p, done: 0, label }) });
    run.attach_equivalence(passes);
  } finally {
    passes.free();
  }
}

type Written = Pick<Saved, 'report' | 'file' | 'key' | 'written'>;

/** Drives a conversion into `sink` once `check` has passed. After a failure the sink leaves nothing behind. */
async function write(
  core: Core,
  run: Run,
  sink: Sink,
  files: Files,
  context: Context,
  check: () => Promise<void>,
): Promise<Written> {
  const total = run.total();
  try {
    await check();
    if (core.full) await selectEngine(run, context);
    await drive({ core, run, total, files, sink: { run, sink }, onDevice: () => run.on_device(), ...context });
    if (context.signal.aborted) throw interrupted();
    const report = run.report() as Saved['report'];
    context.progress({ done: total, total, label: 'Putting the file in place', device: false, restarted: false });
    return { report, ...(await sink.finish()) };
  } catch (reason) {
    const left = await sink.abort().catch((): Left => 'unconfirmed');
    // The first reason is the one to show.
    throw context.signal.aborted ? stopped(left) : reason;
  }
}

function sinkFor(
  { name, target }: Calls['convert']['ask'],
  inputs: readonly File[],
  files: OutFile[],
  directory: boolean,
  signal: AbortSignal,
): Promise<Sink> {
  const [single] = files;
  if (target.kind === 'directory') return pickedDirectory(target.handle, files, signal);
  if (target.kind === 'file' && !directory && single) return pickedFile(target.handle, single, inputs, signal);
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
    send({ id, error: toApiError(reason) });
  } finally {
    running.delete(id);
  }
}

const started = startCore();
started.then(
  () => send({ ready: true }),
  // Every call answers with the reason.
  () => undefined,
);
self.addEventListener('message', (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if ('cancel' in message) running.get(message.cancel)?.abort();
  else void answer(message);
});
