//! Keys that depend on the kind of each layer: attention, sliding window, convolution, state space, linear attention.

use super::super::config::hyperparameters::Hyperparameters;
use super::KeyWriter;
use super::base::{ANY_HIDDEN, FEED_FORWARD, KV_HEADS};
use super::rules::{product, share_of};
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// Whether a Granite hybrid has a layer that is not attention.
pub(super) fn has_mamba_layers(hyper: &Hyperparameters) -> bool {
    hyper.layer_types().is_none_or(|t| t.iter().any(|kind| *kind != "attention"))
}

pub(super) fn granite_hybrid(to: &mut KeyWriter) -> Result<()> {
    for (key, from) in [
        ("ssm.conv_kernel", ["mamba_d_conv", "conv_kernel"]),
        ("ssm.state_size", ["mamba_d_state", "state_size"]),
        ("ssm.group_count", ["mamba_n_groups", "n_groups"]),
    ] {
        let n = to.hyper.required(&from)?;
        to.count(key, n);
    }
    let expand = to.hyper.count(&["mamba_expand", "expand"])?.unwrap_or(2);
    let inner = product(expand, to.hyper.required(ANY_HIDDEN)?)?;
    to.count("ssm.inner_size", inner);
    let rank = to.hyper.required(&["mamba_n_heads"])?;
    to.count("ssm.time_step_rank", rank);
    let kv_heads = to.hyper.required(KV_HEADS)?;
    let kinds = kinds_of_layers(to)?;
    let heads: Vec<u32> = kinds.iter().map(|k| if *k == "attention" { kv_heads } else { 0 }).collect();
    to.counts("attention.head_count_kv", heads)?;
    let rotary = match to.hyper.text(&["position_embedding_type"])? {
        Some(kind) => kind == "rope",
        None => !has_mamba_layers(&to.hyper),
    };
    to.flag("rope.scaling.finetuned", rotary);
    if !rotary {
        to.count("context_length", 1 << 20);
    }
    Ok(())
}

/// The kind of every layer.
///
/// # Errors
///
/// [`Code::BadValue`] if `layer_types` is absent, or has another length than there are layers.
fn kinds_of_layers(to: &KeyWriter) -> Result<Vec<String>> {
    let layers = to.hyper.layers()?;
    let kinds = to.hyper.layer_types().filter(|t| t.len() == layers as usize);
    let none = || Error::new(Code::BadValue, format!("\"layer_types\" does not list {layers} layers"));
    Ok(kinds.ok_or_else(none)?.into_iter().map(String::from).collect())
}

pub(super) fn gated_delta(to: &mut KeyWriter) -> Result<()> {
    let value_heads = to.hyper.required(&["linear_num_value_heads"])?;
    let inner = product(to.hyper.required(&["linear_value_head_dim"])?, value_heads)?;
    to.count("ssm.inner_size", inner);
    let every = to.hyper.count(&["full_attention_interval"])?.unwrap_or(4);
    let layers = to.hyper.layers()?;
    let listed = to.hyper.layer_types().filter(|t| t.len() == layers as usize);
    let mut recurrent: Vec<bool> = match listed {
        Some(kinds) => kinds.iter().map(|kind| *kind == "linear_attention").collect(),
        None => (1..=layers).map(|i| i.checked_rem(every).is_some_and(|rest| rest != 0)).collect(),
    };
    recurrent.resize(to.blocks()? as usize, false);
    to.flags("attention.recurrent_layers", &recurrent);
    to.count("full_attention_interval", every);
    let share = to.hyper.rope().real(&["partial_rotary_factor"])?.unwrap_or(0.25);
    let rotated = share_of(to.hyper.head_dim()?, share)?;
    to.count("rope.dimension_count", rotated);
    Ok(())
}

pub(super) fn gemma4(to: &mut KeyWriter) -> Result<()> {
    let kinds = kinds_of_layers(to)?;
    let sliding: Vec<bool> = kinds.iter().map(|kind| kind == "sliding_attention").collect();
    to.flags("attention.sliding_window_pattern", &sliding);
    let own = to.hyper.head_dim()?;
    let global = global_head_dim(&to.hyper, &sliding)?.unwrap_or(own);
    to.count("attention.key_length", global);
    to.count("attention.value_length", global);
    to.count("attention.key_length_swa", own);
    to.count("attention.value_length_swa", own);
    to.count("rope.dimension_count", global);
    to.count("rope.dimension_count_swa", own);
    if let Some(global) = to.hyper.count(&["num_global_key_value_heads"])? {
        let local = to.hyper.required(KV_HEADS)?;
        let heads: Vec<u32> = sliding.iter().map(|s| if *s { local } else { global }).collect();
        to.counts("attention.head_count_kv", heads)?;
    }
    let shared = to.hyper.count(&["num_kv_shared_layers"])?.unwrap_or(0);
    if to.hyper.flag(&["use_double_wide_mlp"])? == Some(true) && shared > 0 {
        let length = to.hyper.required(FEED_FORWARD)?;
        let wide = product(2, length)?;
        let first = sliding.len().saturating_sub(shared as usize);
        to.counts("feed_forward_length", (0..sliding.len()).map(|i| if i < first { length } else { wide }))?;
    }
    Ok(())
}

/// Values of a head of the layers without a window: a key of its own, or that of the first such layer.
fn global_head_dim(hyper: &Hyperparameters, sliding: &[bool]) -> Result<Option<u32>> {
    if let Some(d) = hyper.count(&["global_head_dim"])? {
        return Ok(Some(d));
    }
    let of_layer =
        |layer: usize| hyper.get("per_layer_config")?.get(&*format!("{layer}"))?.get("head_dim")?.as_u64();
    let full = sliding.iter().position(|s| !s).and_then(of_layer);
    Ok(full.and_then(|d| u32::try_from(d).ok()))
}

pub(super) fn window_and_layers(to: &mut KeyWriter) -> Result<()> {
    let Some(window) = to.hyper.count(&["sliding_window"])? else { return Ok(()) };
    to.count("attention.sliding_window", window);
    let sliding: Vec<bool> = match to.hyper.get("sliding_window_pattern") {
        _ if to.hyper.layer_types().is_some() => {
            kinds_of_layers(to)?.iter().map(|kind| kind == "sliding_attention").collect()
        }
        Some(Value::String(letters)) if !letters.is_empty() => {
            let letters = letters.as_bytes();
            let at = |i: u32| letters.get(i as usize % letters.len()) == Some(&b'L');
            (0..to.hyper.layers()?).map(at).collect()
        }
        Some(Value::Number(every)) => {
            let every = every.as_u64().filter(|n| *n > 0).unwrap_or(1);
            (1..=u64::from(to.hyper.layers()?)).map(|i| i % every != 0).collect()
        }
        _ => Vec::new(),
    };
    to.flags("attention.sliding_window_pattern", &sliding);
    Ok(())
}

pub(super) fn lfm2(to: &mut KeyWriter) -> Result<()> {
    let kv_heads = to.hyper.required(KV_HEADS)?;
    let kinds = kinds_of_layers(to)?;
    let heads: Vec<u32> = kinds.iter().map(|k| if k == "full_attention" { kv_heads } else { 0 }).collect();
    to.counts("attention.head_count_kv", heads)?;
    if to.hyper.flag(&["block_auto_adjust_ff_dim"])? != Some(true) {
        return Ok(());
    }
    let two_thirds = u64::from(to.hyper.required(FEED_FORWARD)?) * 2 / 3;
    let multiplier = to.hyper.real(&["block_ffn_dim_multiplier"])?.unwrap_or(1.0);
    let length = share_of(u32::try_from(two_thirds).unwrap_or(u32::MAX), multiplier)?;
    let step = to.hyper.required(&["block_multiple_of"])?.max(1);
    to.count("feed_forward_length", product(length.div_ceil(step), step)?);
    Ok(())
}

pub(super) fn mamba2(to: &mut KeyWriter) -> Result<()> {
    let twice = product(to.hyper.count(&["expand"])?.unwrap_or(2), to.hyper.required(ANY_HIDDEN)?)?;
    let inner = to.hyper.count(&["intermediate_size", "d_inner"])?.unwrap_or(twice);
    let head = to.hyper.count(&["head_dim"])?.unwrap_or(64);
    let none = || Error::new(Code::BadValue, "\"head_dim\" is 0");
    let conv = to.hyper.count(&["conv_kernel", "d_conv"])?.unwrap_or(4);
    to.count("ssm.conv_kernel", conv);
    to.count("ssm.inner_size", inner);
    let state = to.hyper.count(&["state_size", "d_state"])?.unwrap_or(128);
    to.count("ssm.state_size", state);
    to.count("ssm.time_step_rank", inner.checked_div(head).ok_or_else(none)?);
    let groups = to.hyper.count(&["n_groups"])?.unwrap_or(1);
    to.count("ssm.group_count", groups);
    let eps = to.hyper.real(&["layer_norm_epsilon", "rms_norm_eps"])?.unwrap_or(1e-5);
    to.real("attention.layer_norm_rms_epsilon", eps);
    Ok(())
}
