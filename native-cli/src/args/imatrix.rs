//! Arguments of `imatrix`.

use super::eval::PrecisionArg;
use super::{AprArgs, JournalArgs, ResourceArgs};
use clap::{Args, ValueEnum};
use quantoscope::options::{EvalTokens, ImatrixOptions};
use quantoscope_core::error::Result;
use quantoscope_core::format::imatrix::ImatrixFormat;
use std::path::{Path, PathBuf};

/// Collect an importance matrix: which input channels of each matrix matter on a text.
///
/// Runs the model on the processor over a calibration text, and writes the sums of squared activations of every input
/// channel, for each expert with its number of tokens: what llama-imatrix collects, under the tensor names of llama.cpp, for
/// Hugging Face folders too. `quantize --imatrix` and llama-quantize read the file. Weights are read and decoded on the
/// way, so it needs little memory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope imatrix my-model/ --text calibration.txt -o my-model.imatrix.gguf
  quantoscope quantize my-model/ -o my-model-iq2_xs.gguf --recipe iq2_xs --imatrix my-model.imatrix.gguf
  quantoscope imatrix model.gguf --text code.txt --text prose.txt --chunks 50 -o both.gguf
  quantoscope imatrix model.gguf --text more.txt --merge both.gguf -o all.gguf")]
pub(crate) struct ImatrixVerbArgs {
    /// A file or directory.
    pub input: PathBuf,
    /// The file to write. Names that end with .dat or .imatrix get the legacy format.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// A UTF-8 text, which the model's tokenizer encodes; can be repeated. Each text is cut into chunks of its own.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["ids", "merge"])]
    pub text: Vec<PathBuf>,
    /// Token ids instead of a text; can be repeated. Decimal numbers between blanks, commas or brackets, or binary
    /// little-endian numbers of two bytes (four if the vocabulary has more than 65,536 entries).
    #[arg(long, value_name = "FILE")]
    pub ids: Vec<PathBuf>,
    /// Add the sums and counts of an importance matrix of the same model; can be repeated.
    #[arg(long, value_name = "FILE")]
    pub merge: Vec<PathBuf>,
    /// The format of the output: gguf, or dat, the legacy format, which has no counts of experts [default: by the name].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<FormatArg>,
    /// Tokens of a chunk, which starts without any context [default: 512, or what the model allows].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub context: Option<u64>,
    /// Use at most this many chunks of each text [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub chunks: Option<u64>,
    /// Skip this many chunks at the start of each text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from_chunk: u64,
    /// Collect the inputs of the output head too.
    #[arg(long)]
    pub process_output: bool,
    /// The arithmetic of products: f32 by the engine's kernels, or f64, the reference (slow).
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub precision: PrecisionArg,
    /// Replace the output if it exists.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub journal: JournalArgs,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// The format of the output, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    Gguf,
    Dat,
}

/// The format that a name asks for.
fn format_of(path: &Path) -> ImatrixFormat {
    let legacy =
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dat") || e.eq_ignore_ascii_case("imatrix"));
    if legacy { ImatrixFormat::Legacy } else { ImatrixFormat::Gguf }
}

impl ImatrixVerbArgs {
    pub(crate) fn resolve(self) -> Result<ImatrixOptions> {
        let format = match self.format {
            Some(FormatArg::Gguf) => ImatrixFormat::Gguf,
            Some(FormatArg::Dat) => ImatrixFormat::Legacy,
            None => format_of(&self.output),
        };
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let texts = self.text.into_iter().map(EvalTokens::Text);
        Ok(ImatrixOptions {
            input: self.apr.model(self.input),
            tokens: texts.chain(self.ids.into_iter().map(EvalTokens::Ids)).collect(),
            merge: self.merge,
            output: self.output,
            force: self.force,
            format,
            context: self.context.map(size),
            skipped: size(self.from_chunk),
            chunks: self.chunks.map(size),
            process_output: self.process_output,
            precision: self.precision.into(),
            journal: self.journal.journal,
            resources: self.work.resolve(!self.json),
        })
    }
}
