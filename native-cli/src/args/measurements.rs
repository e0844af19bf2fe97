//! Arguments of the commands that only read: `inspect`, `compare`, `verify`, `sweep`, `bench`, `engines`.

use super::target::CalibrationArgs;
use super::{AprArgs, FilterArgs, FormatArgs, ImatrixArgs, JournalArgs, ResourceArgs, parse};
use clap::{Args, Subcommand, ValueEnum};
use quantoscope::options::{
    BenchRotationOptions, CalibrationOptions, CompareOptions, EnginesOptions, InspectOptions, Statistics,
    SweepOptions, VerifyOptions, VerifySource,
};
use quantoscope::render::Format;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::preview::parse_rotations;
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::report::{CompareThreshold, VerdictRule};
use quantoscope_core::sensitivity::units::BASE;
use std::path::PathBuf;

/// Show what a file holds: container, metadata, every tensor.
///
/// INPUT is a .safetensors, .gguf, .apr, .q4 or .f16 file, an index (*.safetensors.index.json), the first file of a
/// split GGUF, or a directory that holds one model. Only headers are read, unless --stats is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope inspect model.safetensors
  quantoscope inspect my-model/ --tensor '*.mlp.*' --stats
  quantoscope inspect model.gguf --json | jq '.tensors[].name'")]
pub(crate) struct InspectArgs {
    /// A file or directory.
    pub input: PathBuf,
    /// Read all values and show mean, standard deviation, extremes, kurtosis, zeros, NaN and infinities.
    #[arg(long)]
    pub stats: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Print JSON; with --stats it has quantiles and histograms too.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub progress: JournalArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl InspectArgs {
    pub(crate) fn resolve(self) -> Result<InspectOptions> {
        let statistics = match (self.stats, self.json) {
            (false, _) => Statistics::None,
            (true, false) => Statistics::Moments,
            (true, true) => Statistics::Histograms,
        };
        if self.progress.journal.is_some() && !self.stats {
            return Err(Error::new(Code::Usage, "--journal needs --stats: without it only headers are read"));
        }
        let resources = self.work.resolve(!self.json);
        Ok(InspectOptions {
            input: self.apr.model(self.input),
            filter: self.filter.resolve()?,
            statistics,
            journal: self.progress.journal,
            resources,
        })
    }
}

/// Measure the error of a quantized model, tensor by tensor.
///
/// Fails with exit code 5 if a tensor is below the threshold. Either side may be safetensors, GGUF, APR or .q4:
/// names and layouts of GGUF converters are mapped back. A finding fails the comparison too: a tensor on one
/// side only, another shape, NaN, an unknown architecture, no tensor in common.
///
/// The figure of a tensor is the smaller of its cosine and 1 - e^2/2, where e is its relative error. Rounding
/// errors make the two equal; a wrong scale or offset lowers only the second. A row with a figure below 0.5
/// is a finding, and so are plain floats on both sides that differ by more than the rounding of the coarser
/// type. With --verdict cosine, only the cosine of whole tensors counts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope compare model.safetensors model-q4.gguf
  quantoscope compare my-model/ my-model-q4/ --threshold 0.99 --format json
  quantoscope compare my-model/ model-iq1_s.gguf --verdict cosine --threshold 0.8
  quantoscope compare a.gguf b.gguf --no-threshold --format tsv | sort -k5")]
pub(crate) struct CompareArgs {
    /// The reference: a file or directory.
    pub reference: PathBuf,
    /// The quantized model: a file or directory.
    pub candidate: PathBuf,
    /// Exit with code 5 if the figure of a tensor is below this.
    #[arg(long, value_name = "FIGURE", default_value_t = 0.95, value_parser = parse::threshold, allow_negative_numbers = true)]
    pub threshold: f64,
    /// The figure that counts: strict (the figure of tensors and rows, and the rounding of plain floats) or
    /// cosine.
    #[arg(long, value_name = "BY", default_value = "strict")]
    pub verdict: VerdictArg,
    /// Report only: exit with code 0 whatever is found.
    #[arg(long, conflicts_with = "threshold")]
    pub no_threshold: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub progress: JournalArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl CompareArgs {
    pub(crate) fn resolve(self) -> Result<(CompareOptions, Format)> {
        let format = self.format.resolve();
        let threshold = (!self.no_threshold).then_some(self.threshold);
        let options = CompareOptions {
            reference: self.apr.model(self.reference),
            candidate: self.apr.model(self.candidate),
            filter: self.filter.resolve()?,
            threshold: CompareThreshold { threshold, by: self.verdict.into() },
            journal: self.progress.journal,
            resources: self.work.resolve(format == Format::Table),
        };
        Ok((options, format))
    }
}

/// The rule of a comparison, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    Strict,
    Cosine,
}

impl From<VerdictArg> for VerdictRule {
    fn from(by: VerdictArg) -> VerdictRule {
        match by {
            VerdictArg::Strict => VerdictRule::Strict,
            VerdictArg::Cosine => VerdictRule::Cosine,
        }
    }
}

/// Check a model's structure and values, and its bytes against its source.
///
/// Decodes every value, which must be finite. With --against, the source is encoded again, and the bytes must
/// be equal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope verify model-q4.gguf
  quantoscope verify my-model-q4/ --against my-model/
  quantoscope verify model-iq4_xs.gguf --against my-model/ --imatrix imatrix.gguf")]
pub(crate) struct VerifyArgs {
    /// The file or directory to verify.
    pub input: PathBuf,
    /// Encode this source again and compare the bytes.
    #[arg(long, value_name = "SOURCE")]
    pub against: Option<PathBuf>,
    #[command(flatten)]
    pub weights: ImatrixArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub progress: JournalArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl VerifyArgs {
    pub(crate) fn resolve(self) -> Result<VerifyOptions> {
        let imatrix = self.weights.imatrix;
        if self.against.is_none() && imatrix.is_some() {
            let message = "--imatrix needs --against: without a source nothing is encoded";
            return Err(Error::new(Code::Usage, message));
        }
        Ok(VerifyOptions {
            input: self.apr.model(self.input),
            against: self.against.map(|path| VerifySource { path: self.apr.model(path), imatrix }),
            journal: self.progress.journal,
            resources: self.work.resolve(!self.json),
        })
    }
}

/// Measure the error of every type on every tensor.
///
/// Prints one row per tensor and type: bits per weight, RMSE, relative error, SQNR, cosine. Writes no file.
/// With --rotate, the types are measured on rotated tensors too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope sweep model.safetensors
  quantoscope sweep my-model/ --types q4_0,q8_0,q4_asym --tensor '*.down_proj.weight'
  quantoscope sweep my-model/ --rotate block:32,block:128,quarot --types q4_0,q4_1,q4_asym
  quantoscope sweep my-model/ --rotate quarot --measure kl --types q4_0 --text notes.txt
  quantoscope sweep model.gguf --format tsv > errors.tsv

About 64 rows of each tensor, in a fraction of the time:
  quantoscope sweep big-model/ --sample 64")]
pub(crate) struct SweepArgs {
    /// A file or directory.
    pub input: PathBuf,
    /// The types, separated by commas [default: every type that can be written].
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = parse::encoding)]
    pub types: Vec<Encoding>,
    /// Measure about this many rows of each tensor, spread evenly from the first to the last [default: all
    /// rows].
    ///
    /// Which rows depends on the shape of the tensor alone. Tensors with fewer rows are measured whole. In
    /// JSON, the statistics of a sampled tensor are those of its sampled rows, and `sampled` has the number
    /// of rows.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Measure by how much rotations change weight errors: the error of each type on the rotated tensors, beside
    /// that on the stored tensors. Weight errors do not decide whether the model gains; its outputs do.
    ///
    /// Rotations, separated by commas: quarot (the residual stream), block:N (the residual stream in blocks
    /// of N channels), r2 (the values of each attention head), fold (fold the norm gains only). The tensor as
    /// stored (none) is always measured. Each error is measured in the rotated basis. The rules of the
    /// model's family determine the rotated side of a tensor and the folded norm gains; without rules, rows
    /// are rotated and no gain is folded. Two more columns: `floor`, the error of the type on Gaussian noise,
    /// to which a full rotation tends, and `predicted`, the error on the stored tensor computed from its
    /// histogram alone.
    #[arg(long, value_name = "ROTATIONS", value_delimiter = ',', conflicts_with = "imatrix")]
    pub rotate: Vec<String>,
    /// The seed of the rotations' signs, decimal or 0x hexadecimal.
    #[arg(long, value_name = "SEED", default_value = "0xC0FFEE", value_parser = parse::seed, requires = "rotate")]
    pub seed: u64,
    /// What --rotate measures: weights (the error of each tensor), or kl (the KL divergence of the model's output from
    /// the source on --tokens tokens, with all eligible tensors at each of --types, rotated and not).
    #[arg(long, value_name = "WHAT", default_value = "weights", requires = "rotate")]
    pub measure: MeasureArg,
    #[command(flatten)]
    pub tokens: CalibrationArgs,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub weights: ImatrixArgs,
    #[command(flatten)]
    pub format: FormatArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub progress: JournalArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

impl SweepArgs {
    /// The options, what is measured of rotations, and the output format.
    pub(crate) fn resolve(self) -> Result<(SweepOptions, SweptRotations, Format)> {
        if self.measure == MeasureArg::Weights {
            self.tokens.refuse_unused("--measure kl")?;
        }
        self.tokens.refuse_grouping()?;
        let calibration = (self.measure == MeasureArg::Kl).then(|| self.tokens.resolve(BASE));
        let format = self.format.resolve();
        let rotations =
            (!self.rotate.is_empty()).then(|| parse_rotations(&self.rotate, self.seed)).transpose()?;
        let options = SweepOptions {
            input: self.apr.model(self.input),
            filter: self.filter.resolve()?,
            types: self.types,
            sample: self.sample,
            imatrix: self.weights.imatrix,
            journal: self.progress.journal,
            resources: self.work.resolve(format == Format::Table),
        };
        let swept = match (rotations, calibration) {
            (None, _) => SweptRotations::None,
            (Some(rotations), None) => SweptRotations::Weights(rotations),
            (Some(rotations), Some(calibration)) => SweptRotations::Kl(rotations, calibration),
        };
        Ok((options, swept, format))
    }
}

/// What a sweep measures of rotations, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeasureArg {
    Weights,
    Kl,
}

/// What a sweep measures of rotations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SweptRotations {
    /// There are none.
    None,
    /// Weight errors.
    Weights(Vec<RotationOptions>),
    /// The divergence of the model's output.
    Kl(Vec<RotationOptions>, CalibrationOptions),
}

/// Repeat a published benchmark: the error of one synthetic matrix, rotated and not.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope bench rotation")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub what: Benchmark,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    Rotation(BenchRotationArgs),
}

/// Quantize a random matrix with outliers, with and without rotation, and compare the errors.
///
/// The matrix, the quantizer and the first six rows repeat a published microbenchmark, number for number; the
/// other rows extend it. The table is the error of one synthetic matrix and says nothing about a model. --rows 4096 gives the whole published table and takes some seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope bench rotation
  quantoscope bench rotation --rows 4096
  quantoscope bench rotation --block 32 --seed 7 --json")]
pub(crate) struct BenchRotationArgs {
    /// Rows of the matrix.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub rows: u32,
    /// Columns of the matrix.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub cols: u32,
    /// Seed of the matrix.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Columns that are rotated together.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub block: u32,
    /// Columns that share a scale.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub group: u32,
    /// Worker threads [default: one per processor].
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl BenchRotationArgs {
    pub(crate) fn resolve(&self) -> BenchRotationOptions {
        let BenchRotationArgs { rows, cols, seed, block, group, threads, json: _ } = *self;
        BenchRotationOptions { rows, cols, seed, block, group, threads }
    }
}

/// Show the engines of this machine, their exactness and speed.
///
/// Every device is opened and probed, and every kernel is measured for a moment, which takes some seconds.
/// The last column is the choice of --engine auto.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope engines
  quantoscope engines --json | jq '.devices[].kernels[] | select(.exact | not)'")]
pub(crate) struct EnginesArgs {
    /// Threads that compute, or submit work to a device [default: one per processor].
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl EnginesArgs {
    pub(crate) fn resolve(&self) -> EnginesOptions {
        EnginesOptions { threads: self.threads }
    }
}
