//! Rotary embedding: bases, stretched contexts, and factors of the frequencies.

use super::draft::Draft;
use super::keys::{ArchKeys, decimal};
use crate::model::arch::gguf_rules::Generated;
use crate::model::gguf_tensors::{ConfigView, computed};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value, json};

/// Names of the base.
pub(super) const THETA: &[&str] = &["rope_theta", "rotary_emb_base"];
const FREQS: &str = "rope_freqs.weight";

/// Bases and scaling.
pub(super) fn rope(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    if draft.candidate.arch.gguf_rules.generated == Generated::PartialRope {
        return by_layer_type(keys, draft);
    }
    let base = keys.real("rope.freq_base").and_then(decimal);
    match dynamic(keys) {
        Some((theta, scaling)) => {
            draft.set("rope_theta", theta);
            draft.set("rope_scaling", scaling);
        }
        None => draft.set_some(draft.pick(THETA), base),
    }
    draft.set_some("rope_local_base_freq", keys.real("rope.freq_base_swa").and_then(decimal));
    let mut scaling = scaling(keys);
    sections(keys, &mut scaling);
    long_and_short(draft, &mut scaling);
    if let Some(beta) = keys.real("attention.temperature_scale").and_then(decimal) {
        scaling.insert("llama_4_scaling_beta".into(), beta);
    }
    let name = if draft.candidate.model_type == "ministral3" { "rope_parameters" } else { "rope_scaling" };
    if !scaling.is_empty() {
        if !scaling.contains_key("rope_type") {
            scaling.insert("rope_type".into(), "default".into());
        }
        draft.set(name, Value::Object(scaling));
    } else if let Some(found) = frequencies(draft) {
        draft.set("rope_scaling", found);
    } else if draft.knows("rope_scaling") {
        draft.set("rope_scaling", Value::Null);
    }
}

/// The keys of `rope.scaling`.
fn scaling(keys: &ArchKeys<'_>) -> Map<String, Value> {
    let mut scaling = Map::new();
    let Some(kind) = keys.text("rope.scaling.type").filter(|k| matches!(*k, "linear" | "yarn" | "longrope"))
    else {
        return scaling;
    };
    for name in ["rope_type", "type"] {
        scaling.insert(name.into(), kind.into());
    }
    for (name, key) in [
        ("factor", "factor"),
        ("extrapolation_factor", "yarn_ext_factor"),
        ("attention_factor", "yarn_attn_factor"),
        ("beta_fast", "yarn_beta_fast"),
        ("beta_slow", "yarn_beta_slow"),
    ] {
        let value = keys.real(&alloc::format!("rope.scaling.{key}")).and_then(decimal);
        scaling.extend(value.map(|v| (name.to_string(), v)));
    }
    if kind == "yarn" {
        let original = keys.uint("rope.scaling.original_context_length");
        scaling.extend(original.map(|n| ("original_max_position_embeddings".to_string(), n.into())));
        let latent = keys.uint("attention.key_length_mla").is_some();
        let multiplier = keys.real("rope.scaling.yarn_log_multiplier");
        if let Some(mscale) = multiplier.and_then(|m| mscale(m, if latent { 0.1 } else { 1.0 })) {
            scaling.insert("mscale".into(), mscale.clone());
            scaling.insert("mscale_all_dim".into(), mscale);
        }
    }
    scaling
}

/// The number that `times` it is `multiplier`.
fn mscale(multiplier: f32, times: f64) -> Option<Value> {
    let short = decimal((f64::from(multiplier) / times) as f32)?;
    let exact = short.as_f64().is_some_and(|m| (times * m) as f32 == multiplier);
    if exact { Some(short) } else { Some(json!(f64::from(multiplier) / times)) }
}

fn sections(keys: &ArchKeys<'_>, scaling: &mut Map<String, Value>) {
    let Some(mut sections) = keys.counts("rope.dimension_sections") else { return };
    while sections.len() > 3 && sections.last() == Some(&0) {
        sections.pop();
    }
    scaling.insert("mrope_section".into(), json!(sections));
}

/// Phi-3's lists of factors, which stand as tensors in the file.
fn long_and_short(draft: &Draft<'_>, scaling: &mut Map<String, Value>) {
    for (name, tensor) in
        [("long_factor", "rope_factors_long.weight"), ("short_factor", "rope_factors_short.weight")]
    {
        let values = draft.facts.computed.get(tensor);
        let list: Option<Vec<Value>> = values.and_then(|v| v.iter().map(|x| decimal(*x)).collect());
        scaling.extend(list.map(|list| (name.to_string(), Value::Array(list))));
    }
    if scaling.contains_key("long_factor") {
        scaling.entry("rope_type").or_insert("longrope".into());
        scaling.entry("type").or_insert("longrope".into());
    }
}

/// Hunyuan's base, which its converter computes from an alpha.
fn dynamic(keys: &ArchKeys<'_>) -> Option<(Value, Value)> {
    let unscaled =
        keys.text("rope.scaling.type") == Some("none") && keys.real("rope.scaling.factor") == Some(1.0);
    let (base, d) = (keys.real("rope.freq_base").filter(|_| unscaled)?, keys.head_dim()? as f64);
    let made = |alpha: f64| (10_000.0 * libm::pow(alpha, d / (d - 2.0))) as f32 == base;
    let alpha = libm::pow(f64::from(base) / 10_000.0, (d - 2.0) / d);
    let alpha = [libm::round(alpha), alpha].into_iter().find(|a| made(*a))?;
    Some((json!(10_000.0), json!({"type": "dynamic", "rope_type": "dynamic", "alpha": alpha, "factor": 1.0})))
}

/// Llama 3's scaling, from the factors that its converter computes.
fn frequencies(draft: &Draft<'_>) -> Option<Value> {
    let values = draft.facts.computed.get(FREQS)?;
    let largest = values.iter().copied().filter(|v| v.is_finite()).fold(1.0, f32::max);
    for (low, high) in [(1.0, 4.0), (1.0, 1.0), (1.0, 2.0), (1.0, 8.0), (0.5, 4.0), (2.0, 4.0)] {
        for original in (0..8).map(|i| 8192_u64 << i).chain((1..=5).map(|i| 8192 >> i)) {
            let scaling = json!({
                "rope_type": "llama3", "factor": decimal(largest)?, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": original,
            });
            let mut config = draft.value();
            config.as_object_mut()?.insert("rope_scaling".into(), scaling.clone());
            let config = with_heads(draft, config);
            let made = computed(draft.candidate.arch, &ConfigView::new(&config)).unwrap_or_default();
            let equal = |t: &crate::model::gguf_tensors::GgufTensor| {
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                t.name == FREQS && bits(&t.generated) == bits(values)
            };
            if made.iter().any(equal) {
                return Some(scaling);
            }
        }
    }
    None
}

/// The configuration with the sizes that the factors depend on.
fn with_heads(draft: &Draft<'_>, mut config: Value) -> Value {
    let keys = ArchKeys::new(draft.facts.metadata);
    let sizes = [
        ("head_dim", keys.head_dim()),
        ("hidden_size", keys.uint("embedding_length")),
        ("num_attention_heads", keys.uint("attention.head_count")),
    ];
    if let Some(map) = config.as_object_mut() {
        map.extend(sizes.into_iter().filter_map(|(name, n)| Some((name.to_string(), n?.into()))));
    }
    config
}

/// Gemma 4: parameters of layers with full attention, and of those with a window.
fn by_layer_type(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let mut full = Map::new();
    full.insert("rope_type".into(), "proportional".into());
    full.extend(keys.real("rope.freq_base").and_then(decimal).map(|v| ("rope_theta".to_string(), v)));
    if let Some(values) = draft.facts.computed.get(FREQS).filter(|v| !v.is_empty()) {
        let rotated = values.iter().take_while(|v| **v == 1.0).count();
        full.insert("partial_rotary_factor".into(), json!(rotated as f64 / values.len() as f64));
    }
    let mut sliding = Map::new();
    sliding.insert("rope_type".into(), "default".into());
    sliding.extend(keys.real("rope.freq_base_swa").and_then(decimal).map(|v| ("rope_theta".to_string(), v)));
    draft.set("rope_parameters", json!({"full_attention": full, "sliding_attention": sliding}));
}
