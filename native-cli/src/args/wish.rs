//! What to make, as typed: container, type or recipe, types of single tensors, importance.

use clap::{Args, ValueEnum};
use quantoscope_core::recipe::Override;
use quantoscope_core::recipe::mix::Mix;
use quantoscope_core::{DType, recipe};
use std::path::PathBuf;

/// What to make.
#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// The container; default: by the extension of OUT, else gguf for a plan.
    #[arg(long, value_name = "CONTAINER")]
    pub to: Option<To>,
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_dtype, help = type_help())]
    pub dtype: Option<DType>,
    #[arg(long, value_name = "NAME", value_parser = parse_mix, conflicts_with = "dtype", help = mix_help())]
    pub recipe: Option<Mix>,
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
    pub weights: Imatrix,
    /// The block form for --to q4.
    #[arg(long, value_name = "SCHEME", default_value = "asym")]
    pub q4_scheme: Scheme,
    /// One type for everything: embeddings and the output head too, and no mixture.
    #[arg(long)]
    pub pure: bool,
    /// Decode tensors that are quantized already and quantize them again (loses quality).
    #[arg(long)]
    pub allow_requantize: bool,
}

/// What matters more.
#[derive(Debug, Args)]
pub struct Imatrix {
    /// An importance matrix (GGUF, or the older .dat) as llama-imatrix writes it: the types that search for the best
    /// scales then weigh each column by what came into it. Types of two bits and less need one.
    #[arg(long = "imatrix", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// A container, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum To {
    Gguf,
    Q4,
    Safetensors,
}

/// A lattice block form, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scheme {
    Asym,
    Sym,
}

impl From<Scheme> for recipe::Q4Scheme {
    fn from(s: Scheme) -> recipe::Q4Scheme {
        match s {
            Scheme::Asym => recipe::Q4Scheme::Asym,
            Scheme::Sym => recipe::Q4Scheme::Sym,
        }
    }
}

/// Names what there is, by the table of it.
fn type_help() -> String {
    let all = DType::ALL.iter().filter(|d| recipe::can_target(**d));
    let names: Vec<String> = all.map(|d| d.name().to_ascii_lowercase()).collect();
    format!("The tensor type for all eligible tensors, in any case: {}", names.join(", "))
}

fn parse_dtype(text: &str) -> Result<DType, String> {
    DType::parse(text).map_err(|e| e.to_string())
}

fn parse_mix(text: &str) -> Result<Mix, String> {
    Mix::parse(text).map_err(|e| e.to_string())
}

fn mix_help() -> String {
    let names: Vec<&str> = Mix::ALL.iter().map(|m| m.name()).collect();
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
