//! `<arch>.*` keys of a GGUF from the hyperparameters of a checkpoint, in the order and with the types of llama.cpp's
//! converter.
//!
//! What an architecture writes is data: tables of [`KeyRule`] in its row. Rules that compute are
//! functions of `computed` and `layer_kinds`. Knows no tokenizer and no bytes of a file.

mod base;
mod computed;
pub mod encoders;
pub mod families;
mod layer_kinds;
mod ordered;
mod pooling;
mod rules;
mod scaling;

pub use base::BASE;
pub use ordered::{GgufKeys, texts};
pub use pooling::pooling_type;
pub use rules::{KeyRule, KeyWriter};
pub use scaling::attention_factor;

use super::config::hyperparameters::Hyperparameters;
use crate::error::Result;
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What the keys depend on beside the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TensorFacts {
    /// `general.file_type`.
    pub file_type: u32,
    /// Blocks of a predictor of further tokens that are written behind the layers.
    pub mtp_blocks: u32,
    /// Whether such blocks are left out.
    pub no_mtp: bool,
    /// `pooling_type`, where `modules.json` names one: see [`pooling_type`].
    pub pooling: Option<u32>,
}

/// The keys of an architecture of the GGUF name `name`, whose rows have `rules`; `general.file_type` stands among them.
///
/// # Errors
///
/// [`Code::BadValue`](crate::Code::BadValue) naming a key of the configuration that is absent, or not of its type.
pub fn architecture_keys(
    name: &str,
    rules: &[&[KeyRule]],
    hyper: &Hyperparameters,
    facts: &TensorFacts,
) -> Result<Vec<(String, MetaValue)>> {
    let mut writer = KeyWriter::new(name, hyper.clone(), *facts);
    for rule in rules.iter().copied().flatten() {
        rule.write(&mut writer)?;
    }
    Ok(writer.into_keys())
}

/// The keys that are written before all others but `general.architecture`, because tensors are made with them.
///
/// # Errors
///
/// As [`attention_factor`].
pub fn early_keys(name: &str, hyper: &Hyperparameters) -> Result<Vec<(String, MetaValue)>> {
    if !matches!(name, "phi3" | "phimoe") {
        return Ok(Vec::new());
    }
    let factor = attention_factor(hyper)?;
    let key = |factor: f64| (format!("{name}.rope.scaling.attn_factor"), MetaValue::F32(factor as f32));
    Ok(factor.map(key).into_iter().collect())
}

/// `general.architecture` of a model whose row has `name`: Granite's hybrids without a Mamba layer are plain Granite
/// models, and Mistral's own format without `llama_4_scaling` is Llama's.
///
/// # Errors
///
/// [`Code::BadValue`](crate::Code::BadValue) if a count of the configuration is none.
pub fn architecture_name<'a>(row: &str, name: &'a str, hyper: &Hyperparameters) -> Result<&'a str> {
    Ok(match row {
        "granite_hybrid" if !layer_kinds::has_mamba_layers(hyper) => {
            let experts = hyper.count(&["num_experts_per_tok", "num_experts_per_token"])?;
            if experts.is_some_and(|n| n > 0) { "granitemoe" } else { "granite" }
        }
        "mistral_format" if hyper.get("llama_4_scaling").is_none() => "llama",
        _ => name,
    })
}
