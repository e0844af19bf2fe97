//! The names of an unknown architecture: what most decoders call their tensors.

use super::llama_like::LLAMA_LIKE;
use super::module::Module as M;
use super::row::{ANY_FOLDER, TensorMapRow, root, within};
use super::{Arch, Prefix};
use crate::model::tensor_id::TensorPart::Weight;
use crate::model::tokenizer::rules as tokenizer;

const fn any(module: M, tail: &'static str) -> TensorMapRow {
    within(ANY_FOLDER, module, tail)
}

const ENDS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embed_tokens"),
    root(M::TokenEmbd, "wte"),
    root(M::TokenEmbd, "word_embeddings"),
    root(M::TokenEmbd, "embed_in"),
    root(M::PerLayerTokenEmbd, "embed_tokens_per_layer"),
    root(M::OutputNorm, "norm"),
    root(M::OutputNorm, "ln_f"),
    root(M::OutputNorm, "final_layer_norm"),
    root(M::Output, "lm_head"),
    root(M::Output, "embed_out"),
];

const ATTENTION: &[TensorMapRow] = &[
    any(M::AttnNorm, "input_layernorm"),
    any(M::AttnQ, "self_attn.q_proj"),
    any(M::AttnK, "self_attn.k_proj"),
    any(M::AttnV, "self_attn.v_proj"),
    any(M::AttnQkv, "self_attn.qkv_proj"),
    any(M::AttnQkv, "self_attention.query_key_value"),
    any(M::AttnQkv, "attention.query_key_value"),
    any(M::AttnOutput, "self_attn.o_proj"),
    any(M::AttnOutput, "self_attn.dense"),
    any(M::AttnOutput, "self_attention.dense"),
    any(M::AttnOutput, "attention.dense"),
    any(M::AttnQNorm, "self_attn.q_norm"),
    any(M::AttnKNorm, "self_attn.k_norm"),
    any(M::AttnQA, "self_attn.q_a_proj"),
    any(M::AttnQB, "self_attn.q_b_proj"),
    any(M::AttnKvA, "self_attn.kv_a_proj_with_mqa"),
];

const FEED_FORWARD: &[TensorMapRow] = &[
    any(M::FfnNorm, "post_attention_layernorm"),
    any(M::FfnGate, "mlp.gate_proj"),
    any(M::FfnUp, "mlp.up_proj"),
    any(M::FfnDown, "mlp.down_proj"),
    any(M::FfnUp, "mlp.gate_up_proj"),
    any(M::FfnUp, "mlp.dense_h_to_4h"),
    any(M::FfnDown, "mlp.dense_4h_to_h"),
    any(M::FfnGate, "feed_forward.gate_proj"),
    any(M::FfnUp, "feed_forward.up_proj"),
    any(M::FfnDown, "feed_forward.down_proj"),
];

const SHARED: &[TensorMapRow] = &[
    any(M::FfnGateInp, "mlp.gate"),
    any(M::FfnGateInp, "block_sparse_moe.gate"),
    any(M::FfnGateInp, "feed_forward.router"),
    any(M::FfnGateInpShexp, "mlp.shared_expert_gate"),
    any(M::FfnGateShexp, "mlp.shared_expert.gate_proj"),
    any(M::FfnUpShexp, "mlp.shared_expert.up_proj"),
    any(M::FfnDownShexp, "mlp.shared_expert.down_proj"),
    any(M::FfnGateShexp, "mlp.shared_experts.gate_proj"),
    any(M::FfnUpShexp, "mlp.shared_experts.up_proj"),
    any(M::FfnDownShexp, "mlp.shared_experts.down_proj"),
    any(M::FfnGateShexp, "feed_forward.shared_expert.gate_proj"),
    any(M::FfnUpShexp, "feed_forward.shared_expert.up_proj"),
    any(M::FfnDownShexp, "feed_forward.shared_expert.down_proj"),
];

/// The experts of a layer under one path: one by one, and stacked with and without `.weight`.
macro_rules! experts {
    ($path:literal) => {
        &[
            any(M::FfnGateExps, concat!($path, ".experts.{expert}.gate_proj")),
            any(M::FfnUpExps, concat!($path, ".experts.{expert}.up_proj")),
            any(M::FfnDownExps, concat!($path, ".experts.{expert}.down_proj")),
            any(M::FfnGateUpExps, concat!($path, ".experts.{expert}.gate_up_proj")),
            any(M::FfnGateExps, concat!($path, ".experts.{expert}.w1")),
            any(M::FfnUpExps, concat!($path, ".experts.{expert}.w3")),
            any(M::FfnDownExps, concat!($path, ".experts.{expert}.w2")),
            any(M::FfnGateUpExps, concat!($path, ".experts.gate_up_proj")).tensor(Weight),
            any(M::FfnDownExps, concat!($path, ".experts.down_proj")).tensor(Weight),
            any(M::FfnGateUpExps, concat!($path, ".experts.gate_up_proj")),
            any(M::FfnGateExps, concat!($path, ".experts.gate_proj")),
            any(M::FfnUpExps, concat!($path, ".experts.up_proj")),
            any(M::FfnDownExps, concat!($path, ".experts.down_proj")),
        ]
    };
}

const MLP_EXPERTS: &[TensorMapRow] = experts!("mlp");
const BLOCK_SPARSE_EXPERTS: &[TensorMapRow] = experts!("block_sparse_moe");
const FEED_FORWARD_EXPERTS: &[TensorMapRow] = experts!("feed_forward");

const fn both(prefix: &'static str) -> Prefix {
    Prefix { decoder: prefix, head: prefix }
}

/// An unknown architecture.
pub const GENERIC: Arch = Arch {
    tokenizer: tokenizer::BPE,
    name: "unknown",
    model_types: &[],
    prefixes: &[
        both("model."),
        both("model.language_model."),
        both("language_model.model."),
        both("language_model."),
        both("transformer."),
        both("gpt_neox."),
        both(""),
    ],
    tensors: &[
        ENDS,
        ATTENTION,
        FEED_FORWARD,
        SHARED,
        MLP_EXPERTS,
        BLOCK_SPARSE_EXPERTS,
        FEED_FORWARD_EXPERTS,
    ],
    rotation: None,
    forward: None,
    ..LLAMA_LIKE
};
