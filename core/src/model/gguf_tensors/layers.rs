//! What the tensors of a layer say about each other: the length of the residual stream, and tensors that go together.

use super::GgufTensor;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Tensors whose rows are read from the residual stream.
const READERS: &[&str] =
    &["attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_gate", "ffn_up", "ffn_gate_exps", "ffn_up_exps"];
/// Tensors whose rows write the residual stream.
const WRITERS: &[&str] = &["attn_output", "ffn_down", "ffn_down_exps"];
/// Norms of the residual stream.
const NORMS: &[&str] = &["attn_norm", "ffn_norm"];
/// Tensors without which the first one is of no use.
const TOGETHER: &[(&str, &str)] = &[
    ("attn_q", "attn_output"),
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
        let Some((layer, rest)) = tensor.name.strip_prefix("blk.").and_then(|n| n.split_once('.')) else {
            continue;
        };
        let Some(module) = rest.strip_suffix(".weight") else { continue };
        layers.entry(layer).or_default().push(module);
        found.extend(hidden.and_then(|hidden| misfit(tensor, module, hidden)));
    }
    for (layer, modules) in layers {
        // Fused queries are not listed: layers of linear attention have them without an output of attention.
        let lacks = |(with, needed): &&(&str, &str)| modules.contains(with) && !modules.contains(needed);
        for (with, needed) in TOGETHER.iter().filter(lacks) {
            found.push(format!("layer {layer} has {with} and no {needed}"));
        }
    }
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
