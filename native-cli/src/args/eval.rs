//! Arguments of `eval`.

use super::{AprArgs, ResourceArgs};
use clap::{Args, ValueEnum};
use quantoscope::options::{EvalOptions, EvalPrecision, EvalTokens};
use quantoscope_core::error::{Code, Error, Result};
use std::path::PathBuf;

/// Measure how well a model predicts a text, and how far its outputs are from those of a reference.
///
/// Runs the model on the processor and prints its perplexity. With --against, both models run on the same tokens, and
/// the divergence of the model's distributions from the reference's is measured: what quantization did to the outputs,
/// not to the weights. MODEL is anything that other commands read: a Hugging Face folder, a GGUF of any type, a
/// rotated or quantized checkpoint. This is an evaluator that shares its code with the check of rotations, not an
/// inference engine: weights are read and decoded on the way, so it needs little memory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quantoscope eval my-model/ --text wiki.txt
  quantoscope eval my-model-q4_k_m.gguf --against my-model/ --text wiki.txt --tokens 2048
  quantoscope eval model.gguf --ids tokens.txt --context 256 --json | jq .perplexity")]
pub(crate) struct EvalArgs {
    /// A file or directory.
    pub input: PathBuf,
    /// A UTF-8 text, which the model's tokenizer encodes: tokenizer.json of a folder, or the one in a GGUF.
    #[arg(long, value_name = "FILE", required_unless_present = "ids", conflicts_with = "ids")]
    pub text: Option<PathBuf>,
    /// Token ids: decimal numbers between blanks, commas or brackets, or binary little-endian numbers of two
    /// bytes (four if the vocabulary has more than 65,536 entries).
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
    /// The reference that the outputs are compared with, usually the unquantized model.
    #[arg(long, value_name = "MODEL")]
    pub against: Option<PathBuf>,
    /// Tokens to predict in each window, which starts without any context [default: 512, or what the model allows].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub context: Option<u64>,
    /// Predict at most this many tokens [default: all of the text].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tokens: Option<u64>,
    /// Cut and score windows as llama.cpp's perplexity does: whole windows of --context tokens, of which the
    /// second half is predicted.
    #[arg(long)]
    pub llama_windows: bool,
    /// The arithmetic of products: f32 by the engine's kernels, or f64, the reference (slow).
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub precision: PrecisionArg,
    /// Add the figures of every predicted token to the JSON.
    #[arg(long, requires = "json")]
    pub per_position: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub apr: AprArgs,
    #[command(flatten)]
    pub work: ResourceArgs,
}

/// The arithmetic, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    F32,
    F64,
}

impl From<PrecisionArg> for EvalPrecision {
    fn from(precision: PrecisionArg) -> EvalPrecision {
        match precision {
            PrecisionArg::F32 => EvalPrecision::F32,
            PrecisionArg::F64 => EvalPrecision::F64,
        }
    }
}

impl EvalArgs {
    pub(crate) fn resolve(self) -> Result<EvalOptions> {
        let tokens = match (self.text, self.ids) {
            (Some(text), _) => EvalTokens::Text(text),
            (None, Some(ids)) => EvalTokens::Ids(ids),
            (None, None) => return Err(Error::new(Code::Usage, "--text or --ids is needed")),
        };
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(EvalOptions {
            input: self.apr.model(self.input),
            against: self.against.map(|path| self.apr.model(path)),
            tokens,
            context: self.context.map(size),
            most: self.tokens.map(size),
            llama_windows: self.llama_windows,
            per_position: self.per_position,
            precision: self.precision.into(),
            resources: self.work.resolve(!self.json),
        })
    }
}
