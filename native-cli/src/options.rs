//! What the verbs are asked to do: plain data with everything resolved. Knows no command line; bindings fill
//! these in directly.

use quantoscope_core::DType;
use quantoscope_core::format::AprWriter;
use quantoscope_core::format::gguf::MetadataChanges;
use quantoscope_core::format::imatrix::ImatrixFormat;
use quantoscope_core::model_equivalence;
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::recipe::{Recipe, SplitOptions};
use quantoscope_core::report::CompareThreshold;
use quantoscope_core::sensitivity::fit::SizeLimit;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// Threads, memory and engine of a verb. Threads and memory never change a result; the engine changes the last digits of what
/// is computed by a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceOptions {
    /// Worker threads; `None`: one per processor.
    pub threads: Option<u32>,
    /// Bytes for all windows in flight together; `None`: 32 MiB per thread (128 MiB for rotated models).
    pub memory: Option<u64>,
    /// The name of the engine: `auto`, or one that [`crate::verbs::engines`] reports.
    pub engine: String,
    /// Whether a progress bar may be drawn on standard error, if that is a terminal.
    pub progress: bool,
}

impl Default for ResourceOptions {
    fn default() -> ResourceOptions {
        ResourceOptions { threads: None, memory: None, engine: "auto".into(), progress: false }
    }
}

/// The values that [`crate::verbs::inspect`] reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Statistics {
    /// None: headers only.
    #[default]
    None,
    /// All values: moments and extremes.
    Moments,
    /// All values: moments, extremes, quantiles and a histogram.
    Histograms,
}

/// The path of a model: a file or a directory.
#[derive(Clone, Debug, Default)]
pub struct ModelPath {
    path: PathBuf,
    /// The program that wrote an APR file, which decides the ambiguous dtype bytes of its tensors.
    pub apr_writer: Option<AprWriter>,
}

impl ModelPath {
    /// The path of a model; `apr_writer` is the program that wrote it, if it is APR.
    pub fn new(path: impl Into<PathBuf>, apr_writer: Option<AprWriter>) -> ModelPath {
        ModelPath { path: path.into(), apr_writer }
    }
}

impl<T: Into<PathBuf>> From<T> for ModelPath {
    fn from(path: T) -> ModelPath {
        ModelPath::new(path, None)
    }
}

impl Deref for ModelPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// Options of [`crate::verbs::inspect`].
#[derive(Clone, Debug, Default)]
pub struct InspectOptions {
    /// A file or a directory.
    pub input: ModelPath,
    /// The tensors to show.
    pub filter: TensorFilter,
    /// What is measured in them.
    pub statistics: Statistics,
    /// A journal of the finished windows, from which a stopped run goes on.
    pub journal: Option<PathBuf>,
    /// How it is measured.
    pub resources: ResourceOptions,
}

/// Options of [`crate::verbs::plan`].
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// A file or a directory.
    pub input: ModelPath,
    /// What the checkpoint becomes.
    pub recipe: Recipe,
    /// An importance matrix.
    pub imatrix: Option<PathBuf>,
    /// The size that types are chosen for.
    pub target: Option<TargetOptions>,
}

/// An output, and what may be done to write it.
#[derive(Clone, Debug, Default)]
pub struct OutputOptions {
    /// The file or directory to write.
    pub path: PathBuf,
    /// Whether to stop at the plan: no value is read, nothing is written.
    pub dry_run: bool,
    /// Whether an existing output is replaced.
    pub force: bool,
    /// Whether an interrupted run is continued, and a partial output kept if this run is interrupted.
    pub resume: bool,
}

/// How a rotated model is compared with its source before it is written.
#[derive(Clone, Copy, Debug)]
pub struct EquivalenceOptions {
    /// Tokens on which both models must compute the same logits, 1 to 256.
    pub probe_tokens: u32,
    /// Allowed difference of logits, as a share of the largest logit (or of 1, if that is more).
    pub tolerance: f64,
    /// Whether a model is written whose forward pass is not supported.
    pub allow_unprobed: bool,
}

impl Default for EquivalenceOptions {
    fn default() -> EquivalenceOptions {
        EquivalenceOptions {
            probe_tokens: model_equivalence::TOKENS,
            tolerance: model_equivalence::TOLERANCE,
            allow_unprobed: false,
        }
    }
}

/// Options of [`crate::verbs::quantize`].
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// A file or a directory.
    pub input: ModelPath,
    /// Where the result goes.
    pub output: OutputOptions,
    /// What the checkpoint becomes.
    pub recipe: Recipe,
    /// An importance matrix.
    pub imatrix: Option<PathBuf>,
    /// The size that types are chosen for.
    pub target: Option<TargetOptions>,
    /// Rotations between which and no rotation the divergence of the model's output decides; the recipe has none then.
    pub auto_rotation: Option<AutoRotation>,
    /// Whether the error of quantized tensors is measured while they are written.
    pub measure: bool,
    /// How the result is compared with its source, if it is rotated.
    pub equivalence: EquivalenceOptions,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// Options of [`crate::verbs::split`].
#[derive(Clone, Debug, Default)]
pub struct FilesOptions {
    /// A file, one of several files, or a directory.
    pub input: ModelPath,
    /// Where the result goes.
    pub output: OutputOptions,
    /// The files of the result; not used by a merge.
    pub split: SplitOptions,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// Options of [`crate::verbs::metadata`].
#[derive(Clone, Debug, Default)]
pub struct MetadataOptions {
    /// A GGUF file.
    pub input: PathBuf,
    /// Another file to write; `None`: the input is changed.
    pub output: Option<PathBuf>,
    /// Keys to set or to remove.
    pub changes: MetadataChanges,
    /// Whether an existing output is replaced.
    pub force: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// A LoRA adapter to rotate with its model.
#[derive(Clone, Debug)]
pub struct AdapterOptions {
    /// The directory of the PEFT adapter.
    pub path: PathBuf,
    /// The rotated model, whose recorded rotation is used.
    pub rotated: Option<PathBuf>,
}

/// Options of [`crate::verbs::rotate`].
#[derive(Clone, Debug)]
pub struct RotateOptions {
    /// The directory of a model.
    pub input: ModelPath,
    /// Where the result goes.
    pub output: OutputOptions,
    /// What is rotated; `None`: the residual stream, or what the rotated model of the adapter records. Its
    /// seed is not used.
    pub rotation: Option<RotationOptions>,
    /// The seed of the rotation's signs; `None`: the default seed, or the one that the rotated model records.
    pub seed: Option<u64>,
    /// The type of every tensor; `None`: the type that each has.
    pub dtype: Option<DType>,
    /// Whether NaN and infinities are copied in tensors that are not rotated.
    pub allow_nonfinite: bool,
    /// The adapter to rotate in place of the model.
    pub adapter: Option<AdapterOptions>,
    /// How the result is compared with its source.
    pub equivalence: EquivalenceOptions,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// Options of [`crate::verbs::compare`].
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// The reference: a file or a directory.
    pub reference: ModelPath,
    /// The candidate: a file or a directory.
    pub candidate: ModelPath,
    /// The tensors to compare.
    pub filter: TensorFilter,
    /// The figures that pass.
    pub threshold: CompareThreshold,
    /// A journal of the finished windows, from which a stopped run goes on.
    pub journal: Option<PathBuf>,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// A source to verify an output against.
#[derive(Clone, Debug)]
pub struct VerifySource {
    /// A file or a directory.
    pub path: ModelPath,
    /// The importance matrix that the output was made with.
    pub imatrix: Option<PathBuf>,
}

/// Options of [`crate::verbs::verify`].
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The file or directory to verify.
    pub input: ModelPath,
    /// The source whose encoding must be equal to it; `None`: only structure and values are checked.
    pub against: Option<VerifySource>,
    /// A journal of the finished windows, from which a stopped run goes on.
    pub journal: Option<PathBuf>,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// Options of [`crate::verbs::sweep`].
#[derive(Clone, Debug, Default)]
pub struct SweepOptions {
    /// A file or a directory.
    pub input: ModelPath,
    /// The tensors to measure; without a pattern, those with two or more axes.
    pub filter: TensorFilter,
    /// The types to measure; none: every type that can be written.
    pub types: Vec<Encoding>,
    /// Rows that are measured of each tensor; `None`: all of them.
    pub sample: Option<u64>,
    /// An importance matrix.
    pub imatrix: Option<PathBuf>,
    /// A journal of the finished windows, from which a stopped run goes on.
    pub journal: Option<PathBuf>,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// Options of [`crate::verbs::bench`].
#[derive(Clone, Copy, Debug)]
pub struct BenchRotationOptions {
    /// Rows of the matrix.
    pub rows: u32,
    /// Columns of the matrix.
    pub cols: u32,
    /// Seed of the matrix.
    pub seed: u32,
    /// Columns that are rotated together.
    pub block: u32,
    /// Columns that share a scale.
    pub group: u32,
    /// Worker threads; `None`: one per processor.
    pub threads: Option<u32>,
}

/// Options of [`crate::verbs::engines`].
#[derive(Clone, Copy, Debug, Default)]
pub struct EnginesOptions {
    /// Threads that compute, or submit work to a device; `None`: one per processor.
    pub threads: Option<u32>,
}

/// The tokens of an evaluation.
#[derive(Clone, Debug)]
pub enum EvalTokens {
    /// A UTF-8 text, which the model's tokenizer encodes.
    Text(PathBuf),
    /// A file of token ids.
    Ids(PathBuf),
}

/// The arithmetic of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvalPrecision {
    /// Binary32 by the engine's kernels.
    #[default]
    F32,
    /// Binary64, the reference.
    F64,
}

impl EvalPrecision {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            EvalPrecision::F32 => "f32",
            EvalPrecision::F64 => "f64",
        }
    }
}

/// Options of [`crate::verbs::eval`].
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// The model: a file or a directory.
    pub input: ModelPath,
    /// The reference that its outputs are compared with.
    pub against: Option<ModelPath>,
    /// The tokens.
    pub tokens: EvalTokens,
    /// Tokens of a window; `None`: 512, or what the model allows.
    pub context: Option<usize>,
    /// The most tokens to predict; `None`: all.
    pub most: Option<usize>,
    /// Whether windows are cut and scored as llama.cpp's perplexity does.
    pub llama_windows: bool,
    /// Whether the report has the figures of every predicted token.
    pub per_position: bool,
    /// The arithmetic of products.
    pub precision: EvalPrecision,
    /// How the work is done. `memory` is for all: windows of weights and the vectors of tokens; `None`: 256 MiB per thread.
    pub resources: ResourceOptions,
}

/// The tokens on which a model's output is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalibrationTokens {
    /// A UTF-8 text, which the model's tokenizer encodes.
    Text(PathBuf),
    /// A file of token ids.
    Ids(PathBuf),
    /// Ids that are drawn with this seed.
    Seeded(u64),
}

/// Whether the tensors of a kind and a third of the depth are measured together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeasureGrouping {
    /// If one by one would need more than about 200 TFLOP.
    #[default]
    Auto,
    /// Never.
    Tensor,
    /// Always.
    Group,
}

/// How the sensitivity of a model's tensors is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrationOptions {
    /// The tokens.
    pub tokens: CalibrationTokens,
    /// The most tokens to predict.
    pub count: usize,
    /// The type that tensors are encoded as, one at a time.
    pub base: DType,
    /// Whether tensors are measured in groups.
    pub grouping: MeasureGrouping,
}

/// Options of [`crate::verbs::sensitivity`].
#[derive(Clone, Debug)]
pub struct SensitivityOptions {
    /// A file or a directory.
    pub input: ModelPath,
    /// The types whose damage is predicted; none: those that `--target-size` chooses from.
    pub types: Vec<DType>,
    /// Whether tensors that are quantized already are measured.
    pub allow_requantize: bool,
    /// The measurement.
    pub calibration: CalibrationOptions,
    /// A journal, from which a stopped run goes on.
    pub journal: Option<PathBuf>,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// What the damage of a type to a tensor is predicted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageSource {
    /// The sensitivity of each tensor, measured on the way.
    Measured,
    /// The JSON of `sensitivity`.
    File(PathBuf),
    /// Relative squared weight errors times weights: a guess.
    Heuristic,
}

/// A size that the types of a model's tensors are chosen for.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetOptions {
    /// The size.
    pub limit: SizeLimit,
    /// The types to choose from; none: a list that suits the rows of each tensor.
    pub types: Vec<DType>,
    /// What damage is predicted by.
    pub damage: DamageSource,
    /// The measurement on the way, and that of [`TargetOptions::check`].
    pub calibration: CalibrationOptions,
    /// Whether the divergence of the output from its source is measured.
    pub check: bool,
    /// How the work is done.
    pub resources: ResourceOptions,
}

/// The rotation that is compared with none.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoRotation {
    /// The rotation.
    pub rotation: RotationOptions,
    /// The measurement.
    pub calibration: CalibrationOptions,
}
/// Options of [`crate::verbs::imatrix`].
#[derive(Clone, Debug)]
pub struct ImatrixOptions {
    /// The model: a file or a directory.
    pub input: ModelPath,
    /// The calibration texts, each cut into chunks of its own.
    pub tokens: Vec<EvalTokens>,
    /// Importance matrices of the same model whose sums and counts are added.
    pub merge: Vec<PathBuf>,
    /// The file to write.
    pub output: PathBuf,
    /// Whether an existing output is replaced.
    pub force: bool,
    /// The format of the output.
    pub format: ImatrixFormat,
    /// Tokens of a chunk; `None`: 512, or what the model allows.
    pub context: Option<usize>,
    /// Chunks that are skipped at the start of each text.
    pub skipped: usize,
    /// The most chunks of each text; `None`: all.
    pub chunks: Option<usize>,
    /// Whether the inputs of the head are collected.
    pub process_output: bool,
    /// The arithmetic of products.
    pub precision: EvalPrecision,
    /// A journal of the finished chunks, from which a stopped run goes on.
    pub journal: Option<PathBuf>,
    /// How the work is done. `memory` is for all: sums, windows of weights and the vectors of tokens; `None`: 256 MiB per
    /// thread.
    pub resources: ResourceOptions,
}
