//! What `config.json` says of a decoder: sizes, norms, rotary embedding, activation, experts. Knows no tensor.
//!
//! Nested configurations of multi-modal checkpoints are read through (`text_config`). A file may say anything: every
//! size is checked against a limit before anybody multiplies it.

mod parts;
mod rope;

pub use parts::{Latent, Linear, Sliding};
pub use rope::RopeScaling;

use super::json_file::JsonFile;
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;

/// The largest of any size in a configuration that we believe.
pub(super) const LIMIT: u64 = 1 << 24;
/// The most layers.
pub(super) const LAYERS: u64 = 1 << 12;

/// The nonlinearity of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The exact Gaussian error linear unit.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
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
    /// Added to the mean square before a norm takes its root.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
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
    /// Where a clamped gate and its partner end, and what the gate's sigmoid is sharpened by.
    pub clamp: (f64, f64),
    /// What the embedding is multiplied by, beside what the family does.
    pub embedding_multiplier: f64,
    /// What each branch is multiplied by before it is added.
    pub residual_multiplier: f64,
    /// What scores are multiplied by, where it is not the inverse root of the head.
    pub attention_multiplier: Option<f64>,
    /// What logits are divided by.
    pub logits_scaling: f64,
    /// Where in the file that is said which a forward pass may refuse.
    pub places: ConfigKeys,
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

/// The name of the file.
pub const CONFIG: &str = "config.json";

/// A configuration, read through a nested one of its text model.
pub(super) struct ConfigReader<'a> {
    file: &'a JsonFile<'a>,
    outer: &'a Value,
    inner: &'a Value,
    /// The key of the inner one in the outer.
    nested: Option<&'static str>,
}

impl<'a> ConfigReader<'a> {
    pub(super) fn of(file: &'a JsonFile<'a>) -> ConfigReader<'a> {
        let outer = &file.value;
        let inner = |key: &&'static str| Some((*key, outer.get(*key).filter(|v| v.is_object())?));
        match ["text_config", "llm_config", "language_config"].iter().find_map(inner) {
            Some((nested, inner)) => ConfigReader { file, outer, inner, nested: Some(nested) },
            None => ConfigReader { file, outer, inner: outer, nested: None },
        }
    }

    /// Where the path to the first of these keys that is there ends, or to the object that has none of them.
    fn path<'k>(&self, keys: &[&'k str]) -> Vec<&'k str> {
        let inner = self.nested.into_iter();
        let within = |key: &&&str| self.inner.get(**key).is_some();
        match keys.iter().find(|k| within(k) || self.outer.get(**k).is_some()) {
            Some(key) if within(&key) => inner.chain([*key]).collect(),
            Some(key) => Vec::from([*key]),
            None => inner.collect(),
        }
    }

    fn place(&self, keys: &[&str]) -> u64 {
        self.file.offset(&self.path(keys))
    }

    /// An error about the first of these keys that is there, or about their absence.
    pub(super) fn error(&self, code: Code, keys: &[&str], message: String) -> Error {
        self.file.error(code, &self.path(keys), message)
    }

    /// The same, of a value that cannot be.
    fn wrong(&self, keys: &[&str], message: String) -> Error {
        self.error(Code::BadValue, keys, message)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.inner.get(key).or_else(|| self.outer.get(key)).filter(|v| !v.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64().filter(|x| x.is_finite())
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// Whether the head is the embedding, as either configuration says, else as the family does; `None` where neither
    /// speaks, and the file decides.
    pub(super) fn ties_head(&self) -> Option<bool> {
        let said = [self.inner, self.outer].map(|v| v.get("tie_word_embeddings").and_then(Value::as_bool));
        match said {
            [None, None] => ties(self.text("model_type").unwrap_or("")).then_some(true),
            _ => Some(said.contains(&Some(true))),
        }
    }

    /// A size under the first of these keys that is there; refused where it is 0 or beyond the limit.
    pub(super) fn size(&self, keys: &[&str], limit: u64) -> Result<Option<usize>> {
        let Some((key, value)) = keys.iter().find_map(|k| self.get(k).map(|v| (k, v))) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(n) if (1..=limit).contains(&n) => Ok(Some(n as usize)),
            _ => {
                Err(self
                    .wrong(&[key], format!("config.json: {key} is {value}, not a size from 1 to {limit}")))
            }
        }
    }

    /// The same, of a size that must be there under the first key or another.
    fn needed(&self, keys: &[&str], limit: u64) -> Result<usize> {
        let missing =
            || self.wrong(keys, format!("config.json does not say {}", keys.first().unwrap_or(&"")));
        self.size(keys, limit)?.ok_or_else(missing)
    }
}

impl Config {
    /// Reads `config.json`.
    pub fn parse(json: &[u8]) -> Result<Config> {
        let file = JsonFile::parse(CONFIG, json)?;
        Config::read(&ConfigReader::of(&file))
    }

    fn read(read: &ConfigReader<'_>) -> Result<Config> {
        let heads = read.needed(&["num_attention_heads", "n_head"], LIMIT)?;
        let hidden = read.needed(&["hidden_size", "n_embd"], LIMIT)?;
        let layers = read.needed(&["num_hidden_layers", "n_layer"], LAYERS)?;
        let model_type = read.text("model_type").unwrap_or("").to_string();
        let eps = ["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"];
        let experts = ["num_local_experts", "num_experts", "n_routed_experts"];
        if read.flag("scale_attn_by_inverse_layer_idx") == Some(true) {
            let message = "config.json: scores that are scaled by the layer are not supported".into();
            return Err(read.wrong(&["scale_attn_by_inverse_layer_idx"], message));
        }
        let config = Config {
            hidden,
            heads,
            layers,
            kv_heads: read.size(&["num_key_value_heads"], LIMIT)?.unwrap_or(heads),
            head_dim: read.size(&["head_dim"], LIMIT)?.unwrap_or((hidden / heads).max(1)),
            vocab: read.needed(&["vocab_size"], LIMIT)?,
            norm_eps: eps.iter().find_map(|k| read.number(k)).unwrap_or(1e-6),
            rope_theta: rope::rope(read, "rope_theta")
                .or_else(|| read.number("rotary_emb_base"))
                .unwrap_or(10_000.0),
            rope_scaling: rope::scaling(read),
            rotary_share: rotary_share(read, &model_type),
            unrotated: parts::unrotated(read, &model_type, layers),
            sliding: parts::sliding(read, &model_type, layers)?,
            linear: parts::linear(read)?,
            latent: parts::latent(read, heads)?,
            head_norms: read.flag("use_qk_norm").unwrap_or(false),
            parallel: read.flag("use_parallel_residual").unwrap_or(true),
            tied: read.flag("tie_word_embeddings").unwrap_or_else(|| ties(&model_type)),
            activation: activation(read)?,
            experts: read.size(&experts, LIMIT)?.unwrap_or(0),
            experts_per_token: read.size(&["num_experts_per_tok", "experts_per_token"], LIMIT)?.unwrap_or(0),
            normalised_experts: read.flag("norm_topk_prob").unwrap_or_else(|| normalises(&model_type)),
            expert_groups: read.size(&["n_group"], LIMIT)?.unwrap_or(1),
            groups_per_token: read.size(&["topk_group"], LIMIT)?.unwrap_or(1),
            expert_scale: read.number("routed_scaling_factor").unwrap_or(1.0),
            clamp: (read.number("swiglu_limit").unwrap_or(7.0), read.number("swiglu_alpha").unwrap_or(1.702)),
            embedding_multiplier: read.number("embedding_multiplier").unwrap_or(1.0),
            residual_multiplier: read.number("residual_multiplier").unwrap_or(1.0),
            attention_multiplier: read.number("attention_multiplier"),
            logits_scaling: logits_scaling(read, &model_type),
            places: ConfigKeys {
                model_type: read.place(&["model_type"]),
                kv_heads: read.place(&["num_key_value_heads", "num_attention_heads", "n_head"]),
                vocab: read.place(&["vocab_size"]),
                experts: read.place(&experts),
            },
            model_type,
        };
        parts::bounded(read, "head_dim", config.heads, config.head_dim)?;
        parts::bounded(read, "head_dim", config.kv_heads, config.head_dim)?;
        Ok(config)
    }
}

/// What logits are divided by; Cohere says what they are multiplied by.
fn logits_scaling(read: &ConfigReader<'_>, model_type: &str) -> f64 {
    let factor = read.number("logit_scale").or((model_type == "cohere").then_some(0.0625));
    factor.map_or_else(|| read.number("logits_scaling").unwrap_or(1.0), |f| 1.0 / f)
}

/// The share of a head that is rotated, which some families do not say.
fn rotary_share(read: &ConfigReader<'_>, model_type: &str) -> f64 {
    let usual = match model_type {
        "gpt_neox" | "qwen3_next" | "qwen3_5_text" | "qwen3_5_moe_text" => 0.25,
        "glm4_moe" => 0.5,
        _ => 1.0,
    };
    let said = rope::rope(read, "partial_rotary_factor").or_else(|| read.number("rotary_pct"));
    said.unwrap_or(usual)
}

/// Whether a family makes the weights of chosen experts add up to 1 when its configuration does not say.
fn normalises(model_type: &str) -> bool {
    ["mixtral", "gpt_oss", "qwen3_next", "qwen3_5_moe_text", "deepseek_v3", "glm4_moe"].contains(&model_type)
}

/// Whether a family ties its head to the embedding when its configuration does not say.
fn ties(model_type: &str) -> bool {
    let tied = ["gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2", "lfm2", "smollm3"];
    let older = ["gpt2", "opt", "falcon", "starcoder2", "ernie4_5"];
    tied.contains(&model_type) || older.contains(&model_type)
}

fn activation(read: &ConfigReader<'_>) -> Result<Activation> {
    let keys = ["hidden_activation", "hidden_act", "activation_function"];
    let (key, name) = keys.iter().find_map(|k| Some((*k, read.text(k)?))).unwrap_or(("", "silu"));
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        // The first Gemma's configuration says "gelu" and means the approximation.
        "gelu" if read.text("model_type") == Some("gemma") => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        other => Err(read.wrong(&[key], format!("config.json: the activation {other:?} is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
