//! What was typed. Knows clap; decides nothing.

use clap::{Args, Parser, Subcommand, ValueEnum};
use quantoscope_core::quant::Encoding;
use std::path::PathBuf;

mod recipe;

pub use recipe::{EquivalenceArgs, ImatrixArgs, RecipeArgs, RotationArgs, SchemeArg, TargetArg, VerdictArg};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  2    the request makes no sense or is refused for safety
  3    not found, or reading or writing failed
  4    the file is invalid, exceeds a limit, or holds NaN, infinity or a number too large for its type where a number is
       needed
  5    a gate failed: compare below its threshold, verify finding a difference
  6    valid, but not supported (a type that cannot be encoded, requantizing without being asked to)
  7    the device that was asked for is missing or failed
  130  interrupted";

/// Looks into LLM weight files, shows what quantization would do to every tensor, and writes the quantized model.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Inspect(InspectArgs),
    Plan(PlanArgs),
    Quantize(QuantizeArgs),
    Rotate(RotateArgs),
    Compare(CompareArgs),
    Verify(VerifyArgs),
    Sweep(SweepArgs),
    Bench(BenchArgs),
    Engines(EnginesArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Show what is in a file: container, metadata, every tensor.
///
/// INPUT is a .safetensors, .gguf, .q4 or .f16 file, an index (*.safetensors.index.json), the first part of a split
/// GGUF, or a directory that holds one model. Only headers are read, unless --stats asks for the values.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope inspect model.safetensors
  quantoscope inspect my-model/ --tensor '*.mlp.*' --stats
  quantoscope inspect model.gguf --json | jq '.tensors[].name'")]
pub struct InspectArgs {
    /// File or directory.
    pub input: PathBuf,
    /// Read the values too: mean, deviation, extremes, NaN, infinities, kurtosis.
    #[arg(long)]
    pub stats: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// Which tensors.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only tensors whose name matches this glob; may be given several times.
    #[arg(long = "tensor", value_name = "GLOB")]
    pub tensors: Vec<String>,
}

/// How the work is done. Never changes a result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceArgs {
    /// Worker threads; default: one for each processor.
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Bytes for all windows in flight together, for example 64MiB; default: 32 MiB for each thread.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// The engine: auto, scalar, avx2, avx512, neon, gpu or cuda, as far as this machine has it (see `engines`). Never
    /// changes a result.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub engine: String,
}

/// Write a quantized model.
///
/// With --type every weight matrix whose rows divide by the block gets that type; norms, biases, other vectors, routers,
/// positional tables, convolution kernels, embeddings and the output head keep their precision. With --recipe each
/// tensor gets the type that llama-quantize would choose, embeddings and output head included. The plan says why for
/// each tensor; --dry-run prints it, with the exact bytes that a real run would write, and reads headers only.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope quantize model.safetensors -o model-q4.gguf --type q4_0
  quantoscope quantize my-model/ -o model-q4_k_m.gguf --recipe q4_k_m
  quantoscope quantize my-model/ -o out.gguf --recipe q4_k_m --tensor-type attn_v=q8_0 --output-tensor-type q8_0
  quantoscope quantize my-model/ -o out.gguf --recipe iq3_m --imatrix imatrix.gguf
  quantoscope quantize my-model/ -o my-model-q4/ --to q4 --dry-run
  quantoscope quantize big.gguf -o big-q8.gguf --type Q8_0 --pure --threads 8
  quantoscope quantize model-q4/ -o model.gguf --type q4_1        lossless transcode of lattice blocks
  quantoscope quantize my-model/ -o rotated-q4.gguf --type q4_1 --rotate quarot
  quantoscope quantize model.gguf -o out.gguf --type q8_0 --resume   go on after an interruption")]
pub struct QuantizeArgs {
    /// File or directory.
    pub input: PathBuf,
    /// The file to write; a directory for --to q4.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Print the plan and stop: no value is read, nothing is written.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not measure the error of what is written (faster).
    #[arg(long)]
    pub no_measure: bool,
    /// Replace an existing output.
    #[arg(long)]
    pub force: bool,
    /// Continue an interrupted run, and keep the partial output if this one is interrupted.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Write one JSON event per line on standard output.
    #[arg(long, conflicts_with = "json")]
    pub events: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub gate: EquivalenceArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// Write a rotated checkpoint in Hugging Face's layout: the same model, whose weights quantize better.
///
/// OUT is a directory: model.safetensors, config.json (with its head untied), and the tokenizer as it was; transformers
/// loads it unchanged. The rules of the model's family say what is rotated on which side and which gains are folded; what
/// is not exact, or has a tensor that no rule names, is refused. Before anything is written, every element is held against
/// the algebra, and the rotated model against its source on a few tokens.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope rotate my-model/ -o my-model-rotated/
  quantoscope rotate my-model/ -o my-model-rotated/ --rotate quarot,r2 --seed 42 --type f32
  quantoscope rotate my-model/ -o my-model-rotated/ --dry-run
  quantoscope rotate my-model/ --adapter my-lora/ --rotated my-model-rotated/ -o my-lora-rotated/
  quantoscope quantize my-model/ -o my-model-q4/ --to q4 --rotate quarot      rotated and quantized in one go")]
pub struct RotateArgs {
    /// A directory that holds one model, with its config.json.
    pub input: PathBuf,
    /// The directory to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// What to rotate: quarot (the residual stream, R1), block:N (the stream in blocks of N channels), r2 (the values of
    /// each head), quarot,r2, or fold (gains only, for comparison); default: quarot.
    #[arg(long = "rotate", value_name = "WHAT")]
    pub what: Option<String>,
    /// The seed of the rotation's signs, decimal or 0x hexadecimal (default: 0xC0FFEE).
    #[arg(long, value_name = "SEED", value_parser = recipe::parse_seed)]
    pub seed: Option<u64>,
    /// Write a counter-rotated PEFT adapter (LoRA) in place of a model: beside the rotated INPUT it does what it did beside
    /// INPUT, which must be the model that was not rotated, as the gains of its norms are needed. A is turned with a
    /// module's inputs, B with its outputs; what belongs to no module of INPUT, or is not exact (DoRA, trained norms,
    /// embeddings that are the head too), is refused by name. Everything else in the adapter's folder that PEFT reads goes
    /// with it.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// The rotated model that the adapter is for: the rotation is the one that is recorded there, and what is typed must
    /// agree with it.
    #[arg(long, value_name = "DIR", requires = "adapter")]
    pub rotated: Option<PathBuf>,
    /// The type to write: f32, f16 or bf16; default: what each tensor has.
    #[arg(long = "type", value_name = "TYPE", value_parser = recipe::parse_dtype)]
    pub dtype: Option<quantoscope_core::DType>,
    /// Let NaN and infinities pass in tensors that are not rotated, with a warning that names each.
    #[arg(long)]
    pub allow_nonfinite: bool,
    /// Print the plan and stop: no value is read, nothing is written.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace a rotated model that stands there.
    #[arg(long)]
    pub force: bool,
    /// Continue an interrupted run, and keep the partial output if this one is interrupted.
    #[arg(long, conflicts_with = "dry_run")]
    pub resume: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub gate: EquivalenceArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// Show what quantize would write: every tensor, why, and the exact bytes. Reads headers only.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope plan model.safetensors --type q4_0
  quantoscope plan my-model/ --recipe q4_k_m
  quantoscope plan my-model/ --to q4
  quantoscope plan model.gguf --type q8_0 --pure --json | jq .result.totals")]
pub struct PlanArgs {
    /// File or directory.
    pub input: PathBuf,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Measure a candidate against its reference, tensor by tensor, and gate on the worst.
///
/// Either side may be safetensors, GGUF or .q4; names and layouts of GGUF converters are mapped back. A finding (a tensor
/// on one side only, another shape, NaN, an unknown architecture, no overlap) trips the gate as a low figure does.
///
/// The figure of a tensor is the smaller of its cosine and 1 - e^2/2, where e is its relative error: the two are equal for the error
/// of rounding, and a scale or a constant that is off shows in the second alone. A row whose own figure is below 0.5 is a finding, and so are
/// plain floats on both sides that differ by more than the rounding of the coarser type. With --verdict cosine only the cosine decides.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope compare model.safetensors model-q4.gguf
  quantoscope compare my-model/ my-model-q4/ --threshold 0.99 --format json
  quantoscope compare my-model/ model-iq1_s.gguf --verdict cosine --threshold 0.8
  quantoscope compare a.gguf b.gguf --no-threshold --format tsv | sort -k5")]
pub struct CompareArgs {
    /// The reference.
    pub reference: PathBuf,
    /// What is held against it.
    pub candidate: PathBuf,
    /// Fail (exit 5) when a figure is below this.
    #[arg(long, value_name = "FIGURE", default_value_t = 0.95, value_parser = parse_threshold, allow_negative_numbers = true)]
    pub threshold: f64,
    /// What decides: strict (the figure, every row, the rounding of plain floats) or cosine (the cosine of whole tensors).
    #[arg(long, value_name = "BY", default_value = "strict")]
    pub verdict: VerdictArg,
    /// Report only: exit 0 whatever is found.
    #[arg(long, conflicts_with = "threshold")]
    pub no_threshold: bool,
    /// How to print; default: table on a terminal, else tsv.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<OutputFormat>,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// An output format, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Tsv,
    Json,
}

/// Check an artefact: its structure, that every value is finite, and that its source makes exactly these bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope verify model-q4.gguf
  quantoscope verify my-model-q4/ --against my-model/
  quantoscope verify model-iq4_xs.gguf --against my-model/ --imatrix imatrix.gguf")]
pub struct VerifyArgs {
    /// The artefact.
    pub artefact: PathBuf,
    /// Encode this source again and hold the bytes against the artefact's.
    #[arg(long, value_name = "SOURCE")]
    pub against: Option<PathBuf>,
    #[command(flatten)]
    pub weights: ImatrixArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// Show what every type would do to every tensor: bits per weight, rmse, relative error, SQNR, cosine.
///
/// Nothing is written. One row per tensor and type. With --rotate, every type is tried on the rotated tensors too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope sweep model.safetensors
  quantoscope sweep my-model/ --types q4_0,q8_0,q4_asym --tensor '*.down_proj.weight'
  quantoscope sweep big-model/ --sample 64                        about 64 rows of each tensor, in a fraction of the time
  quantoscope sweep my-model/ --rotate none,block:32,block:128,quarot --types q4_0,q4_1,q4_sym,q4_asym
  quantoscope sweep model.gguf --format tsv > errors.tsv")]
pub struct SweepArgs {
    /// File or directory.
    pub input: PathBuf,
    /// The types, separated by commas; default: every type that can be written.
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = parse_encoding)]
    pub types: Vec<Encoding>,
    /// Measure about this many rows of each tensor, spread evenly from the first to the last; default: all of them.
    ///
    /// Which rows depends on the shape of the tensor alone. Tensors without more rows are measured whole. In the JSON,
    /// the statistics of a sampled tensor are of these rows too, and `sampled` says how many of how many they are.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Does rotation help? The error of each type on rotated tensors beside that on the tensors as stored.
    ///
    /// Rotations, separated by commas: quarot (the whole residual stream), block:N (the stream in blocks of N channels), r2
    /// (the values of each head), fold (gains only, nothing turned); none, the tensor as stored, is always there. Each error is relative to its own frame. The
    /// rules of the model's family say which side is turned and which gains are folded in; without them every row is turned
    /// by itself, without gains. Beside them stand the floor (what the type makes of Gaussian noise: where a full rotation
    /// tends to) and what the tensor's histogram alone predicts of it as stored.
    #[arg(long, value_name = "ROTATIONS", value_delimiter = ',', conflicts_with = "path")]
    pub rotate: Vec<String>,
    /// The seed of the rotations' signs, decimal or 0x hexadecimal.
    #[arg(long, value_name = "SEED", default_value = "0xC0FFEE", value_parser = recipe::parse_seed, requires = "rotate")]
    pub seed: u64,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub weights: ImatrixArgs,
    /// How to print; default: table on a terminal, else tsv.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<OutputFormat>,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// Measure a claim: does rotation help?
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope bench rotation")]
pub struct BenchArgs {
    #[command(subcommand)]
    pub what: Benchmark,
}

#[derive(Debug, Subcommand)]
pub enum Benchmark {
    Rotation(BenchRotationArgs),
}

/// Does rotation help? A matrix of small weights and a few large ones, rounded with and without it.
///
/// The matrix, the rounding and the first six rows are those of a published microbenchmark, number for number; the
/// rows below them are what it left out. The whole published table is that of --rows 4096 (some seconds).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope bench rotation
  quantoscope bench rotation --rows 4096
  quantoscope bench rotation --block 32 --seed 7 --json")]
pub struct BenchRotationArgs {
    /// Rows of the matrix.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub rows: u32,
    /// Columns of the matrix.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub cols: u32,
    /// Seed of the matrix.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Values that are rotated together.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub block: u32,
    /// Values that share a scale.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub group: u32,
    /// Worker threads; default: one for each processor.
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Show the engines of this machine: what each is, whether its kernels are exact, how fast they are, what auto takes.
///
/// Devices are opened and probed, and every kind of work is measured for a moment, so this takes some seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope engines
  quantoscope engines --json | jq '.devices[].kernels[] | select(.exact | not)'")]
pub struct EnginesArgs {
    /// Threads that work or ask a device; default: one for each processor.
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  quantoscope completions bash > ~/.local/share/bash-completion/completions/quantoscope"
)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Print the manual page.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope man | man -l -")]
pub struct ManArgs {
    /// The verb; default: the overview.
    pub verb: Option<String>,
}

fn parse_encoding(text: &str) -> Result<Encoding, String> {
    Encoding::parse(text).map_err(|e| e.to_string())
}

fn parse_threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if (-1.0..=1.0).contains(&t) => Ok(t),
        Ok(_) => Err("a cosine is a number from -1 to 1".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// Bytes with a unit: `64MiB`, `1.5 GB`, `200M` (decimal), `4096`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} does not start with a number"))?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000 * 1000,
        "g" | "gb" => 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        other => return Err(format!("{other:?} is no unit of size (use MB, MiB, GB, GiB)")),
    };
    let bytes = number * unit as f64;
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err("the size is out of range".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} shows no example", verb.get_name());
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1.5 GB"), Ok(1_500_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in ["", "MB", "1 TBs", "-1", "0", "1e400"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn thresholds_are_cosines() {
        assert_eq!(parse_threshold("-1"), Ok(-1.0));
        for bad in ["NaN", "inf", "1.01", "-1.5", "x"] {
            assert!(parse_threshold(bad).is_err(), "{bad:?}");
        }
    }
}
