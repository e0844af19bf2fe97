// The messages between the page and its worker. Plain data only: every message can be cloned. Types that are serialized in
// Rust are generated.
import type {
  ApiError,
  Catalog,
  ChosenTypes,
  CompareView,
  ConvertReport,
  DeviceDetails,
  EncodingSize,
  EvalReport,
  EvaluationRequest,
  ImatrixView,
  JobResult,
  KernelSpeed as MeasuredSpeed,
  MetadataElements,
  ModelSummary,
  PlanView,
  Recipe,
  RotationOptions,
  RotationReport,
  SensitivityRequest,
  SensitivityReport,
  StatsReport,
  SweepOutline,
  TensorRow,
  SizedTypesRequest,
  VerifyReport,
} from './protocol.gen';

export type * from './protocol.gen';

/** A file and the path it had inside what was dropped. */
export interface Picked {
  path: string;
  file: File;
}

/** An error, and how a model can be opened after it. */
export interface Failure extends ApiError {
  /** What to choose from: files, and folders, which end in `/`. */
  choices?: string[];
  /** Programs that may have written the file: one of them decides its ambiguous types. */
  aprWriters?: string[];
}

/** How to open what was picked. */
export interface OpenOptions {
  /** One of the choices of a failure. */
  choice?: string;
  /** One of the writers of a failure: `--apr-writer`. */
  aprWriter?: string;
  /** True to answer without tensors and metadata: another worker has them. */
  bare?: boolean;
}

/** An open model. `id` names it in calls. */
export interface ModelView extends ModelSummary {
  id: number;
  name: string;
  tensors: TensorRow[];
  /** The name of its folder, where there is one. */
  folder: string | null;
  openedMs: number;
}

/** An open importance matrix. `id` names it in calls. */
export interface OpenImatrix extends ImatrixView {
  id: number;
}

/** Which engine works. `auto` attaches a device where that was measured to be faster. */
export type EngineChoice = 'auto' | 'processor' | 'webgpu';

export interface EnginesView {
  processor: string;
  device?: DeviceDetails;
  /** Why there is no device. */
  absent?: string;
}

/** Values per second of a kernel; `auto` is true if `auto` attaches the device for it. */
export interface KernelSpeed extends MeasuredSpeed {
  auto: boolean;
}

/** Options of the check that runs before a rotated model is written; those of the command line. */
export interface EquivalenceOptions {
  /** `--probe-tokens` */
  tokens?: number;
  /** `--tolerance` */
  tolerance?: number;
  /** `--allow-unprobed` */
  allowUnprobed?: boolean;
}

/** What a conversion is made of: the numbers of an open model and, where it is wanted, of an open importance matrix. */
export interface ConversionAsk {
  model: number;
  recipe: Recipe;
  imatrix?: number;
}

export type Target =
  | { kind: 'file'; handle: FileSystemFileHandle }
  | { kind: 'directory'; handle: FileSystemDirectoryHandle }
  | { kind: 'private' };

export interface Saved {
  report: JobResult<ConvertReport>;
  bytes: number;
  seconds: number;
  /** Present where the result waits in the browser's private storage for a download. */
  file: File | null;
  /** The key of that file for `release`. */
  key: string | null;
  /** The written files, where they can be read again: the page offers to compare them with their source. */
  written: Picked[];
}

/** Tokens of an evaluation: a text by the model's tokenizer, ids, or ids that are drawn, by default with a fixed seed. */
export type Tokens = { text: string } | { ids: number[] } | { seed: number | null };

/** What can be asked, and the answer to each. */
export interface Calls {
  catalog: { ask: Record<string, never>; answer: Catalog };
  open: { ask: { files: Picked[]; name: string } & OpenOptions; answer: ModelView };
  sample: { ask: { base: string; files: string[]; name: string; bare?: boolean }; answer: ModelView };
  close: { ask: { model: number }; answer: null };
  open_imatrix: { ask: { file: File }; answer: OpenImatrix };
  close_imatrix: { ask: { imatrix: number }; answer: null };
  /** The types that fit a tensor, in the groups in which they are measured. */
  encodings: { ask: { model: number; tensor: number }; answer: EncodingSize[][] };
  /** Statistics and histogram; of a sample of the rows of a large tensor unless `all` is set. */
  values: { ask: { model: number; tensor: number; all?: boolean }; answer: JobResult<StatsReport> };
  /** The error of some types on the same rows. */
  errors: { ask: { model: number; tensor: number; encodings: string[]; all?: boolean }; answer: JobResult<StatsReport> };
  rotated: {
    ask: { model: number; tensor: number; rotation: string; seed?: string };
    answer: JobResult<RotationReport>;
  };
  /** The tensors that a sweep of these types measures, and its warnings. */
  sweep_outline: { ask: { model: number; encodings: string[]; rows: number }; answer: SweepOutline };
  /** The error of these types on about `rows` rows of each of some tensors: `sweep --sample ROWS` of the command line. */
  sweep: {
    ask: { model: number; tensors: number[]; encodings: string[]; rows: number };
    answer: JobResult<StatsReport>;
  };
  /** The whole text of a metadata value; `null` for an array. */
  metadata_text: { ask: { model: number; key: string }; answer: string | null };
  /** Elements of a metadata array that contain `search`, or whose index it is. */
  metadata_elements: {
    ask: { model: number; key: string; search: string; skip: number; count: number };
    answer: MetadataElements;
  };
  /** Options of a rotation from the text of `--rotate` and a seed. */
  rotation_options: { ask: { what: string; seed?: string }; answer: RotationOptions };
  plan: { ask: ConversionAsk; answer: PlanView };
  convert: { ask: ConversionAsk & { name: string; target: Target; check?: EquivalenceOptions }; answer: Saved };
  /** The next conversion may remove this result. */
  release: { ask: { key: string }; answer: null };
  compare: {
    ask: { reference: number; candidate: number; threshold: number | null };
    answer: JobResult<CompareView>;
  };
  /** Checks the values of a model, and with `source` whether its bytes are those that the source quantizes to. */
  verify: { ask: { model: number; source?: number; imatrix?: number }; answer: JobResult<VerifyReport> };
  /** `eval`: perplexity, and divergence from a reference. */
  eval: {
    ask: { model: number; reference?: number; tokens: Tokens; options: EvaluationRequest };
    answer: EvalReport;
  };
  /** `sensitivity`: the divergence with each tensor alone quantized. */
  sensitivity: { ask: { model: number; tokens: Tokens; options: SensitivityRequest }; answer: SensitivityReport };
  /** The recipe of `quantize --target-size` or `--target-bpw`. */
  types_for_size: { ask: { model: number; recipe: Recipe; options: SizedTypesRequest }; answer: ChosenTypes };
  choose_engine: { ask: { engine: EngineChoice }; answer: null };
  engines: { ask: Record<string, never>; answer: EnginesView };
  probe: { ask: { kernel: number }; answer: boolean };
  benchmark: { ask: { kernel: number }; answer: KernelSpeed };
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
  /** True if a device takes part. */
  device: boolean;
  /** True after a device returned wrong bytes: the run was restarted without it. */
  restarted: boolean;
}

/** `core` comes first: the compiled module, or why there is none. `hold` pauses a call and lets it go on. */
export type ToWorker =
  | Request
  | { cancel: number }
  | { hold: number; on: boolean }
  | { core: WebAssembly.Module | Failure };
export type FromWorker =
  | { ready: true }
  | { id: number; answer: unknown }
  | { id: number; error: Failure }
  | { id: number; progress: Progress };
