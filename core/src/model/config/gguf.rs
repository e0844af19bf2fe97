//! A decoder's configuration from the metadata of a GGUF file. Keys: `gguf-py/gguf/constants.py` of llama.cpp.
//!
//! A GGUF does not store the activation, and stores a tied head by leaving the head out: both come from the architecture.

use super::{Config, ConfigKeys, LAYERS, LIMIT, Latent, Linear, RopeScaling, Sliding};
use crate::error::{Code, Error, Result};
use crate::model::arch::{self, Arch, SlidingLayers};
use crate::model::forward::spec::RouterScores;
use crate::tensor::{MetaValue, Metadata};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The keys of one architecture.
struct MetadataReader<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl MetadataReader<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn get(&self, key: &str) -> Option<&MetaValue> {
        self.metadata.get(&self.key(key))
    }

    /// A number, or the first one of an array with one for each layer that is not 0.
    fn uint(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            MetaValue::Array(_) => self.numbers(key).into_iter().find(|&n| n > 0),
            _ => self.metadata.uint(&self.key(key)),
        }
    }

    /// The numbers of an array of 32-bit integers, or of flags as 0 and 1.
    fn numbers(&self, key: &str) -> Vec<u64> {
        const U32: u32 = 4;
        const I32: u32 = 5;
        const BOOL: u32 = 7;
        match self.get(key) {
            Some(MetaValue::Array(a)) if matches!(a.element, U32 | I32) => {
                let number = |raw: &[u8; 4]| u64::try_from(i32::from_le_bytes(*raw)).unwrap_or(0);
                a.raw.as_chunks().0.iter().map(number).collect()
            }
            Some(MetaValue::Array(a)) if a.element == BOOL => a.raw.iter().map(|&b| b.into()).collect(),
            _ => Vec::new(),
        }
    }

    fn float(&self, key: &str) -> Option<f64> {
        let value = match *self.get(key)? {
            MetaValue::F32(v) => f64::from(v),
            MetaValue::F64(v) => v,
            _ => return None,
        };
        Some(value).filter(|v| v.is_finite())
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            MetaValue::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A size; refused where it is 0 or beyond the limit.
    fn size(&self, key: &str, limit: u64) -> Result<Option<usize>> {
        match self.uint(key) {
            None => Ok(None),
            Some(n) if (1..=limit).contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(self.wrong(key, &format!("is {n}, not a size from 1 to {limit}"))),
        }
    }

    fn needed(&self, key: &str, limit: u64) -> Result<usize> {
        self.size(key, limit)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn wrong(&self, key: &str, what: &str) -> Error {
        Error::new(Code::BadValue, format!("the metadata key {} {what}", self.key(key)))
    }

    /// Refuses heads that are longer together than any size may be.
    fn bounded(&self, key: &str, heads: usize, length: usize) -> Result<()> {
        if heads as u64 * length as u64 <= LIMIT {
            return Ok(());
        }
        Err(self.wrong(key, &format!("makes {heads} heads of {length} values, more than {LIMIT}")))
    }
}

impl Config {
    /// The configuration in the metadata of a GGUF file.
    ///
    /// # Errors
    /// `bad_value` where a size is missing, 0 or beyond the limit; `unsupported_rotation` where the architecture is not
    /// known.
    pub fn of_gguf(metadata: &Metadata) -> Result<Config> {
        let architecture = metadata.text("general.architecture").unwrap_or("");
        let Some(arch) = architecture_of(metadata, architecture) else {
            let message = format!("general.architecture is {architecture:?}, which is not known");
            return Err(Error::new(Code::UnsupportedRotation, message));
        };
        let read = MetadataReader { metadata, architecture };
        let heads = read.needed("attention.head_count", LIMIT)?;
        let hidden = read.needed("embedding_length", LIMIT)?;
        let blocks = read.needed("block_count", LAYERS)?;
        let predictors = read.uint("nextn_predict_layers").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let layers = blocks.saturating_sub(predictors).max(1);
        let latent = latent(&read, heads)?;
        let head_dim = match latent {
            Some(_) => (hidden / heads).max(1),
            None => read.size("attention.key_length", LIMIT)?.unwrap_or((hidden / heads).max(1)),
        };
        let kv_heads = match latent {
            Some(_) => heads,
            None => read.size("attention.head_count_kv", LIMIT)?.unwrap_or(heads),
        };
        read.bounded("attention.key_length", heads, head_dim)?;
        read.bounded("attention.key_length", kv_heads, head_dim)?;
        let config = Config {
            model_type: arch.model_types.first().copied().unwrap_or("").to_string(),
            hidden,
            heads,
            layers,
            kv_heads,
            head_dim,
            vocab: vocabulary(&read)?,
            linear: linear(&read)?,
            latent,
            ..of_arch(&read, arch, layers)?
        };
        Ok(Config { rotary_share: rotary_share(&read, arch, &config), ..config })
    }
}

/// The architecture of a GGUF name. Where several share it (Llama and Mixtral), their experts tell them apart.
fn architecture_of(metadata: &Metadata, architecture: &str) -> Option<&'static Arch> {
    const SIGMOID: u64 = 2;
    let experts = metadata.uint(&format!("{architecture}.expert_count")).unwrap_or(0) > 0;
    let sigmoid = metadata.uint(&format!("{architecture}.expert_gating_func")) == Some(SIGMOID);
    let alike = |arch: &&Arch| {
        arch.forward.is_some_and(|f| match f.experts {
            Some(own) => experts && sigmoid == (own.shares == RouterScores::Sigmoid),
            None => !experts,
        })
    };
    arch::of_gguf(architecture).find(alike).or_else(|| arch::of_gguf(architecture).next())
}

/// Everything but the sizes.
fn of_arch(read: &MetadataReader<'_>, arch: &Arch, layers: usize) -> Result<Config> {
    let usual = &arch.config;
    let eps = ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"];
    let experts = read.size("expert_count", LIMIT)?.unwrap_or(0);
    // The converter does not write `norm_topk_prob` for Qwen 3, and llama.cpp always normalises there.
    let always = read.architecture == "qwen3moe";
    Ok(Config {
        model_type: String::new(),
        hidden: 1,
        heads: 1,
        layers,
        kv_heads: 1,
        head_dim: 1,
        vocab: 1,
        positions: read.uint("context_length").filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok()),
        norm_eps: eps.iter().find_map(|k| read.float(k)).unwrap_or(1e-6),
        rope_theta: read.float("rope.freq_base").unwrap_or(usual.rope_theta),
        rope_scaling: scaling(read),
        local_rope_theta: usual.local_theta.map(|usual| read.float("rope.freq_base_swa").unwrap_or(usual)),
        rotary_share: usual.rotary_share,
        unrotated: super::parts::unrotated_layers(usual.unrotated_every, layers),
        sliding: sliding(read, usual.sliding, layers)?,
        linear: None,
        latent: None,
        head_norms: usual.head_norms,
        parallel: read.flag("use_parallel_residual").unwrap_or(true),
        tied: usual.tied,
        activation: usual.activation,
        experts,
        experts_per_token: read.size("expert_used_count", LIMIT)?.unwrap_or(0),
        normalised_experts: read.flag("expert_weights_norm").unwrap_or(usual.normalised_experts || always),
        expert_groups: read.size("expert_group_count", LIMIT)?.unwrap_or(1),
        groups_per_token: read.size("expert_group_used_count", LIMIT)?.unwrap_or(1),
        expert_scale: read.float("expert_weights_scale").unwrap_or(1.0),
        clamp: super::CLAMP,
        embedding_multiplier: read.float("embedding_scale").unwrap_or(1.0),
        residual_multiplier: read.float("residual_scale").unwrap_or(1.0),
        qkv_clip: read.float("attention.clamp_kqv"),
        chunk: usual.chunk,
        temperature: usual.temperature,
        unsupported: None,
        attention_multiplier: read
            .float("attention.scale")
            .or_else(|| usual.query_scalar.map(|s| 1.0 / libm::sqrt(s))),
        attention_softcap: read.float("attn_logit_softcapping").or(usual.softcaps.map(|c| c.0)),
        logits_scaling: logits_scaling(read, usual.logit_scale),
        logits_softcap: read.float("final_logit_softcapping").or(usual.softcaps.map(|c| c.1)),
        places: ConfigKeys::default(),
    })
}

/// The divisor of the logits. The key holds a factor where the architecture has a usual one, else a divisor.
fn logits_scaling(read: &MetadataReader<'_>, usual: Option<f64>) -> f64 {
    let said = read.float("logit_scale");
    match usual {
        Some(factor) => 1.0 / said.unwrap_or(factor),
        None => said.unwrap_or(1.0),
    }
}

/// The vocabulary: the key, or the number of tokens.
fn vocabulary(read: &MetadataReader<'_>) -> Result<usize> {
    if let Some(n) = read.size("vocab_size", LIMIT)? {
        return Ok(n);
    }
    match read.metadata.get("tokenizer.ggml.tokens") {
        Some(MetaValue::Array(a)) if (1..=LIMIT).contains(&a.len) => Ok(a.len as usize),
        _ => Err(read.wrong("vocab_size", "is missing, and there are no tokens")),
    }
}

fn rotary_share(read: &MetadataReader<'_>, arch: &Arch, config: &Config) -> f64 {
    match read.uint("rope.dimension_count").filter(|_| config.latent.is_none()) {
        Some(n) if n <= config.head_dim as u64 => n as f64 / config.head_dim as f64,
        _ => arch.config.rotary_share,
    }
}

fn scaling(read: &MetadataReader<'_>) -> RopeScaling {
    let factor = read.float("rope.scaling.factor").filter(|f| *f > 0.0);
    match (read.metadata.text(&read.key("rope.scaling.type")), factor) {
        (Some("linear"), Some(factor)) => RopeScaling::Linear(factor),
        (Some("yarn"), Some(factor)) => {
            let length =
                |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * libm::log(factor) + 1.0 };
            let original = read.uint("rope.scaling.original_context_length");
            let weight = read.float("rope.scaling.yarn_log_multiplier").map(|m| m * 10.0);
            match original.or_else(|| read.uint("context_length")) {
                Some(original) => RopeScaling::Yarn {
                    factor,
                    fast: read.float("rope.scaling.yarn_beta_fast").unwrap_or(32.0),
                    slow: read.float("rope.scaling.yarn_beta_slow").unwrap_or(1.0),
                    original: original as f64,
                    whole: true,
                    magnitude: match weight {
                        // Both factors of the magnitude are the same, and their ratio is 1.
                        Some(_) => 1.0,
                        None => read.float("rope.scaling.yarn_attn_factor").unwrap_or_else(|| length(1.0)),
                    },
                    scores: weight.map_or(1.0, |w| length(w) * length(w)),
                },
                None => RopeScaling::None,
            }
        }
        _ => RopeScaling::None,
    }
}

fn sliding(read: &MetadataReader<'_>, usual: SlidingLayers, layers: usize) -> Result<Sliding> {
    let window = match read.uint("attention.sliding_window") {
        Some(0) | None => None,
        Some(_) => read.size("attention.sliding_window", LIMIT)?,
    };
    let pattern = read.numbers("attention.sliding_window_pattern");
    let layers = match usual {
        _ if !pattern.is_empty() => pattern.iter().map(|&slides| slides != 0).collect(),
        SlidingLayers::All => Vec::from([true]),
        SlidingLayers::Even => (0..layers).map(|layer| layer.is_multiple_of(2)).collect(),
        SlidingLayers::AllBut(n) => super::parts::all_but(n, layers),
        SlidingLayers::Configured => Vec::new(),
    };
    Ok(Sliding { window, layers })
}

fn linear(read: &MetadataReader<'_>) -> Result<Option<Linear>> {
    let size = |key: &str| read.size(key, LIMIT);
    let sizes = (
        size("ssm.group_count")?,
        size("ssm.time_step_rank")?,
        size("ssm.state_size")?,
        size("ssm.inner_size")?,
    );
    let (Some(key_heads), Some(value_heads), Some(key_dim), Some(inner)) = sizes else { return Ok(None) };
    if !value_heads.is_multiple_of(key_heads) || !inner.is_multiple_of(value_heads) {
        return Err(read.wrong("ssm.time_step_rank", "does not divide the sizes of linear attention"));
    }
    read.bounded("ssm.state_size", key_heads, key_dim)?;
    Ok(Some(Linear { key_heads, value_heads, key_dim, value_dim: inner / value_heads }))
}

fn latent(read: &MetadataReader<'_>, heads: usize) -> Result<Option<Latent>> {
    let Some(rank) = read.size("attention.kv_lora_rank", LIMIT)? else { return Ok(None) };
    let rotary_dim = read.needed("rope.dimension_count", LIMIT)?;
    let key = read.needed("attention.key_length_mla", LIMIT)?;
    let value_dim = read.needed("attention.value_length_mla", LIMIT)?;
    let plain_dim = match key.checked_sub(rotary_dim) {
        Some(n) if n > 0 => n,
        _ => return Err(read.wrong("attention.key_length_mla", "is not longer than its rotated part")),
    };
    read.bounded("attention.key_length_mla", heads, key)?;
    read.bounded("attention.value_length_mla", heads, plain_dim + value_dim)?;
    let query_rank = read.size("attention.q_lora_rank", LIMIT)?;
    Ok(Some(Latent { query_rank, rank, plain_dim, rotary_dim, value_dim, interleaved: true }))
}
