// The worker: the only place that reads files and runs the core. Answers the page's calls, one message each.
import type { Plan, Run, Watcher } from '../pkg/full';
import { ApiFailure } from '../api_failure';
import { dropEmpty } from '../picked';
import type {
  Call,
  Calls,
  Catalog,
  ConversionAsk,
  EncodingSize,
  Failure,
  FromWorker,
  MetadataElements,
  Picked,
  PlanView,
  Progress,
  Request,
  RotationOptions,
  Saved,
  SweepOutline,
  ToWorker,
} from '../protocol';
import { toApiError } from './api_error';
import { evaluate, sensitivity, typesForSize } from './forward';
import { benchmarkKernel, chooseEngine, enginesView, probe, selectEngine, wantsDevice } from './engine_select';
import {
  closeImatrix,
  closeModel,
  fullModel,
  matrixIn,
  modelOf,
  openImatrix,
  openModel,
  smallModel,
  sourceOf,
  sourceToVerify,
  type Held,
} from './models';
import { memoryBytes, smallCore, startCore } from './modules';
import { Turns } from './turns';

interface Context {
  signal: AbortSignal;
  /** Settles when the call may go on; absent while nothing holds it. */
  held: () => Promise<void> | undefined;
  progress: (p: Progress) => void;
}

type Handlers = { [K in Call]: (ask: Calls[K]['ask'], context: Context) => Promise<Calls[K]['answer']> };

const handlers: Handlers = {
  catalog: async () => smallCore().api.catalog() as Catalog,
  open: ({ files, name, ...options }, { signal }) => openModel(files, name, signal, options),
  sample: async ({ base, files, name, ...options }, { signal }) =>
    openModel(await Promise.all(files.map((f) => fetched(base, f, signal))), name, signal, options),
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
  sweep_outline: async ({ model, encodings, rows }) => modelOf(model).model.sweep_outline(encodings, rows) as SweepOutline,
  sweep: ({ model, tensors, encodings, rows }, context) =>
    reported(modelOf(model).model.sampled_sweep(Uint32Array.from(tensors), encodings, rows), context, false),
  metadata_text: async ({ model, key }) => modelOf(model).model.metadata_text(key) ?? null,
  metadata_elements: async ({ model, key, search, skip, count }) =>
    modelOf(model).model.metadata_elements(key, search, skip, count) as MetadataElements,
  rotation_options: async ({ what, seed }) => smallCore().api.rotation_options(what, seed) as RotationOptions,
  plan: async (ask, { signal }) => {
    const plan = await planIn(await sourceOf(ask.model, ask.recipe, signal), ask, false, signal);
    try {
      return plan.view() as PlanView;
    } finally {
      plan.free();
    }
  },
  convert,
  release: async ({ key }) => {
    released.add(key);
    return null;
  },
  eval: (ask, context) => evaluate(ask, watcher(context)),
  sensitivity: (ask, context) => sensitivity(ask, watcher(context)),
  types_for_size: (ask, context) => typesForSize(ask, watcher(context)),
  choose_engine: async ({ engine }) => chooseEngine(engine),
  engines: enginesView,
  probe: ({ kernel }) => probe(kernel),
  benchmark: ({ kernel }) => benchmarkKernel(kernel),
  compare: async ({ reference, candidate, threshold }, context) => {
    const names = [modelOf(reference).name, modelOf(candidate).name] as const;
    const { model } = await fullModel(reference, context.signal);
    const other = await fullModel(candidate, context.signal);
    return reported(model.compare(other.model, ...names, threshold), context);
  },
  verify: async ({ model: id, source, imatrix }, context) => {
    const { name } = modelOf(id);
    if (source === undefined) {
      if (imatrix !== undefined)
        throw new ApiFailure({ code: 'usage', message: 'an importance matrix is used only to verify against a source' });
      return measured(id, ({ model }) => model.verify(name), context);
    }
    const sourceName = modelOf(source).name;
    const { core, model: made } = await fullModel(id, context.signal);
    const { model } = await sourceToVerify(source, made, context.signal);
    const run =
      imatrix === undefined
        ? made.verify_against(model, name, sourceName)
        : made.weighted_verify_against(model, await matrixIn(core, imatrix, context.signal), name, sourceName);
    return reported(run, context);
  },
};

/** Keys of results that the page needs no more; their downloads have until the next conversion to begin. */
const released = new Set<string>();

function watcher({ signal, held, progress }: Context): Watcher {
  return {
    signal,
    get held() {
      return held();
    },
    report: (done, total, label, device, restarted) => progress({ done, total, label, device, restarted }),
  };
}

/** Drives a run of one model that writes nothing, and returns its report. */
async function measured<A>(id: number, start: (held: Held) => Run, context: Context): Promise<A> {
  const run = start(smallModel(id));
  let moved: boolean;
  try {
    moved = await wantsDevice(run.total(), context.signal);
  } catch (reason) {
    run.free();
    throw reason;
  }
  if (!moved) return reported(run, context, false);
  run.free();
  return reported(start(await fullModel(id, context.signal)), context);
}

/** Drives a run that writes nothing to its end, and returns its report. */
async function reported<A>(run: Run, context: Context, full = true): Promise<A> {
  try {
    if (full) await selectEngine(run, context);
    await run.drive(watcher(context));
    return run.report() as A;
  } finally {
    run.free();
  }
}

async function planIn(
  { core, model }: Held,
  { recipe, imatrix }: ConversionAsk,
  measure: boolean,
  signal: AbortSignal,
): Promise<Plan> {
  return imatrix === undefined
    ? model.plan(recipe, measure)
    : model.weighted_plan(recipe, await matrixIn(core, imatrix, signal), measure);
}

/** The sample lies beside the page: the one thing that is ever fetched. */
async function fetched(base: string, name: string, signal: AbortSignal): Promise<Picked> {
  const response = await fetch(new URL(name, base), { signal });
  if (!response.ok)
    throw new ApiFailure({ code: 'not_found', message: `the server answered ${response.status}`, file: name });
  return { path: `sample/${name}`, file: new File([await response.blob()], name) };
}

async function convert(ask: Calls['convert']['ask'], context: Context): Promise<Saved> {
  const { name, target, check } = ask;
  const { plan, run, full } = await planned(ask, context).catch(async (reason: unknown) => {
    // The picker made it.
    if (target.kind === 'file') await dropEmpty(target.handle).catch(() => undefined);
    throw reason;
  });
  const begun = performance.now();
  try {
    const { totals } = plan.view() as PlanView;
    const { kind, handle } = { handle: undefined, ...target };
    const prepare = async () => (full ? selectEngine(run, context) : undefined);
    const options = { ...check, name, kind, handle, released: [...released], prepare };
    const { report, ...saved } = await run.save(options, watcher(context));
    const seconds = (performance.now() - begun) / 1000;
    return { bytes: totals.total_bytes_out, seconds, report: report as Saved['report'], ...saved };
  } finally {
    run.free();
    plan.free();
  }
}

/** The run of a conversion, in the module that it needs. */
async function planned(ask: ConversionAsk, { signal }: Context): Promise<{ plan: Plan; run: Run; full: boolean }> {
  let held = await sourceOf(ask.model, ask.recipe, signal);
  if (!held.core.full && (await wantsDevice(modelOf(ask.model).bytes, signal))) held = await fullModel(ask.model, signal);
  const plan = await planIn(held, ask, true, signal);
  try {
    return { plan, run: plan.run(), full: held.core.full };
  } catch (reason) {
    plan.free();
    throw reason;
  }
}

const running = new Map<number, AbortController>();
const turns = new Turns();

function send(message: FromWorker): void {
  self.postMessage(message);
}

async function answer<K extends Call>(request: Request<K>): Promise<void> {
  const { id } = request;
  const stop = new AbortController();
  running.set(id, stop);
  turns.begin(id, request.call);
  const held = () => turns.held(id);
  const context = { signal: stop.signal, held, progress: (progress: Progress) => send({ id, progress }) };
  try {
    await started;
    const handler = handlers[request.call] as Handlers[K];
    send({ id, answer: await handler(request.ask, context) });
  } catch (reason) {
    send({ id, error: toApiError(reason) });
  } finally {
    running.delete(id);
    turns.end(id);
  }
}

let arrived: (core: WebAssembly.Module | Failure) => void = () => {};
const started = new Promise<WebAssembly.Module | Failure>((resolve) => (arrived = resolve)).then(startCore);
started.then(
  () => send({ ready: true }),
  // Every call answers with the reason.
  () => undefined,
);
self.addEventListener('message', (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if ('core' in message) arrived(message.core);
  else if ('cancel' in message) running.get(message.cancel)?.abort();
  else if ('hold' in message) turns.hold(message.hold, message.on);
  else void answer(message);
});
