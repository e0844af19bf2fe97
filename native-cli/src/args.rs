//! The command line: arguments, their help, and the options they resolve to. Knows clap; computes nothing.

mod conversions;
mod eval;
mod files;
pub(crate) mod help;
mod imatrix;
mod measurements;
mod metadata;
mod output_files;
mod parse;
mod recipe;
mod target;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quantoscope::options::{ModelPath, ResourceOptions};
use quantoscope::render::Format;
use quantoscope::render::order::RowOrder;
use quantoscope_core::error::Result;
use quantoscope_core::format::AprWriter;
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use std::io::IsTerminal;
use std::path::PathBuf;

pub(crate) use conversions::{PlanArgs, QuantizeArgs, RotateArgs};
pub(crate) use eval::EvalArgs;
pub(crate) use files::{MergeArgs, SplitVerbArgs};
pub(crate) use imatrix::ImatrixVerbArgs;
pub(crate) use measurements::{
    BenchArgs, Benchmark, CompareArgs, EnginesArgs, InspectArgs, SweepArgs, SweptRotations, VerifyArgs,
};
pub(crate) use metadata::{MetadataArgs, MetadataVerb};
pub(crate) use target::SensitivityArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  2    the request is invalid, or refused for safety
  3    a file was not found, or reading or writing failed
  4    a file is invalid, exceeds a limit, or holds NaN, infinity or an overflow
  5    compare is below its threshold, verify or the check of a rotation failed
  6    not supported: a type that cannot be encoded, requantizing unasked
  7    the requested device is missing or failed
  130  interrupted";

/// Inspect LLM weight files, measure what quantization does to every tensor, and write quantized models.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
    /// The order of tensors in tables: layers (by name, layer 2 before layer 10) or file.
    #[arg(long, global = true, value_name = "ORDER", default_value = "layers")]
    pub order: OrderArg,
}

/// The order of tensors in tables, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OrderArg {
    Layers,
    File,
}

impl From<OrderArg> for RowOrder {
    fn from(order: OrderArg) -> RowOrder {
        match order {
            OrderArg::Layers => RowOrder::Layers,
            OrderArg::File => RowOrder::File,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Inspect(InspectArgs),
    Plan(PlanArgs),
    Quantize(QuantizeArgs),
    Rotate(RotateArgs),
    Split(SplitVerbArgs),
    Merge(MergeArgs),
    Metadata(MetadataArgs),
    Compare(CompareArgs),
    Verify(VerifyArgs),
    Sweep(SweepArgs),
    Eval(EvalArgs),
    Sensitivity(SensitivityArgs),
    Imatrix(ImatrixVerbArgs),
    Bench(BenchArgs),
    Engines(EnginesArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

impl Verb {
    /// Whether standard output is JSON. Errors on standard error are then JSON too.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Verb::Inspect(a) => a.json,
            Verb::Plan(a) => a.json,
            Verb::Quantize(a) => a.json || a.events,
            Verb::Rotate(a) => a.json,
            Verb::Split(a) => a.files.json,
            Verb::Merge(a) => a.files.json,
            Verb::Metadata(a) => a.what.wants_json(),
            Verb::Compare(a) => a.format.is_json(),
            Verb::Verify(a) => a.json,
            Verb::Sweep(a) => a.format.is_json(),
            Verb::Eval(a) => a.json,
            Verb::Sensitivity(a) => a.format.is_json(),
            Verb::Imatrix(a) => a.json,
            Verb::Bench(BenchArgs { what: Benchmark::Rotation(a) }) => a.json,
            Verb::Engines(a) => a.json,
            Verb::Completions(_) | Verb::Man(_) => false,
        }
    }
}

/// Selection of tensors.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only the tensors that a pattern matches; can be repeated. A pattern is a glob such as attn_v or
    /// 'model.layers.0.*', compared with a whole name or any run of its parts between dots, or a regular
    /// expression between slashes. The name can be that in the input or that in GGUF. Globs: * any
    /// characters, ? one character, [0-3] one of a class, {q,k} alternatives. Upper and lower case are equal.
    #[arg(long = "tensor", visible_alias = "include", value_name = "PATTERN")]
    pub tensors: Vec<String>,
    /// Without the tensors that a pattern matches; can be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
}

impl FilterArgs {
    fn resolve(&self) -> Result<TensorFilter> {
        TensorFilter::new(&self.tensors, &self.exclude)
    }
}

/// The writer of APR files.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AprArgs {
    /// The program that wrote an .apr file: core or serve (the crates of aprender). It decides the dtype bytes
    /// that the two use for different types; tensors with one are refused otherwise.
    #[arg(long, value_name = "NAME", value_parser = AprWriter::parse)]
    pub apr_writer: Option<AprWriter>,
}

impl AprArgs {
    fn model(self, path: PathBuf) -> ModelPath {
        ModelPath::new(path, self.apr_writer)
    }
}

/// Threads, memory and engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources (threads and memory never change a result)")]
pub(crate) struct ResourceArgs {
    /// Worker threads [default: one per processor].
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Memory for all windows in flight, for example 64MiB [default, per thread: 32 MiB; 128 MiB to
    /// rotate; 256 MiB to run the model].
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub memory: Option<u64>,
    /// The engine: auto, scalar, avx2, avx512, neon, gpu or cuda. `quantoscope engines` shows those of this
    /// machine. Weights have the same bytes on every engine. What a model's output is measured by, and importance
    /// matrices, have the same bits on engines with fused multiply-add; without it the last digits differ.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub engine: String,
}

impl ResourceArgs {
    fn resolve(self, progress: bool) -> ResourceOptions {
        ResourceOptions { threads: self.threads, memory: self.memory, engine: self.engine, progress }
    }
}

/// A journal of a run that only measures.
#[derive(Debug, Args)]
pub(crate) struct JournalArgs {
    /// Record finished parts in FILE, and go on from it: the same command continues a run that was stopped or killed.
    ///
    /// The file is removed at the end. It holds for the same input and options only; another run refuses it.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

/// An importance matrix.
#[derive(Debug, Args)]
pub(crate) struct ImatrixArgs {
    /// An importance matrix of llama-imatrix (GGUF, or the older .dat). Types that search for the best scales
    /// weight each input channel by its mean squared activation. IQ1_S, IQ1_M, IQ2_XXS and IQ2_XS need one.
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
}

/// An output format, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Tsv,
    Json,
}

/// The output format of a table.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FormatArgs {
    /// The output format [default: table on a terminal, else tsv].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<OutputFormat>,
    /// Short for --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

impl FormatArgs {
    fn is_json(self) -> bool {
        self.json || self.format == Some(OutputFormat::Json)
    }

    /// The typed format, or the one that suits standard output: a table on a terminal, else TSV.
    fn resolve(self) -> Format {
        match self.format {
            _ if self.json => Format::Json,
            Some(OutputFormat::Json) => Format::Json,
            Some(OutputFormat::Table) => Format::Table,
            Some(OutputFormat::Tsv) => Format::Tsv,
            None if std::io::stdout().is_terminal() => Format::Table,
            None => Format::Tsv,
        }
    }
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  quantoscope completions bash > ~/.local/share/bash-completion/completions/quantoscope"
)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Print the manual page.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quantoscope man | man -l -\n  quantoscope man quantize | man -l -")]
pub(crate) struct ManArgs {
    /// The command whose page is printed [default: the overview].
    pub verb: Option<String>,
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
}
