//! Tensors that the converter computes from the configuration: factors of the rotary frequencies.
//!
//! Source: YaRN's `llama3` scaling as in transformers' `modeling_rope_utils.py`; every step in binary32.

use super::config_view::ConfigView;
use super::{GgufTensor, ValueStep};
use crate::model::arch::Arch;
use crate::model::arch::gguf_rules::Generated;
use crate::tensor::Shape;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::Value;

/// Most factors: half of the longest head.
const MAX_FACTORS: u64 = 1 << 16;
/// `global_head_dim` of Gemma 4 where the configuration has none.
const GLOBAL_HEAD_DIM: u64 = 512;

/// The generated tensors, in order.
///
/// # Errors
///
/// A sentence if the configuration lacks or contradicts a number.
pub fn generated(arch: &Arch, config: &ConfigView<'_>) -> Result<Vec<GgufTensor>, String> {
    match arch.gguf_rules.generated {
        Generated::None if llama3(config).is_some() => {
            Err(format!("GGUF files of {} have no place for rope_scaling of the type llama3", arch.name))
        }
        Generated::None => Ok(Vec::new()),
        Generated::RopeFreqs(factor) => rope_freqs(config, factor),
        Generated::RopeFactors => rope_factors(config),
        Generated::PartialRope => partial_rope(config),
    }
}

fn vector(name: &str, values: Vec<f32>) -> Result<GgufTensor, String> {
    let n = values.len() as u64;
    let shape = Shape::new([n]).ok_or("its length does not fit")?;
    let (parts, step) = (Vec::new(), ValueStep::None);
    Ok(GgufTensor { name: name.to_string(), shape, cols: n, parts, step, generated: values })
}

/// The rotary parameters: `rope_parameters`, else `rope_scaling`.
fn scaling<'a>(config: &ConfigView<'a>) -> Option<&'a Value> {
    config.get(&["rope_parameters", "rope_scaling"]).filter(|v| v.is_object())
}

fn number(of: &Value, key: &str) -> Option<f64> {
    of.get(key)?.as_f64()
}

/// The rotary parameters where their type is `llama3`.
fn llama3<'a>(config: &ConfigView<'a>) -> Option<&'a Value> {
    let kind = |rope: &Value| rope.get("rope_type").or_else(|| rope.get("type"))?.as_str().map(String::from);
    scaling(config).filter(|rope| kind(rope).as_deref() == Some("llama3"))
}

/// Factors of `llama3` scaling; none for another one.
fn rope_freqs(config: &ConfigView<'_>, factor: u32) -> Result<Vec<GgufTensor>, String> {
    let Some(rope) = llama3(config) else { return Ok(Vec::new()) };
    let theta = number(rope, "rope_theta");
    let theta = theta.or_else(|| config.get(&["rope_theta"])?.as_f64()).unwrap_or(10000.0);
    let dim = config.head_dim().filter(|d| *d > 0 && *d <= 2 * MAX_FACTORS);
    let dim = dim.ok_or("rope_freqs needs head_dim, or hidden_size and num_attention_heads")?;
    let value = |key, default: f64| number(rope, key).unwrap_or(default);
    let old = value("original_max_position_embeddings", 8192.0);
    let (low, high) = (value("low_freq_factor", 1.0), value("high_freq_factor", 4.0));
    let factor = value("factor", factor.into());
    let one = |i: u64| {
        let exponent = (2 * i) as f32 / dim as f32;
        let freq = 1.0 / (libm::pow(f64::from(theta as f32), exponent.into()) as f32);
        let wave = core::f64::consts::TAU as f32 / freq;
        match f64::from(wave) {
            w if w < old / high => 1.0,
            w if w > old / low => factor as f32,
            _ => {
                let smooth = (old as f32 / wave - low as f32) / (high - low) as f32;
                1.0 / ((1.0 - smooth) / factor as f32 + smooth)
            }
        }
    };
    Ok(Vec::from([vector("rope_freqs.weight", (0..dim / 2).map(one).collect())?]))
}

/// The lists of factors for long and short contexts.
fn rope_factors(config: &ConfigView<'_>) -> Result<Vec<GgufTensor>, String> {
    let Some(rope) = scaling(config) else { return Ok(Vec::new()) };
    let list = |key: &str| rope.get(key).and_then(Value::as_array);
    let (long, short) = match (list("long_factor"), list("short_factor")) {
        (Some(long), Some(short)) => (long, short),
        (None, None) => return Ok(Vec::new()),
        _ => return Err("rope_scaling has only one of long_factor and short_factor".into()),
    };
    let partial = config.get(&["partial_rotary_factor"]).and_then(Value::as_f64).unwrap_or(1.0);
    let dims = config.head_dim().map(|d| (partial * d as f64) as u64);
    let values = |list: &Vec<Value>| -> Result<Vec<f32>, String> {
        if dims.is_some_and(|d| list.len() as u64 != d / 2) {
            return Err("the lists of rope_scaling do not have half as many factors as a head rotates".into());
        }
        let one = |v: &Value| v.as_f64().map(|v| v as f32).ok_or("a rope factor is not a number".to_string());
        list.iter().map(one).collect()
    };
    Ok(Vec::from([
        vector("rope_factors_long.weight", values(long)?)?,
        vector("rope_factors_short.weight", values(short)?)?,
    ]))
}

/// Full-attention layers rotate the first part of a head: the factors of the rest are so large that nothing turns.
fn partial_rope(config: &ConfigView<'_>) -> Result<Vec<GgufTensor>, String> {
    let layers = config.get(&["per_layer_config"]).and_then(Value::as_object);
    let own = |layer: &Value| layer.get("head_dim").and_then(Value::as_u64);
    let of_layers = || layers?.values().filter_map(own).max();
    let dim = config.count(&["global_head_dim"]).or_else(of_layers).unwrap_or(GLOBAL_HEAD_DIM);
    if dim > 2 * MAX_FACTORS {
        return Err(format!("heads of {dim} values are too long"));
    }
    let rope = config.get(&["rope_parameters"]).and_then(|r| r.get("full_attention"));
    let share = rope.and_then(|r| number(r, "partial_rotary_factor")).unwrap_or(1.0);
    let rotated = (dim as f64 * share / 2.0) as u64;
    let values = (0..dim / 2).map(|i| if i < rotated { 1.0 } else { 1e30 }).collect();
    Ok(Vec::from([vector("rope_freqs.weight", values)?]))
}
