//! A decoder's configuration: sizes, norms, rotary embedding, activation, experts. Knows no tensor.
//!
//! It is read from `config.json` ([`Config::parse`]) or from the metadata of a GGUF ([`Config::of_gguf`]). A file may say
//! anything: every size is checked against a limit before it is multiplied.

mod gguf;
mod hf;
pub mod hparams;
pub mod hyperparameters;
mod parts;
mod rope;

pub use hf::CONFIG;
pub(super) use hf::ConfigReader;
pub use parts::{Latent, Linear, Sliding};
pub use rope::RopeScaling;

use crate::error::{Code, Error, Result};
use alloc::string::String;
use alloc::vec::Vec;

/// The largest size that a configuration may give.
pub(super) const LIMIT: u64 = 1 << 24;
/// The most layers.
pub(super) const LAYERS: u64 = 1 << 12;
/// `swiglu_limit` and `swiglu_alpha` of GPT-OSS.
const CLAMP: (f64, f64) = (7.0, 1.702);

/// The nonlinearity of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The exact Gaussian error linear unit.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)` squared.
    ReluSquared,
}

/// A decoder's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `model_type`, of the nested configuration where there is one.
    pub model_type: String,
    /// Length of the residual stream.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// The most positions that the model was made for, where that is said.
    pub positions: Option<usize>,
    /// Added to the mean square before a norm takes its root.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Base of those of layers with a sliding window, where they have their own.
    pub local_rope_theta: Option<f64>,
    /// How they are stretched.
    pub rope_scaling: RopeScaling,
    /// The share of a head that is rotated.
    pub rotary_share: f64,
    /// Which layers have no rotary embedding; those that are not here have it.
    pub unrotated: Vec<bool>,
    /// Which layers do not look all the way back.
    pub sliding: Sliding,
    /// Linear attention, where the family has it.
    pub linear: Option<Linear>,
    /// Latent attention, where the family has it.
    pub latent: Option<Latent>,
    /// Whether queries and keys are normalised, where the family leaves that open.
    pub head_norms: bool,
    /// Whether both branches of a layer read the same stream, where the family leaves that open.
    pub parallel: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// The nonlinearity.
    pub activation: Activation,
    /// Experts of a sparse layer; 0 where there are none.
    pub experts: usize,
    /// Experts that each token uses.
    pub experts_per_token: usize,
    /// Whether the weights of the chosen experts are made to add up to 1.
    pub normalised_experts: bool,
    /// Groups that experts are in; 1 where they are in none.
    pub expert_groups: usize,
    /// Groups that each token's experts come from.
    pub groups_per_token: usize,
    /// What the weights of the chosen experts are multiplied by.
    pub expert_scale: f64,
    /// `swiglu_limit` and `swiglu_alpha` of GPT-OSS.
    pub clamp: (f64, f64),
    /// What the embedding is multiplied by, beside what the family does.
    pub embedding_multiplier: f64,
    /// What each branch is multiplied by before it is added.
    pub residual_multiplier: f64,
    /// Queries, keys and values are clamped to this magnitude (`clip_qkv`).
    pub qkv_clip: Option<f64>,
    /// Positions that attend to each other in rotated layers (`attention_chunk_size` of Llama 4).
    pub chunk: Option<usize>,
    /// `attn_scale` and `floor_scale` of Llama 4, if scores grow with the position.
    pub temperature: Option<(f64, f64)>,
    /// A key whose value the forward pass does not support.
    pub unsupported: Option<&'static str>,
    /// What scores are multiplied by, where it is not the inverse root of the head.
    pub attention_multiplier: Option<f64>,
    /// The bound of scores, where they have one.
    pub attention_softcap: Option<f64>,
    /// What logits are divided by.
    pub logits_scaling: f64,
    /// The bound of logits, where they have one.
    pub logits_softcap: Option<f64>,
    /// Where in the file that is said which a forward pass may refuse.
    pub places: ConfigKeys,
}

impl Config {
    /// Refuses what a forward pass computes only approximately.
    ///
    /// # Errors
    ///
    /// `unsupported_rotation` for a kind of rotary scaling that is not known.
    pub fn check_exact(&self) -> Result<()> {
        match self.rope_scaling {
            RopeScaling::Unknown => {
                let message = "its kind of rotary scaling (rope_scaling) is not supported";
                Err(Error::new(Code::UnsupportedRotation, message))
            }
            _ => Ok(()),
        }
    }
}

/// Byte offsets in `config.json`: of values, or of the object that lacks them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ConfigKeys {
    pub model_type: u64,
    pub kv_heads: u64,
    pub vocab: u64,
    pub experts: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let with = |heads: &str, hidden: &str| {
            let json = format!(
                r#"{{"num_attention_heads": {heads}, "hidden_size": {hidden}, "num_hidden_layers": 2, "vocab_size": 9}}"#
            );
            Config::parse(json.as_bytes())
        };
        assert_eq!(with("4", "64").map(|c| c.head_dim), Ok(16));
        assert_eq!(with("64", "4").map(|c| c.head_dim), Ok(1));
        let more = |extra: &str| with("4", &format!("64, {extra}"));
        let code = |parsed: Result<Config>| parsed.err().map(|e| e.code());
        assert_eq!(code(more(r#""head_dim": 8388608"#)), Some(Code::BadValue));
        let latent =
            r#""kv_lora_rank": 8, "qk_nope_head_dim": 8388608, "qk_rope_head_dim": 2, "v_head_dim": 2"#;
        assert_eq!(code(more(latent)), Some(Code::BadValue));
        let linear = |heads: &str| {
            more(&format!(
                r#""linear_num_key_heads": 2, "linear_num_value_heads": {heads}, "linear_key_head_dim": 8388608, "linear_value_head_dim": 4"#
            ))
        };
        let codes = ["4", "3", "8388608"].map(|heads| code(linear(heads)));
        assert_eq!(codes, [None, Some(Code::BadValue), Some(Code::BadValue)]);
        for (heads, hidden) in
            [("0", "64"), ("4", "0"), ("-1", "64"), ("4", "1e30"), ("4", "\"64\""), ("4", "null")]
        {
            assert_eq!(code(with(heads, hidden)), Some(Code::BadValue), "{heads} {hidden}");
        }
        assert_eq!(Config::parse(b"{").unwrap_err().code(), Code::BadJson);
        assert_eq!(Config::parse(b"{}").unwrap_err().code(), Code::BadValue);
    }

    #[test]
    fn a_nested_configuration_is_read_through() {
        let json = br#"{"model_type": "outer", "tie_word_embeddings": true, "text_config": {"model_type": "qwen3",
            "num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 9, "head_dim": 32,
            "rope_parameters": {"rope_theta": 5e6, "rope_type": "default"}}}"#;
        let c = Config::parse(json).unwrap();
        assert_eq!((c.model_type.as_str(), c.tied, c.head_dim, c.rope_theta), ("qwen3", true, 32, 5e6));
    }
}
