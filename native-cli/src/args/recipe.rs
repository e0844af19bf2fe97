//! What to make, as typed: container, type or recipe, types of single tensors, importance; and what decides a comparison.

use clap::{Args, ValueEnum};
use quantoscope_core::recipe::Override;
use quantoscope_core::recipe::presets::Preset;
use quantoscope_core::report::VerdictRule;
use quantoscope_core::{DType, model_equivalence, recipe};
use std::path::PathBuf;

/// What to make.
#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// The container; default: by the extension of OUT, else gguf for a plan.
    #[arg(long, value_name = "CONTAINER")]
    pub to: Option<TargetArg>,
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_dtype, help = type_help())]
    pub dtype: Option<DType>,
    #[arg(long, value_name = "NAME", value_parser = parse_mix, conflicts_with = "dtype", help = mix_help())]
    pub recipe: Option<Preset>,
    /// A type for the tensors that a pattern finds, such as attn_v=q6_k or 'blk.1?.ffn_*=q8_0'; may be given several
    /// times, the first that finds a tensor decides. Patterns are held against names as they are in the input and as
    /// they are in GGUF, whole or any run of parts between dots; * stands for anything, ? for one character.
    #[arg(long = "tensor-type", value_name = "PATTERN=TYPE", value_parser = parse_override)]
    pub overrides: Vec<Override>,
    /// The type of the output head (of embeddings too where they are the output head).
    #[arg(long, value_name = "TYPE", value_parser = parse_dtype)]
    pub output_tensor_type: Option<DType>,
    /// The type of token embeddings.
    #[arg(long, value_name = "TYPE", value_parser = parse_dtype)]
    pub token_embedding_type: Option<DType>,
    /// Leave the output head as it is.
    #[arg(long, conflicts_with = "output_tensor_type")]
    pub leave_output_tensor: bool,
    #[command(flatten)]
    pub weights: ImatrixArgs,
    /// The block form for --to q4.
    #[arg(long, value_name = "SCHEME", default_value = "asym")]
    pub q4_scheme: SchemeArg,
    /// One type for everything: embeddings and the output head too, and no mixture.
    #[arg(long)]
    pub pure: bool,
    /// Decode tensors that are quantized already and quantize them again (loses quality).
    #[arg(long)]
    pub allow_requantize: bool,
    /// Let NaN and infinities pass in tensors that are written as plain floats (F32, F16, BF16, copies of any float type), with a
    /// warning that names each; without it they are refused. Blocks and the .f16 files of --to q4 hold none either way.
    #[arg(long)]
    pub allow_nonfinite: bool,
    #[command(flatten)]
    pub rotation: RotationArgs,
}

/// What to rotate before anything is encoded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rotation")]
pub struct RotationArgs {
    /// Rotate first, so that outliers are spread: quarot (the residual stream, R1), block:N (the stream in blocks of N
    /// channels), r2 (the values of each head), quarot,r2, or fold (gains only, for comparison). Norm gains are folded, tied heads made their own. Needs a
    /// config.json of a family whose rules are known, and is refused where it would change the model.
    #[arg(long = "rotate", value_name = "WHAT")]
    pub what: Option<String>,
    /// The seed of the rotation's signs, decimal or 0x hexadecimal.
    #[arg(long, value_name = "SEED", default_value = "0xC0FFEE", value_parser = parse_seed)]
    pub seed: u64,
}

/// How a rotated model is tried before it is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gate of rotations")]
pub struct EquivalenceArgs {
    /// Tokens on which source and rotated model must compute the same logits.
    #[arg(long, value_name = "N", default_value_t = model_equivalence::TOKENS, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub probe_tokens: u32,
    /// By how much logits may differ, in units of the largest (or of 1, if that is more).
    #[arg(long, value_name = "SHARE", default_value_t = model_equivalence::TOLERANCE, value_parser = parse_tolerance)]
    pub tolerance: f64,
    /// Write a rotated model of a family that cannot be tried yet; its algebra is checked all the same.
    #[arg(long)]
    pub allow_unprobed: bool,
}

pub fn parse_seed(text: &str) -> Result<u64, String> {
    recipe::rotation::parse_seed(text).map_err(|e| e.to_string())
}

fn parse_tolerance(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no share above 0");
    text.parse().ok().filter(|t: &f64| t.is_finite() && *t > 0.0).ok_or_else(wrong)
}

/// What matters more.
#[derive(Debug, Args)]
pub struct ImatrixArgs {
    /// An importance matrix (GGUF, or the older .dat) as llama-imatrix writes it: the types that search for the best
    /// scales then weigh each column by what came into it. Types of two bits and less need one.
    #[arg(long = "imatrix", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// A container, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TargetArg {
    Gguf,
    Q4,
    Safetensors,
}

/// A lattice block form, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemeArg {
    Asym,
    Sym,
}

impl From<SchemeArg> for recipe::Q4Scheme {
    fn from(s: SchemeArg) -> recipe::Q4Scheme {
        match s {
            SchemeArg::Asym => recipe::Q4Scheme::Asym,
            SchemeArg::Sym => recipe::Q4Scheme::Sym,
        }
    }
}

/// What decides a comparison, as typed.
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

/// Names what there is, by the table of it.
fn type_help() -> String {
    let all = DType::ALL.iter().filter(|d| recipe::can_target(**d));
    let names: Vec<String> = all.map(|d| d.name().to_ascii_lowercase()).collect();
    format!("The tensor type for all eligible tensors, in any case: {}", names.join(", "))
}

pub fn parse_dtype(text: &str) -> Result<DType, String> {
    DType::parse(text).map_err(|e| e.to_string())
}

fn parse_mix(text: &str) -> Result<Preset, String> {
    Preset::parse(text).map_err(|e| e.to_string())
}

fn mix_help() -> String {
    let names: Vec<&str> = Preset::ALL.iter().map(|m| m.name()).collect();
    format!(
        "A mix of types: each tensor gets the type that llama-quantize gives it under this name, in any case: {}",
        names.join(", ")
    )
}

/// `PATTERN=TYPE`; a name may hold an equals sign, a type does not.
fn parse_override(text: &str) -> Result<Override, String> {
    let (pattern, dtype) = text.rsplit_once('=').ok_or("expected PATTERN=TYPE, for example attn_v=q6_k")?;
    if pattern.is_empty() {
        return Err("the pattern is empty".into());
    }
    Ok(Override { pattern: pattern.into(), dtype: parse_dtype(dtype)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_a_pattern_and_a_type() {
        let parsed = parse_override("attn_v=Q6_K").expect("a pair");
        assert_eq!((parsed.pattern.as_str(), parsed.dtype), ("attn_v", DType::Q6_K));
        for bad in ["attn_v", "=q6_k", "attn_v=", "attn_v=q9"] {
            assert!(parse_override(bad).is_err(), "{bad:?}");
        }
    }
}
