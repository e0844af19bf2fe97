//! Keys that single architectures compute from several values of the configuration.

use super::KeyWriter;
use super::base::{ANY_HEADS, ANY_HIDDEN};
use super::rules::{product, share_of};
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

pub(super) fn non_zero(to: &mut KeyWriter, key: &str, from: &str) -> Result<()> {
    if let Some(x) = to.hyper.real(&[from])?.filter(|x| *x != 0.0) {
        to.real(key, x);
    }
    Ok(())
}

pub(super) fn rotated_head(to: &mut KeyWriter) -> Result<()> {
    let d = to.hyper.head_dim()?;
    to.count("rope.dimension_count", d);
    Ok(())
}

/// The rotated share of the stream, divided by the number of heads.
pub(super) fn rotated_stream(to: &mut KeyWriter, key: &str, usual: f64) -> Result<()> {
    let share = to.hyper.real(&["partial_rotary_factor"])?.unwrap_or(usual);
    let rotated = share_of(to.hyper.required(ANY_HIDDEN)?, share)?.checked_div(to.hyper.required(ANY_HEADS)?);
    let none = || Error::new(Code::BadValue, "the configuration has no attention heads");
    to.count(key, rotated.ok_or_else(none)?);
    Ok(())
}

/// The rotated share of a head, which has its share of the stream.
pub(super) fn rotated_share(to: &mut KeyWriter, from: &[&str], usual: f64) -> Result<()> {
    let share = to.hyper.real(from)?.unwrap_or(usual);
    let rotated = share_of(to.hyper.share_of_a_head()?, share)?;
    to.count("rope.dimension_count", rotated);
    Ok(())
}

pub(super) fn share_of_stream(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.count(&["head_dim"])?.is_none() {
        let d = to.hyper.head_dim()?;
        to.count("attention.key_length", d);
        to.count("attention.value_length", d);
    }
    Ok(())
}

pub(super) fn minicpm(to: &mut KeyWriter) -> Result<()> {
    let needed = |key: &'static str| -> Result<f64> {
        let missing = || Error::new(Code::BadValue, format!("the configuration has no {key}"));
        to.hyper.real(&[key])?.ok_or_else(missing)
    };
    let (embedding, depth, base) = (needed("scale_emb")?, needed("scale_depth")?, needed("dim_model_base")?);
    let layers = to.hyper.required(&["num_hidden_layers"])?;
    let hidden = to.hyper.required(ANY_HIDDEN)?;
    to.real("embedding_scale", embedding);
    to.real("residual_scale", depth / libm::sqrt(layers as f64));
    to.real("logit_scale", hidden as f64 / base);
    Ok(())
}

pub(super) fn glm_rotated(to: &mut KeyWriter) -> Result<()> {
    let share = to.hyper.rope().real(&["partial_rotary_factor"])?.unwrap_or(0.5);
    let rotated = share_of(to.hyper.head_dim()?, share)?;
    to.count("rope.dimension_count", rotated);
    Ok(())
}

pub(super) fn freq_base(to: &mut KeyWriter) -> Result<()> {
    if let Some(theta) = to.hyper.rope().real(&["rope_theta"])? {
        to.real("rope.freq_base", theta);
    }
    Ok(())
}

pub(super) fn four_times(to: &mut KeyWriter) -> Result<()> {
    let length = product(4, to.hyper.required(ANY_HIDDEN)?)?;
    to.count("feed_forward_length", length);
    Ok(())
}

pub(super) fn unless_all_full(to: &mut KeyWriter) -> Result<()> {
    let full = to.hyper.layer_types().is_some_and(|t| t.iter().all(|kind| *kind == "full_attention"));
    if full {
        to.count("attention.sliding_window", 0);
    }
    Ok(())
}

pub(super) fn ministral(to: &mut KeyWriter) -> Result<()> {
    log_multiplier(to, 1.0)?;
    if let Some(beta) = to.hyper.rope().real(&["llama_4_scaling_beta"])? {
        to.real("attention.temperature_scale", beta);
    }
    Ok(())
}

pub(super) fn log_multiplier(to: &mut KeyWriter, times: f64) -> Result<()> {
    let rope = to.hyper.rope();
    let mscale = if rope.kind() == "yarn" { rope.real(&["mscale_all_dim"])? } else { None };
    if let Some(mscale) = mscale {
        to.real("rope.scaling.yarn_log_multiplier", times * mscale);
    }
    Ok(())
}

pub(super) fn mistral_format(to: &mut KeyWriter) -> Result<()> {
    let yarn = to.hyper.get("yarn").cloned();
    let llama4 = to.hyper.get("llama_4_scaling").cloned();
    let number = |of: &Value, key: &str| {
        let missing = || Error::new(Code::BadValue, format!("params.json lacks the number {key:?}"));
        of.get(key).and_then(Value::as_f64).ok_or_else(missing)
    };
    if let Some(yarn) = yarn {
        to.text("rope.scaling.type", "yarn");
        to.real("rope.scaling.factor", number(&yarn, "factor")?);
        to.real("rope.scaling.yarn_beta_fast", number(&yarn, "beta")?);
        to.real("rope.scaling.yarn_beta_slow", number(&yarn, "alpha")?);
        let scaled = yarn.get("apply_scale").and_then(Value::as_bool).unwrap_or(false);
        to.real("rope.scaling.yarn_log_multiplier", if scaled { 0.0 } else { 1.0 });
        let original = yarn.get("original_max_position_embeddings").and_then(Value::as_u64);
        let none = || Error::new(Code::BadValue, "params.json lacks \"original_max_position_embeddings\"");
        let original = original.and_then(|n| u32::try_from(n).ok()).ok_or_else(none)?;
        to.count("rope.scaling.original_context_length", original);
    }
    if let Some(llama4) = llama4 {
        to.real("attention.temperature_scale", number(&llama4, "beta")?);
    }
    Ok(())
}

pub(super) fn forget_head_dim(to: &mut KeyWriter) -> Result<()> {
    to.hyper.assume("head_dim", Value::Null);
    Ok(())
}

pub(super) fn shared_length(to: &mut KeyWriter) -> Result<()> {
    if let Some(length) = to.hyper.count(&["shared_intermediate_size"])?.filter(|n| *n > 0) {
        to.count("expert_shared_feed_forward_length", length);
    }
    Ok(())
}

pub(super) fn predictor(to: &mut KeyWriter) -> Result<()> {
    if to.facts.mtp_blocks > 0 {
        to.count("nextn_predict_layers", to.facts.mtp_blocks);
    }
    Ok(())
}

pub(super) fn glm_predictor(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.get("num_nextn_predict_layers").is_some() && !to.facts.no_mtp {
        to.count("nextn_predict_layers", to.facts.mtp_blocks);
    }
    Ok(())
}

pub(super) fn usual_sections(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.rope().full.contains_key("mrope_section") {
        return Ok(());
    }
    to.counts("rope.dimension_sections", [11, 11, 10, 0])
}

pub(super) fn deepstack(to: &mut KeyWriter) -> Result<()> {
    let vision = to.hyper.get("vision_config").and_then(|v| v.get("deepstack_visual_indexes"));
    let layers = vision.and_then(Value::as_array).map_or(0, Vec::len);
    to.count("n_deepstack_layers", u32::try_from(layers).unwrap_or(u32::MAX));
    Ok(())
}

pub(super) fn gemma3_defaults(to: &mut KeyWriter) -> Result<()> {
    for (key, value) in [
        ("max_position_embeddings", Value::from(131_072)),
        ("num_attention_heads", Value::from(8)),
        ("num_key_value_heads", Value::from(4)),
        ("head_dim", Value::from(256)),
        ("rms_norm_eps", Value::from(1e-6)),
    ] {
        if !to.hyper.values().contains_key(key) {
            to.hyper.assume(key, value);
        }
    }
    Ok(())
}

pub(super) fn gemma3_window(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.get("sliding_window_pattern").and_then(Value::as_u64) == Some(1) {
        return Ok(());
    }
    if let Some(window) = to.hyper.count(&["sliding_window"])? {
        to.count("attention.sliding_window", window);
    }
    Ok(())
}

pub(super) fn longest_context(to: &mut KeyWriter) -> Result<()> {
    if let Some(context) = to.hyper.count(&["model_max_length"])? {
        to.hyper.assume("max_position_embeddings", context);
    }
    Ok(())
}

pub(super) fn one_kv_head(to: &mut KeyWriter) -> Result<()> {
    to.hyper.assume("num_key_value_heads", 1);
    Ok(())
}

pub(super) fn latent(to: &mut KeyWriter) -> Result<()> {
    let rank = to.hyper.count(&["kv_lora_rank"])?.unwrap_or(512);
    let (rotated, plain) =
        (to.hyper.required(&["qk_rope_head_dim"])?, to.hyper.required(&["qk_nope_head_dim"])?);
    let sum = |a: u32, b: u32| {
        a.checked_add(b).ok_or_else(|| Error::new(Code::BadValue, "the length of a key exceeds 32 bits"))
    };
    to.count("attention.kv_lora_rank", rank);
    to.count("attention.key_length", sum(rank, rotated)?);
    to.count("attention.value_length", rank);
    to.count("attention.key_length_mla", sum(plain, rotated)?);
    let values = to.hyper.required(&["v_head_dim"])?;
    to.count("attention.value_length_mla", values);
    Ok(())
}

pub(super) fn normalised_experts(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.flag(&["norm_topk_prob"])? == Some(true) {
        to.flag("expert_weights_norm", true);
    }
    Ok(())
}

pub(super) fn hunyuan(to: &mut KeyWriter) -> Result<()> {
    const LONG: u32 = 1 << 18;
    let rope = to.hyper.rope();
    if rope.kind() != "dynamic" {
        return Ok(());
    }
    let Some(alpha) = rope.real(&["alpha"])? else { return Ok(()) };
    let base = rope.real(&["rope_theta"])?.unwrap_or(10_000.0);
    let d = f64::from(to.hyper.head_dim()?);
    to.real("rope.freq_base", base * libm::pow(alpha, d / (d - 2.0)));
    to.text("rope.scaling.type", "none");
    to.real("rope.scaling.factor", 1.0);
    to.count("rope.scaling.original_context_length", LONG);
    to.count("context_length", LONG);
    Ok(())
}

pub(super) fn ernie_shared(to: &mut KeyWriter) -> Result<()> {
    let Some(shared) = to.hyper.count(&["moe_num_shared_experts"])? else { return Ok(()) };
    to.count("expert_shared_count", shared);
    let length = to.hyper.count(&["intermediate_size"])?.zip(to.hyper.count(&["num_key_value_heads"])?);
    if let Some(length) = length.filter(|_| shared > 0).and_then(|(a, b)| a.checked_div(b)) {
        to.count("expert_shared_feed_forward_length", length);
    }
    Ok(())
}

/// One shared head of keys and values is not among the keys of the configuration.
pub(super) fn falcon_kv_heads(to: &mut KeyWriter) -> Result<()> {
    let flag = |key: &str| to.hyper.flag(&[key]).map(|f| f == Some(true));
    let one = flag("multi_query")? && !flag("new_decoder_architecture")?;
    let heads = if one { 1 } else { to.hyper.count(&["num_kv_heads", "n_head_kv"])?.unwrap_or(1) };
    to.count("attention.head_count_kv", heads);
    Ok(())
}

pub(super) fn nemotron_scaling(to: &mut KeyWriter) -> Result<()> {
    let factor = match to.hyper.get("rope_scaling") {
        None => None,
        Some(_) => to.hyper.rope().real(&["factor"])?,
    };
    match factor {
        None => to.text("rope.scaling.type", "none"),
        Some(factor) => {
            to.text("rope.scaling.type", "linear");
            to.real("rope.scaling.factor", factor);
        }
    }
    Ok(())
}
