// What the page and its worker say to each other. Plain data only; every message can be cloned.

/** An error, with the codes and words of the command line. */
export interface Problem {
  code: string;
  message: string;
  file?: string;
  tensor?: string;
  offset?: number;
  element?: number;
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

export interface Moments {
  n: number;
  mean: number | null;
  std: number | null;
  min: number | null;
  max: number | null;
  absmax: number | null;
  kurtosis: number | null;
  zeros: number;
  nan: number;
  inf: number;
}

export interface Histogram {
  lo: number;
  hi: number;
  counts: number[];
}

export interface EncodingError {
  dtype: string;
  bpw: number;
  bytes: number | null;
  rmse: number | null;
  relative: number | null;
  sqnr: number | null;
  cosine: number | null;
  maxAbs: number | null;
  /** Why there is no number, where there is none. */
  refused: Problem | null;
}

export interface TensorReport {
  index: number;
  moments: Moments;
  histogram: Histogram | null;
  symmetry: number | null;
  asymmetric: boolean | null;
  encodings: EncodingError[];
}

export type Container = 'gguf' | 'safetensors' | 'q4';

/** What the person asked for; the core turns it into a recipe. */
export interface Wish {
  container: Container;
  type: string | null;
  scheme: 'asym' | 'sym';
  pure: boolean;
  requantize: boolean;
}

export interface PlanRow {
  name: string;
  source: string | null;
  from: string | null;
  to: string | null;
  shape: number[];
  elements: number;
  bytesIn: number;
  bytesOut: number;
  quantized: boolean;
  action: string;
  reason: string;
}

export interface PlanView {
  rows: PlanRow[];
  files: { name: string; bytes: number }[];
  bytesIn: number;
  bytesOut: number;
  ratio: number | null;
  quantized: number;
  kept: number;
  window: number | null;
  warnings: string[];
}

export interface PairRow {
  tensor: string;
  qtype: string;
  numel: number;
  rmse: number | null;
  cosine: number | null;
  maxAbs: number | null;
  verdict: string;
}

export interface Finding {
  kind: string;
  tensor: string | null;
  message: string;
}

export interface Comparison {
  threshold: number | null;
  rows: PairRow[];
  findings: Finding[];
  belowThreshold: boolean;
}

export type Target =
  | { kind: 'file'; handle: FileSystemFileHandle }
  | { kind: 'directory'; handle: FileSystemDirectoryHandle }
  | { kind: 'private' };

export interface Saved {
  bytes: number;
  seconds: number;
  /** Present where the result waits in the browser's private storage for a download. */
  file: File | null;
  /** The written files, where they can be read again: the page offers to compare them with their source. */
  written: Picked[];
}

/** What can be asked, and what comes back. */
export interface Calls {
  open: { ask: { files: Picked[]; name: string }; answer: ModelView };
  sample: { ask: { base: string; files: string[]; name: string }; answer: ModelView };
  close: { ask: { model: number }; answer: null };
  measure: { ask: { model: number; tensor: number }; answer: TensorReport };
  plan: { ask: { model: number; wish: Wish }; answer: PlanView };
  convert: { ask: { model: number; wish: Wish; name: string; target: Target }; answer: Saved };
  compare: { ask: { reference: number; candidate: number; threshold: number | null }; answer: Comparison };
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
}

export type ToWorker = Request | { cancel: number };
export type FromWorker =
  | { ready: true }
  | { id: number; answer: unknown }
  | { id: number; problem: Problem }
  | { id: number; progress: Progress };
