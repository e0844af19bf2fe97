//! The keys that nearly every architecture begins with.

use super::super::config::hyperparameters::{HEADS, HIDDEN};
use super::KeyRule::{self, Blocks, Computed, Count, FileType, Real};
use super::KeyWriter;
use super::scaling;
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// The keys of the longest context.
pub(super) const CONTEXT: &[&str] = &[
    "max_position_embeddings",
    "n_ctx",
    "n_positions",
    "max_length",
    "max_sequence_length",
    "model_max_length",
];
/// The keys of the length of the feed-forward part.
pub(super) const FEED_FORWARD: &[&str] = &[
    "prefix_dense_intermediate_size",
    "dense_intermediate_size",
    "intermediate_size",
    "n_inner",
    "hidden_dim",
];
/// The keys of the number of key-value heads.
pub(super) const KV_HEADS: &[&str] = &["num_key_value_heads", "n_kv_heads"];
/// The keys of the epsilon of norms that subtract the mean.
pub(super) const LAYER_NORM_EPS: &[&str] = &["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"];

/// The common keys, in order.
pub const BASE: &[KeyRule] = &[
    Blocks,
    Count("context_length", CONTEXT),
    Count("embedding_length", HIDDEN_OR_DIM),
    Count("feed_forward_length", FEED_FORWARD),
    Count("attention.head_count", &["num_attention_heads", "n_head", "n_heads"]),
    Count("attention.head_count_kv", KV_HEADS),
    Computed(causal),
    Computed(scaling::scaling),
    Computed(sections),
    Computed(frequencies),
    Real("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "norm_eps"]),
    Real("attention.layer_norm_epsilon", LAYER_NORM_EPS),
    Count("expert_count", &["num_local_experts", "num_experts", "n_routed_experts"]),
    Count("expert_used_count", &["num_experts_per_tok", "num_experts_per_token", "top_k_experts"]),
    Count("expert_group_count", &["n_group"]),
    Count("expert_group_used_count", &["topk_group"]),
    Computed(gating),
    Count("attention.key_length", &["head_dim"]),
    Count("attention.value_length", &["head_dim"]),
    FileType,
];

const HIDDEN_OR_DIM: &[&str] = &["hidden_size", "n_embd", "dim"];
/// What the lists of single architectures take sizes from.
pub(super) const ANY_HIDDEN: &[&str] = HIDDEN;
/// Likewise for heads.
pub(super) const ANY_HEADS: &[&str] = HEADS;

/// Only a model that looks both ways says so.
fn causal(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.flag(&["is_causal"])? == Some(false) {
        to.flag("attention.causal", false);
    }
    Ok(())
}

/// The sections of rotary embedding in several dimensions, padded to four.
fn sections(to: &mut KeyWriter) -> Result<()> {
    let Some(sections) = to.hyper.rope().full.get("mrope_section").and_then(Value::as_array) else {
        return Ok(());
    };
    let counts: Option<Vec<u32>> =
        sections.iter().map(|v| v.as_u64().and_then(|n| u32::try_from(n).ok())).collect();
    let Some(mut counts) = counts.filter(|c| c.len() <= 4) else {
        return Err(Error::new(Code::BadValue, "\"mrope_section\" is not a list of up to 4 integers"));
    };
    counts.resize(4, 0);
    to.counts("rope.dimension_sections", counts)
}

/// The bases of rotary embedding.
fn frequencies(to: &mut KeyWriter) -> Result<()> {
    if let Some(theta) = to.hyper.rope().real(&["rope_theta"])? {
        to.real("rope.freq_base", theta);
    }
    let sliding = to.hyper.rope().sliding.and_then(|s| s.get("rope_theta")).and_then(Value::as_f64);
    if let Some(theta) = sliding {
        to.real("rope.freq_base_swa", theta);
    }
    Ok(())
}

const GATING: &[&str] = &[
    "score_function",
    "scoring_func",
    "score_func",
    "moe_router_activation",
    "moe_router_activation_func",
    "expert_selection_fn",
];

/// How the scores of experts become weights.
fn gating(to: &mut KeyWriter) -> Result<()> {
    let function = match to.hyper.text(GATING)? {
        None => return Ok(()),
        Some("softmax") => 1,
        Some("sigmoid") => 2,
        Some("sqrtsoftplus") => 4,
        Some(other) => {
            let message = format!("the experts' scoring function {other:?} has no number in a GGUF");
            return Err(Error::new(Code::BadValue, message));
        }
    };
    to.count("expert_gating_func", function);
    Ok(())
}
