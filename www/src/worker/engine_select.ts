// Selects the engine of a run: the processor, or a graphics device that was opened, probed and timed.
import type { Device, Run } from '../pkg/full';
import type { EngineChoice, EnginesView, KernelSpeed, Progress } from '../protocol';
import { unlessCancelled } from './cancel';
import { fullCore, smallCore } from './modules';
import { ApiFailure } from '../api_failure';
import { toApiError } from './api_error';

/** The part of WebGPU that is used here; everything else is the core's. */
interface Graphics {
  requestAdapter(options: { powerPreference: 'high-performance' }): Promise<Adapter | null>;
}
interface Adapter {
  info?: { vendor: string; architecture: string; description: string; isFallbackAdapter?: boolean };
  isFallbackAdapter?: boolean;
}

type Found = { name: string; software: boolean } | { absent: string };
type Opened = { device: Device } | { absent: string };
interface Watch {
  signal: AbortSignal;
  progress: (p: Progress) => void;
}
type View = NonNullable<EnginesView['device']>;

/** `auto` leaves what reads less to the processor: it is done before a device has been opened, probed and timed. */
const WORTH = 256 << 20;

let choice: EngineChoice = 'auto';
let found: Promise<Found> | undefined;
let opened: Promise<Opened> | undefined;
const timed = new Map<number, Promise<KernelSpeed>>();
/** The device restricted to some of its kernels, by their numbers. */
const chosen = new Map<string, Device>();

export function chooseEngine(engine: EngineChoice): null {
  choice = engine;
  return null;
}

/** Whether a device may take part in a run that reads `total` bytes: such a run is one of the full module. */
export function wantsDevice(total: number, signal: AbortSignal): Promise<boolean> {
  return unlessCancelled(usable(total), signal);
}

async function usable(total: number): Promise<boolean> {
  if (choice === 'processor' || (choice === 'auto' && total < WORTH)) return false;
  const adapter = await find();
  return !('absent' in adapter || (choice === 'auto' && adapter.software)) && !('absent' in (await open()));
}

/** Attaches a device to a run of the full module where the engine choice allows one. A cancel does not wait for it. */
export function selectEngine(run: Run, watch: Watch): Promise<void> {
  return unlessCancelled(select(run, watch), watch.signal);
}

async function select(run: Run, watch: Watch): Promise<void> {
  if (!(await usable(run.total()))) return;
  const [adapter, here] = await Promise.all([find(), open()]);
  if ('absent' in adapter || 'absent' in here || watch.signal.aborted) return;
  try {
    await attachDevice(run, here.device, adapter.name, watch);
  } catch (reason) {
    // Lost while it was asked: the processor does not need it.
    opened = Promise.resolve(refused(adapter.name, reason));
  }
}

async function attachDevice(run: Run, device: Device, name: string, { signal, progress }: Watch): Promise<void> {
  const auto = choice === 'auto';
  const { kernels } = view(device);
  const wins: number[] = [];
  for (const index of run.kernels(device)) {
    if (signal.aborted) return;
    const label = `${name}: verifying ${kernels[index]?.name}`;
    progress({ done: 0, total: run.total(), label, device: false, restarted: false });
    if ((await device.probe(index)) && auto && (await rate(device, index)).auto) wins.push(index);
  }
  // The run may be gone by now.
  if (signal.aborted) return;
  if (!auto) return run.attach_device(device);
  if (wins.length > 0) run.attach_device(withKernels(device, wins));
}

function withKernels(device: Device, indices: number[]): Device {
  const key = indices.join();
  const known = chosen.get(key) ?? device.with_kernels(Uint32Array.from(indices));
  chosen.set(key, known);
  return known;
}

export async function enginesView(): Promise<EnginesView> {
  const here = await open();
  const processor = smallCore().api.processor();
  if ('absent' in here) return { processor, absent: here.absent };
  return { processor, device: view(here.device) };
}

export async function probe(kernel: number): Promise<boolean> {
  return (await theDevice().then((device) => device.probe(kernel))) as boolean;
}

/** Times a kernel again. */
export async function benchmarkKernel(kernel: number): Promise<KernelSpeed> {
  timed.delete(kernel);
  return rate(await theDevice(), kernel);
}

function rate(device: Device, kernel: number): Promise<KernelSpeed> {
  const known = timed.get(kernel) ?? time(device, kernel);
  timed.set(kernel, known);
  return known;
}

async function time(device: Device, kernel: number): Promise<KernelSpeed> {
  const speed = (await device.benchmark(kernel)) as Omit<KernelSpeed, 'auto'>;
  return { ...speed, auto: speed.worth_it && !view(device).software };
}

function view(device: Device): View {
  return device.view() as View;
}

async function theDevice(): Promise<Device> {
  const here = await open();
  if ('absent' in here) throw new ApiFailure({ code: 'device', message: here.absent });
  return here.device;
}

function find(): Promise<Found> {
  return (found ??= ask());
}

async function ask(): Promise<Found> {
  const graphics = (navigator as { gpu?: Graphics }).gpu;
  if (!graphics) return { absent: 'This browser has no WebGPU here, so the processor does all the work.' };
  // The same options as the core's, so the same adapter.
  const adapter = await graphics.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (!adapter) return { absent: 'The browser offers this page no graphics adapter, so the processor does all the work.' };
  const { vendor, architecture, description } = adapter.info ?? { vendor: '', architecture: '', description: '' };
  const software = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  return { name: description || [vendor, architecture].filter(Boolean).join(' ') || 'graphics adapter', software };
}

function open(): Promise<Opened> {
  return (opened ??= find().then(async (adapter) => {
    if ('absent' in adapter) return adapter;
    try {
      const { api } = await fullCore();
      return { device: (await api.Device.open(adapter.name, adapter.software)) as Device };
    } catch (reason) {
      // A module that could not be loaded is loaded again next time.
      if (reason instanceof ApiFailure && reason.error.code === 'io') opened = undefined;
      return refused(adapter.name, reason);
    }
  }));
}

function refused(name: string, reason: unknown): Opened {
  return { absent: `${name} is not used: ${toApiError(reason).message}. The processor does all the work.` };
}
