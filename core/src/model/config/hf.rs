//! A decoder's configuration from `config.json`, and the reader that other modules look into it with.
//!
//! Nested configurations of multi-modal checkpoints are read through (`text_config`).

use super::{Activation, CLAMP, Config, ConfigKeys, LAYERS, LIMIT, parts, rope};
use crate::error::{Code, Error, Result};
use crate::model::arch::{self, ConfigDefaults, NESTED, RequiredFlag};
use crate::model::json_file::JsonFile;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;

/// The name of the file.
pub const CONFIG: &str = "config.json";

/// A configuration, read through a nested one of its text model.
pub(in crate::model) struct ConfigReader<'a> {
    file: &'a JsonFile<'a>,
    outer: &'a Value,
    inner: &'a Value,
    /// The key of the inner one in the outer.
    nested: Option<&'static str>,
}

impl<'a> ConfigReader<'a> {
    pub(in crate::model) fn of(file: &'a JsonFile<'a>) -> ConfigReader<'a> {
        let outer = &file.value;
        let inner = |key: &&'static str| Some((*key, outer.get(*key).filter(|v| v.is_object())?));
        match NESTED.iter().find_map(inner) {
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
    pub(in crate::model) fn error(&self, code: Code, keys: &[&str], message: String) -> Error {
        self.file.error(code, &self.path(keys), message)
    }

    /// The same, of a value that cannot be.
    pub(super) fn wrong(&self, keys: &[&str], message: String) -> Error {
        self.error(Code::BadValue, keys, message)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.inner.get(key).or_else(|| self.outer.get(key)).filter(|v| !v.is_null())
    }

    pub(in crate::model) fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64().filter(|x| x.is_finite())
    }

    pub(in crate::model) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// Whether the head is the embedding, as either configuration says, else as the family does; `None` where neither
    /// speaks, and the file decides.
    pub(in crate::model) fn ties_head(&self) -> Option<bool> {
        let said = [self.inner, self.outer].map(|v| v.get("tie_word_embeddings").and_then(Value::as_bool));
        match said {
            [None, None] => defaults(self.text("model_type").unwrap_or("")).tied.then_some(true),
            _ => Some(said.contains(&Some(true))),
        }
    }

    /// A size under the first of these keys that is there; refused where it is 0 or beyond the limit.
    pub(in crate::model) fn size(&self, keys: &[&str], limit: u64) -> Result<Option<usize>> {
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
    pub(super) fn needed(&self, keys: &[&str], limit: u64) -> Result<usize> {
        let missing =
            || self.wrong(keys, format!("config.json does not say {}", keys.first().unwrap_or(&"")));
        self.size(keys, limit)?.ok_or_else(missing)
    }
}

impl Config {
    /// Reads `config.json`, through the nested configuration of a text model where there is one.
    ///
    /// # Errors
    /// `bad_json`, `bad_utf8` or `too_deep` at the byte where the text is wrong; `bad_value` at a size that is missing, 0 or
    /// beyond the limit.
    pub fn parse(json: &[u8]) -> Result<Config> {
        let file = JsonFile::parse(CONFIG, json)?;
        Config::read(&ConfigReader::of(&file))
    }

    fn read(read: &ConfigReader<'_>) -> Result<Config> {
        let heads = read.needed(&["num_attention_heads", "n_head"], LIMIT)?;
        let hidden = read.needed(&["hidden_size", "n_embd"], LIMIT)?;
        let layers = read.needed(&["num_hidden_layers", "n_layer"], LAYERS)?;
        let model_type = read.text("model_type").unwrap_or("").to_string();
        let usual = defaults(&model_type);
        let eps = ["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"];
        let experts = ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"];
        if read.flag("scale_attn_by_inverse_layer_idx") == Some(true) {
            let message = "config.json: scores that are scaled by the layer are not supported".into();
            return Err(read.wrong(&["scale_attn_by_inverse_layer_idx"], message));
        }
        let head_dim = read.size(&["head_dim"], LIMIT)?.unwrap_or((hidden / heads).max(1));
        let config = Config {
            hidden,
            heads,
            layers,
            kv_heads: kv_heads(read, heads)?,
            head_dim,
            vocab: read.needed(&["vocab_size"], LIMIT)?,
            positions: positions(read),
            norm_eps: eps.iter().find_map(|k| read.number(k)).unwrap_or(usual.norm_eps),
            rope_theta: rope::theta(read, usual, head_dim),
            rope_scaling: rope::scaling(read, usual),
            local_rope_theta: rope::local_theta(read, usual.local_theta),
            rotary_share: rope::rope(read, "partial_rotary_factor")
                .or_else(|| read.number("rotary_pct"))
                .or_else(|| read.number("rotary_dim").map(|rotated| rotated / head_dim as f64))
                .unwrap_or(usual.rotary_share),
            unrotated: parts::unrotated(read, usual.unrotated_every, layers)?,
            sliding: parts::sliding(read, usual.sliding, layers)?,
            linear: parts::linear(read)?,
            latent: parts::latent(read, heads)?,
            head_norms: read.flag("use_qk_norm").unwrap_or(usual.head_norms),
            parallel: read.flag("use_parallel_residual").unwrap_or(true),
            tied: read.flag("tie_word_embeddings").unwrap_or(usual.tied),
            activation: activation(read, usual)?,
            experts: read.size(&experts, LIMIT)?.unwrap_or(0),
            experts_per_token: read
                .size(&["num_experts_per_tok", "experts_per_token", "moe_k"], LIMIT)?
                .unwrap_or(0),
            normalised_experts: read.flag("norm_topk_prob").unwrap_or(usual.normalised_experts),
            expert_groups: read.size(&["n_group"], LIMIT)?.unwrap_or(1),
            groups_per_token: read.size(&["topk_group"], LIMIT)?.unwrap_or(1),
            expert_scale: read.number("routed_scaling_factor").unwrap_or(1.0),
            clamp: (
                read.number("swiglu_limit").unwrap_or(CLAMP.0),
                read.number("swiglu_alpha").unwrap_or(CLAMP.1),
            ),
            embedding_multiplier: read.number("embedding_multiplier").unwrap_or(1.0),
            residual_multiplier: read.number("residual_multiplier").unwrap_or(1.0),
            qkv_clip: read.number("clip_qkv").filter(|limit| *limit > 0.0),
            chunk: chunk(read, usual.chunk)?,
            temperature: temperature(read, usual.temperature),
            unsupported: unsupported(read, usual.required),
            attention_multiplier: attention_multiplier(read, usual),
            attention_softcap: softcap(read, "attn_logit_softcapping", usual.softcaps.map(|c| c.0)),
            logits_scaling: logits_scaling(read, usual.logit_scale),
            logits_softcap: softcap(read, "final_logit_softcapping", usual.softcaps.map(|c| c.1)),
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

/// What the architecture of a `model_type` means where its configuration does not say.
fn defaults(model_type: &str) -> &'static ConfigDefaults {
    &arch::find(model_type).unwrap_or(&arch::GENERIC).config
}

/// Heads of keys and values. Falcon's configuration has flags: one head for all queries, or one each.
fn kv_heads(read: &ConfigReader<'_>, heads: usize) -> Result<usize> {
    if let Some(count) = read.size(&["num_key_value_heads"], LIMIT)? {
        return Ok(count);
    }
    let grouped = match (read.flag("new_decoder_architecture"), read.flag("multi_query")) {
        (None, None) => return Ok(heads),
        (Some(true), _) => true,
        (_, Some(true)) => return Ok(1),
        _ => false,
    };
    let count = read.size(&["num_kv_heads", "n_head_kv"], LIMIT)?;
    Ok(count.filter(|_| grouped).unwrap_or(heads))
}

/// Positions of a chunk; none if the configuration has a null.
fn chunk(read: &ConfigReader<'_>, usual: Option<usize>) -> Result<Option<usize>> {
    const KEY: &str = "attention_chunk_size";
    let said = read.inner.get(KEY).or_else(|| read.outer.get(KEY)).is_some();
    if said { read.size(&[KEY], LIMIT) } else { Ok(usual) }
}

/// `attn_scale` and `floor_scale`, unless `attn_temperature_tuning` is off.
fn temperature(read: &ConfigReader<'_>, usual: Option<(f64, f64)>) -> Option<(f64, f64)> {
    let (scale, floor) = usual?;
    let off = read.get("attn_temperature_tuning").is_some_and(|v| v == false || v == 0);
    let number = |key: &str, usual: f64| read.number(key).filter(|x| *x > 0.0).unwrap_or(usual);
    (!off).then(|| (number("attn_scale", scale), number("floor_scale", floor)))
}

/// The first flag with another value than the forward pass supports.
fn unsupported(read: &ConfigReader<'_>, required: &[RequiredFlag]) -> Option<&'static str> {
    let other = |f: &&RequiredFlag| {
        let relevant = f.unless.is_none_or(|key| read.flag(key) != Some(true));
        relevant && read.flag(f.key).unwrap_or(f.default) != f.value
    };
    required.iter().find(other).map(|f| f.key)
}

/// The most positions, where they are a number of at least 1.
fn positions(read: &ConfigReader<'_>) -> Option<usize> {
    let keys =
        ["model_max_length", "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"];
    let said = keys.iter().find_map(|k| read.get(k)).and_then(Value::as_u64);
    said.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok())
}

/// The divisor of the logits; Cohere gives their factor.
fn logits_scaling(read: &ConfigReader<'_>, usual: Option<f64>) -> f64 {
    let factor = read.number("logit_scale").or(usual);
    factor.map_or_else(|| read.number("logits_scaling").unwrap_or(1.0), |f| 1.0 / f)
}

/// The factor of scores, where it is not the inverse root of the head's length.
fn attention_multiplier(read: &ConfigReader<'_>, usual: &ConfigDefaults) -> Option<f64> {
    let scalar = read.number("query_pre_attn_scalar").filter(|s| *s > 0.0).or(usual.query_scalar);
    let own = read.number("attention_multiplier").or(usual.attention_multiplier);
    own.or_else(|| scalar.map(|s| 1.0 / libm::sqrt(s)))
}

/// A bound; none if the configuration has a null.
fn softcap(read: &ConfigReader<'_>, key: &str, usual: Option<f64>) -> Option<f64> {
    let said = read.inner.get(key).or_else(|| read.outer.get(key)).is_some();
    let cap = if said { read.number(key) } else { usual };
    cap.filter(|cap| *cap > 0.0)
}

fn activation(read: &ConfigReader<'_>, usual: &ConfigDefaults) -> Result<Activation> {
    let keys = ["hidden_activation", "hidden_act", "activation_function", "activation"];
    let Some((key, name)) = keys.iter().find_map(|k| Some((*k, read.text(k)?))) else {
        return Ok(usual.activation);
    };
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "relu" => Ok(Activation::Relu),
        "relu2" => Ok(Activation::ReluSquared),
        "gelu" => Ok(usual.gelu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        other => Err(read.wrong(&[key], format!("config.json: the activation {other:?} is not known"))),
    }
}
