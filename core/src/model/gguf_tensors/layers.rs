//! What the tensors of a layer say about each other: the length of the residual stream, and tensors that go together.

use super::GgufTensor;
use super::lengths::{contradictions, split_name};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Tensors whose rows are read from the residual stream.
const READERS: &[&str] = &[
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_q_a",
    "attn_kv_a_mqa",
    "cross_attn_q",
    "cross_attn_k",
    "cross_attn_v",
    "ffn_gate",
    "ffn_up",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_gate_shexp",
    "ffn_up_shexp",
    "ffn_gate_inp",
    "nextn.shared_head_head",
    "output",
];
/// Tensors whose rows write the residual stream.
const WRITERS: &[&str] = &[
    "attn_output",
    "attn_o",
    "cross_attn_o",
    "ffn_down",
    "ffn_down_exps",
    "ffn_down_shexp",
    "nextn.eh_proj",
];
/// Norms of the residual stream.
const NORMS: &[&str] = &[
    "attn_norm",
    "attn_norm_2",
    "attn_output_norm",
    "cross_attn_norm",
    "dec.output_norm",
    "enc.output_norm",
    "ffn_norm",
    "layer_output_norm",
    "nextn.enorm",
    "nextn.hnorm",
    "nextn.shared_head_norm",
    "output_norm",
    "post_attention_norm",
    "post_ffw_norm",
    "token_embd_norm",
];
/// Tensors without which the first one is of no use.
const TOGETHER: &[(&str, &str)] = &[
    ("attn_q", "attn_output"),
    ("attn_qkv", "attn_output"),
    ("attn_k", "attn_q"),
    ("attn_v", "attn_k"),
    ("ffn_gate", "ffn_down"),
    ("ffn_up", "ffn_down"),
    ("ffn_down", "ffn_up"),
    ("ffn_gate_exps", "ffn_down_exps"),
    ("ffn_up_exps", "ffn_down_exps"),
];

/// What contradicts `hidden`, the length of the residual stream, and what is missing beside the tensors of a layer.
pub(super) fn findings(tensors: &[GgufTensor], hidden: Option<u64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut layers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tensor in tensors {
        let (layer, rest) = split_name(&tensor.name);
        let Some(module) = rest.strip_suffix(".weight") else { continue };
        if let Some(layer) = layer.strip_prefix("blk.") {
            layers.entry(layer).or_default().push(module);
        }
        found.extend(hidden.and_then(|hidden| misfit(tensor, module, hidden)));
    }
    for (layer, modules) in layers {
        // Gate and up may be one tensor, which is called up. A linear attention has another output.
        let linear = |with: &str| with == "attn_qkv" && modules.contains(&"ssm_out");
        let lacks = |(with, needed): &&(&str, &str)| {
            modules.contains(with) && !modules.contains(needed) && !linear(with)
        };
        for (with, needed) in TOGETHER.iter().filter(lacks) {
            found.push(format!("layer {layer} has {with} and no {needed}"));
        }
    }
    found.extend(contradictions(tensors));
    found
}

/// The side of a tensor that is not as long as the residual stream.
fn misfit(tensor: &GgufTensor, module: &str, hidden: u64) -> Option<String> {
    let axes = tensor.shape.axes();
    let (last, before) = (axes.last().copied()?, axes.iter().rev().nth(1).copied());
    let (side, length) = match module {
        m if READERS.contains(&m) || NORMS.contains(&m) => ("rows", last),
        m if WRITERS.contains(&m) => ("columns", before?),
        _ => return None,
    };
    let why = || {
        format!("{} has {side} of {length}, and the configuration has a hidden size of {hidden}", tensor.name)
    };
    (length != hidden).then(why)
}
