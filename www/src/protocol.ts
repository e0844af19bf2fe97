// What the page and its worker say to each other. Plain data only; every message can be cloned.

/** An error, with the codes and words of the command line. */
export interface Problem {
  code: string;
  message: string;
  file?: string;
  tensor?: string;
  offset?: number | bigint;
  element?: number | bigint;
}

/** A file and the path it had inside what was dropped. */
export interface Picked {
  path: string;
  file: File;
}

export interface TensorRow {
  index: number;
  name: string;
  dtype: string;
  shape: number[];
  elements: number;
  bytes: number;
  /** Index into `ModelView.files`. */
  file: number;
  offset: number;
}

export interface ModelView {
  id: number;
  name: string;
  container: string;
  architecture: string | null;
  files: { name: string; bytes: number }[];
  tensors: TensorRow[];
  elements: number;
  /** Bytes of all tensors. */
  bytes: number;
  /** Bytes of all files that were opened. */
  fileBytes: number;
  quantized: boolean;
  metadata: [string, string][];
  warnings: string[];
  openedMs: number;
}

/** The reports are those of the command line, key for key; absent keys are unknown. */
export interface ErrorView {
  rmse?: number;
  mse?: number;
  relative_error?: number;
  sqnr_db?: number;
  cosine?: number;
  max_abs?: number;
  nonfinite_reference?: number;
  nonfinite_candidate?: number;
}

export interface Stats {
  min?: number;
  max?: number;
  mean?: number;
  std?: number;
  absmax?: number;
  kurtosis?: number;
  asymmetry?: number;
  worth_asymmetric?: boolean;
  zeros: number;
  nan: number;
  inf: number;
}

export interface Histogram {
  lo: number;
  hi: number;
  counts: number[];
}

export interface EncodingRow extends ErrorView {
  encoding: string;
  bits_per_weight: number;
  refused?: Problem;
}

export interface StatsTensor {
  name: string;
  numel: number;
  /** How many rows of how many were measured, where not all were. */
  sampled?: { rows: number; of: number };
  stats?: Stats;
  histogram?: Histogram;
  encodings?: EncodingRow[];
}

/** One encoding of a tensor as it is, and in each frame. */
export interface RotatedEncoding extends EncodingRow {
  /** Relative error of Gaussian noise. */
  floor?: number;
  /** Relative error that the histogram alone lets expect. */
  predicted?: number;
  rotated: (ErrorView & { rotation: string; gain_db?: number; refused?: Problem })[];
}

export interface Frame {
  rotation: string;
  along?: 'rows' | 'columns';
  folded: boolean;
  by_rules: boolean;
  absent?: string;
  /** How many weights were measured, where not all were. */
  weights?: number;
  stats?: Stats;
  histogram?: Histogram;
}

export interface RotatedTensor extends Omit<StatsTensor, 'encodings'> {
  frames: Frame[];
  encodings: RotatedEncoding[];
}

export interface RotationReport {
  run: RunView;
  seed: string;
  rotations: string[];
  tensors: RotatedTensor[];
  summary: { words: string[] };
  warnings: Warning[];
}

export interface Warning {
  code: string;
  message: string;
}

/** Who does the work. `auto` takes a device where that was measured to be faster. */
export type EngineChoice = 'auto' | 'processor' | 'webgpu';

/** What one kernel of a device makes of what. */
export interface KernelView {
  work: 'quantize' | 'dequantize' | 'turn';
  name: string;
  from: string;
  to: string;
  weighted: boolean;
  /** Whether the probe found all its answers right, where it was probed; others are never asked. */
  exact: boolean | null;
}

export interface EngineRoom {
  processor: string;
  device?: { name: string; software: boolean; kernels: KernelView[]; ended: string | null };
  /** Why there is no device. */
  absent?: string;
}

/** Values per second of a kernel; `auto` says whether it takes the device there. */
export interface Pace {
  processor: number | null;
  device: number | null;
  auto: boolean;
}

/** What did the work of a report. */
export interface RunView {
  engine: string;
  device?: { name: string; blocks: number; checked: number; differing: number; ended?: string };
}

export interface StatsReport {
  run: RunView;
  tensors: StatsTensor[];
  warnings: Warning[];
}

export type Container = 'gguf' | 'safetensors' | 'q4';

/** A recipe, as the core reads it. */
export interface Recipe {
  to: Container;
  type?: string;
  /** A named mix, in place of one type. */
  mix?: string;
  q4_scheme: 'asym' | 'sym';
  pure: boolean;
  allow_requantize: boolean;
  /** Let NaN and infinities pass in plain floats, with a warning. */
  allow_nonfinite?: boolean;
}

export interface ConvertedTensor {
  name: string;
  action: 'quantize' | 'convert' | 'transcode' | 'keep';
  dtype_in: string;
  dtype_out: string;
  shape: number[];
  numel: number;
  bytes_in: number;
  bytes_out: number;
  reason: { code: string; text: string };
  error?: ErrorView;
  /** NaN and infinities that were written, where they are allowed. */
  non_finite?: { count: number; first?: number };
}

export interface ConvertReport {
  directory: boolean;
  totals: {
    total_bytes_in: number;
    source_file_bytes: number;
    total_bytes_out: number;
    tensor_bytes_out: number;
    planned_quantized: number;
    kept: number;
    ratio?: number;
    bits_per_weight?: number;
  };
  tensors: ConvertedTensor[];
  warnings: Warning[];
}

/** A plan that was carried out. */
export interface DoneReport extends ConvertReport {
  run: RunView;
}

export interface PlanView extends ConvertReport {
  files: { name: string; bytes: number }[];
}

export interface CompareRow extends ErrorView {
  tensor: string;
  qtype: string;
  numel: number;
  /** The smaller of the cosine and 1 - relative_error^2 / 2. */
  figure?: number;
  /** The row with the least figure of its own. */
  worst_row?: { row: number; figure: number };
  verdict: 'green' | 'yellow' | 'red';
  below_threshold: boolean;
}

export interface Finding {
  kind: string;
  tensor?: string;
  detail: string;
}

export interface CompareReport {
  run: RunView;
  threshold?: number;
  tensors: CompareRow[];
  findings: Finding[];
  any_below_threshold: boolean;
  /** Whether the gate holds: nothing below the threshold, no finding, or no gate. */
  passes: boolean;
}

export type Target =
  | { kind: 'file'; handle: FileSystemFileHandle }
  | { kind: 'directory'; handle: FileSystemDirectoryHandle }
  | { kind: 'private' };

export interface Saved {
  report: DoneReport;
  bytes: number;
  seconds: number;
  /** Present where the result waits in the browser's private storage for a download. */
  file: File | null;
  /** Names that file for `release`. */
  key: string | null;
  /** The written files, where they can be read again: the page offers to compare them with their source. */
  written: Picked[];
}

/** What can be asked, and what comes back. */
export interface Calls {
  open: { ask: { files: Picked[]; name: string }; answer: ModelView };
  sample: { ask: { base: string; files: string[]; name: string }; answer: ModelView };
  close: { ask: { model: number }; answer: null };
  measure: { ask: { model: number; tensor: number }; answer: StatsReport };
  rotated: { ask: { model: number; tensor: number; rotation: string }; answer: RotationReport };
  plan: { ask: { model: number; recipe: Recipe }; answer: PlanView };
  convert: { ask: { model: number; recipe: Recipe; name: string; target: Target }; answer: Saved };
  /** The page needs this result no more: the next conversion may remove it. */
  release: { ask: { key: string }; answer: null };
  compare: { ask: { reference: number; candidate: number; threshold: number | null }; answer: CompareReport };
  choose: { ask: { engine: EngineChoice }; answer: null };
  engines: { ask: Record<string, never>; answer: EngineRoom };
  probe: { ask: { kernel: number }; answer: boolean };
  pace: { ask: { kernel: number }; answer: Pace };
  memory: { ask: Record<string, never>; answer: { wasm: number } };
}

export type Call = keyof Calls;

export interface Request<K extends Call = Call> {
  id: number;
  call: K;
  ask: Calls[K]['ask'];
}

export interface Progress {
  done: number;
  total: number;
  label: string;
  /** Whether a device takes part. */
  device: boolean;
  /** Whether a device made wrong bytes, and all was begun anew without it. */
  anew: boolean;
}

export type ToWorker = Request | { cancel: number };
export type FromWorker =
  | { ready: true }
  | { id: number; answer: unknown }
  | { id: number; problem: Problem }
  | { id: number; progress: Progress };
