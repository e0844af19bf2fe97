//! 8-bit floats with scales beside them: block-scaled FP8 of DeepSeek, compressed-tensors, ModelOpt, FBGEMM, Mistral's own
//! files, and scaled FP8 of ComfyUI.
//!
//! Whatever its name, a scale is what the float is multiplied by: `weight_scale_inv` is the inverse of what the weight was
//! multiplied by when it was quantized.

use super::blocks::scale_blocks;
use super::{UnitedWeight, Uniter};
use crate::dtype::{DType, DTypeKind};
use crate::tensor::TensorInfo;
use crate::tensor::packed::{Layout, Packed};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Bound;

/// What follows the name of a weight in the name of its scale.
const AFTER_NAME: &[&str] = &["_scale_inv", "_scale", "_scales", ".scale", ".scale_inv", "._scale"];

/// What follows the name of a module in the name of its weight's scale.
const IN_MODULE: &[&str] =
    &[".scale", ".scales", ".scale_inv", ".scale_weight", ".weights_scaling_factor", ".qscale_weight"];

/// Last parts of names of scales that belong to a weight.
const OF_WEIGHTS: &[&str] =
    &["weight_scale_inv", "weight_scale", "scale_weight", "weights_scaling_factor", "qscale_weight"];

/// Last parts of names of scales that activations are quantized with, and of ComfyUI's mark.
const OF_ACTIVATIONS: &[&str] = &[
    "input_scale",
    "input_scale_inv",
    "input_scale_ub",
    "input_global_scale",
    "activation_scale",
    "activation_scale_inv",
    "activation_scaling_factor",
    "act_scale",
    "scale_input",
    "qscale_act",
    "output_scale",
    "q_scale",
    "k_scale",
    "v_scale",
    "kv_scale",
    "kv_cache_scaling_factor",
    "prob_scale",
    "scaled_fp8",
];

/// Last parts of names of zero points of activations.
const ZEROS_OF_ACTIVATIONS: &[&str] =
    &["input_zero_point", "output_zero_point", "q_zero_point", "k_zero_point", "v_zero_point"];

/// Ends of such names where a module has several weights.
const ENDS_OF_ACTIVATIONS: &[&str] = &["_input_scale", "_input_scale_inv", "_activation_scale"];

/// Whether a tensor may be codes that have a scale.
pub(super) fn is_codes(tensor: &TensorInfo) -> bool {
    is_float8(tensor) && !last_part(&tensor.name).ends_with("_scale")
}

fn is_float8(tensor: &TensorInfo) -> bool {
    matches!(tensor.dtype, DType::F8_E4M3 | DType::F8_E5M2)
}

pub(super) fn find(uniter: &mut Uniter<'_>) {
    let codes: Vec<_> = uniter.free().filter(|(_, t)| is_codes(t)).collect();
    let mut unscaled = Vec::new();
    for (index, tensor) in &codes {
        let scales: Vec<_> = scales_of(uniter, tensor);
        match *scales {
            [(scale, info)] => unite(uniter, (*index, tensor), (scale, info)),
            [] => unscaled.push(*tensor),
            [(_, first), (_, second), ..] => {
                let why = format!("it has two scales, {} and {}", first.name, second.name);
                scales.iter().for_each(|(scale, _)| uniter.take(*scale));
                uniter.report(tensor, why);
            }
        }
    }
    let declared = matches!(uniter.quantization.method.as_deref(), Some("fp8" | "fbgemm_fp8"));
    if codes.is_empty() || (codes.len() == unscaled.len() && !declared) {
        return;
    }
    for tensor in unscaled.into_iter().filter(|t| t.shape.axes().len() > 1) {
        let last = uniter.quantization.block.map_or("weight_scale", |_| "weight_scale_inv");
        let stem = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        uniter.report(tensor, format!("its scale is missing ({stem}.{last})"));
    }
    for (index, tensor) in uniter.free() {
        if is_of_activations(tensor) {
            uniter.drop(index);
        } else if let Some(why) = stray(uniter, tensor) {
            uniter.report(tensor, why);
        }
    }
}

/// The scales beside the weight `tensor`.
fn scales_of<'a>(uniter: &Uniter<'a>, tensor: &TensorInfo) -> Vec<(usize, &'a TensorInfo)> {
    let name = tensor.name.as_str();
    let after = AFTER_NAME.iter().map(|suffix| format!("{name}{suffix}"));
    let stem = name.strip_suffix(".weight");
    let beside = stem.into_iter().flat_map(|stem| IN_MODULE.iter().map(move |s| format!("{stem}{s}")));
    after.chain(beside).filter_map(|name| uniter.find(&name)).filter(|(_, scale)| !is_float8(scale)).collect()
}

/// Makes one weight of codes and their scale, or reports why they do not fit.
fn unite(
    uniter: &mut Uniter<'_>,
    (index, tensor): (usize, &TensorInfo),
    (scale, info): (usize, &TensorInfo),
) {
    let numbers = matches!(info.dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F8_E8M0 | DType::U8);
    uniter.take(scale);
    if !numbers {
        return uniter.report(info, format!("a scale of {} is not known", info.dtype));
    }
    if tensor.shape.numel() == 0 || tensor.shape.axes().len() < 2 {
        return uniter.report(tensor, "it has a scale, but is no matrix with elements");
    }
    match scale_blocks(tensor.shape.axes(), info.shape.axes(), &uniter.quantization) {
        Err(why) => uniter.report(info, why),
        Ok(blocks) => {
            let parts = Vec::from([tensor.clone(), info.clone()]);
            let layout = Layout::ScaledFloat(blocks);
            let (rows, cols) = (tensor.shape.rows(), tensor.shape.cols());
            let packed = Packed { layout, rows, cols, parts };
            let (name, shape) = (tensor.name.as_str(), tensor.shape.clone());
            uniter.unite(&[index, scale], UnitedWeight { name, dtype: DType::F32, shape }, packed);
        }
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether a tensor is a scale or a zero point that activations are quantized with.
pub(super) fn is_of_activations(tensor: &TensorInfo) -> bool {
    let last = last_part(&tensor.name);
    let named = OF_ACTIVATIONS.contains(&last) || ENDS_OF_ACTIVATIONS.iter().any(|end| last.ends_with(end));
    let zero = ZEROS_OF_ACTIVATIONS.contains(&last);
    zero || (named && tensor.dtype.kind() == DTypeKind::Float)
}

/// Why `tensor`, a scale of a weight by its name, is not needed.
fn stray(uniter: &Uniter<'_>, tensor: &TensorInfo) -> Option<&'static str> {
    let (name, last) = (tensor.name.as_str(), last_part(&tensor.name));
    let stem = if OF_WEIGHTS.contains(&last) {
        name.strip_suffix(last)?.strip_suffix('.')?
    } else {
        name.strip_suffix("_scale_inv")?
    };
    let owner = uniter.find(&format!("{stem}.weight")).or_else(|| uniter.find(stem));
    if let Some((_, owner)) = owner {
        // Integers and 4-bit floats are packed in another format.
        let plain = matches!(owner.dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
        return plain.then_some("it is a scale, and its weight is stored as plain floats");
    }
    let prefix = format!("{stem}.");
    let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    let others = uniter.by_name.range::<str, _>(from).map(|(name, _)| *name);
    let mut others = others.take_while(|n| n.starts_with(&prefix)).filter(|n| *n != name);
    let packed = others.any(|n| !OF_ACTIVATIONS.contains(&last_part(n)) && last_part(n) != "bias");
    (!packed).then_some("it is the scale of a weight that the checkpoint does not have")
}
