//! Architectures with Llama's stream and mixtures of experts, stored one by one or, in newer files, in stacks.

use super::gguf_rules::{self, BeyondRule, GgufRules};
use super::llama_like::{
    ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LLAMA, LLAMA_LIKE, NORMS, POST_NORMS, ROTATION,
};
use super::mlx_names::{self, MlxHead, MlxNames};
use super::module::Module as M;
use super::row::{TensorMapRow, layer};
use super::{Arch, ConfigDefaults, GgufValues, MtpLocation, RotationFacts, SlidingLayers, ValueLayout};
use crate::model::forward::spec::{
    ATTENTION as PLAIN_ATTENTION, Attention, EXPERTS as PLAIN_EXPERTS, ForwardSpec, MoeSpec, NORMED, PLAIN,
    Rotary, RouterScores, SharedExpert, WITH_SHARED,
};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tensor_id::TensorPart::{Bias, Weight};
use crate::model::tokenizer::rules as tokenizer;

/// A router and experts under `mlp`. Stacks are `[experts, 2 inner, hidden]` and `[experts, hidden, inner]`.
pub(super) const EXPERTS: &[TensorMapRow] = &[
    layer(M::FfnGateInp, "mlp.gate"),
    layer(M::FfnGateExps, "mlp.experts.{expert}.gate_proj"),
    layer(M::FfnUpExps, "mlp.experts.{expert}.up_proj"),
    layer(M::FfnDownExps, "mlp.experts.{expert}.down_proj"),
    layer(M::FfnGateUpExps, "mlp.experts.gate_up_proj").tensor(Weight).along(2),
    layer(M::FfnDownExps, "mlp.experts.down_proj").tensor(Weight).along(1),
];

/// The expert of every token, and its gate.
pub(super) const SHARED_EXPERT: &[TensorMapRow] = &[
    layer(M::FfnGateShexp, "mlp.shared_expert.gate_proj"),
    layer(M::FfnUpShexp, "mlp.shared_expert.up_proj"),
    layer(M::FfnDownShexp, "mlp.shared_expert.down_proj"),
    layer(M::FfnGateInpShexp, "mlp.shared_expert_gate"),
];

/// DeepSeek's experts of every token; the correction of the scores is one number per expert.
pub(super) const SHARED_EXPERTS: &[TensorMapRow] = &[
    layer(M::FfnGateShexp, "mlp.shared_experts.gate_proj"),
    layer(M::FfnUpShexp, "mlp.shared_experts.up_proj"),
    layer(M::FfnDownShexp, "mlp.shared_experts.down_proj"),
    layer(M::ExpProbsB, "mlp.gate.e_score_correction_bias").tensor(Bias),
];

/// Mixtral's router and experts.
pub(super) const BLOCK_SPARSE_ROWS: &[TensorMapRow] = &[
    layer(M::FfnGateInp, "block_sparse_moe.gate"),
    layer(M::FfnGateExps, "block_sparse_moe.experts.{expert}.w1"),
    layer(M::FfnUpExps, "block_sparse_moe.experts.{expert}.w3"),
    layer(M::FfnDownExps, "block_sparse_moe.experts.{expert}.w2"),
    layer(M::ExpProbsB, "block_sparse_moe.e_score_correction_bias").tensor(Bias),
    layer(M::ExpProbsB, "mlp.e_score_correction_bias").tensor(Bias),
];

/// Stacks are transposed: `[experts, hidden, 2 inner]` and `[experts, inner, hidden]`.
const GPT_OSS_ROWS: &[TensorMapRow] = &[
    layer(M::FfnGateInp, "mlp.router"),
    layer(M::FfnGateUpExps, "mlp.experts.gate_up_proj").tensor(Weight).along(1),
    layer(M::FfnDownExps, "mlp.experts.down_proj").tensor(Weight).along(2),
    layer(M::AttnSinks, "self_attn.sinks").tensor(Weight),
];

/// Stacks of experts as a GGUF has them.
const GGUF_STACKS: &[TensorMapRow] = &[
    layer(M::FfnGateExps, "mlp.experts.gate_proj").tensor(Weight),
    layer(M::FfnUpExps, "mlp.experts.up_proj").tensor(Weight),
    layer(M::FfnDownExps, "mlp.experts.down_proj").tensor(Weight),
];

const LLAMA4_ROWS: &[TensorMapRow] = &[
    layer(M::FfnGate, "feed_forward.gate_proj"),
    layer(M::FfnUp, "feed_forward.up_proj"),
    layer(M::FfnDown, "feed_forward.down_proj"),
    layer(M::FfnGateInp, "feed_forward.router"),
    layer(M::FfnGateUpExps, "feed_forward.experts.gate_up_proj").tensor(Weight).along(1),
    layer(M::FfnDownExps, "feed_forward.experts.down_proj").tensor(Weight).along(2),
    layer(M::FfnGateShexp, "feed_forward.shared_expert.gate_proj"),
    layer(M::FfnUpShexp, "feed_forward.shared_expert.up_proj"),
    layer(M::FfnDownShexp, "feed_forward.shared_expert.down_proj"),
];

/// Latent attention: between the two matrices of each pair lies a space of its own.
pub(super) const LATENT: &[TensorMapRow] = &[
    layer(M::AttnQ, "self_attn.q_proj"),
    layer(M::AttnQA, "self_attn.q_a_proj"),
    layer(M::AttnKvA, "self_attn.kv_a_proj_with_mqa"),
    layer(M::AttnOutput, "self_attn.o_proj"),
    layer(M::AttnQANorm, "self_attn.q_a_layernorm"),
    layer(M::AttnKvANorm, "self_attn.kv_a_layernorm"),
    layer(M::AttnQB, "self_attn.q_b_proj"),
    layer(M::AttnKvB, "self_attn.kv_b_proj").gguf(&["blk.attn_k_b", "blk.attn_v_b"]),
];

/// The token predictor in the layers after the last one.
pub(super) const NEXTN: &[TensorMapRow] = &[
    layer(M::NextnEhProj, "eh_proj"),
    layer(M::NextnEmbedTokens, "embed_tokens"),
    layer(M::NextnEnorm, "enorm"),
    layer(M::NextnHnorm, "hnorm"),
    layer(M::NextnHead, "shared_head.head"),
    layer(M::NextnHeadNorm, "shared_head.norm"),
];

const QWEN3_MOE: Arch = Arch {
    mlx: Some(mlx_names::MLP_EXPERTS),
    gguf_rules: gguf_rules::PLAIN,
    name: "qwen3_moe",
    model_types: &["qwen3_moe"],
    gguf: Some("qwen3moe"),
    gguf_values: GgufValues::Plain,
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, EXPERTS, HEAD_NORMS],
    forward: Some(ForwardSpec { experts: Some(PLAIN_EXPERTS), attention: NORMED, ..PLAIN }),
    gguf_keys: &[BASE, keys::QWEN_MOE],
    ..LLAMA_LIKE
};

const QWEN2_MOE: Arch = Arch {
    mlx: Some(MlxNames { head: MlxHead::Own, ..mlx_names::MLP_EXPERTS }),
    gguf_rules: gguf_rules::PLAIN,
    name: "qwen2_moe",
    model_types: &["qwen2_moe"],
    gguf: Some("qwen2moe"),
    gguf_values: GgufValues::Plain,
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, EXPERTS, SHARED_EXPERT],
    forward: Some(ForwardSpec { experts: Some(WITH_SHARED), ..PLAIN }),
    gguf_keys: &[BASE, keys::QWEN_MOE],
    ..LLAMA_LIKE
};

const MIXTRAL: Arch = Arch {
    mlx: Some(mlx_names::MIXTRAL),
    tokenizer: tokenizer::LLAMA,
    name: "mixtral",
    model_types: &["mixtral"],
    tensors: &[ENDS, NORMS, ATTENTION, BLOCK_SPARSE_ROWS, EXPERTS],
    config: ConfigDefaults { normalised_experts: true, sliding: SlidingLayers::All, ..CONFIG },
    forward: Some(ForwardSpec { experts: Some(PLAIN_EXPERTS), ..PLAIN }),
    ..LLAMA
};

/// Queries and keys that are normalised over all heads together.
pub(super) const JOINT_NORMS: Attention =
    Attention { head_norms: true, joint_norms: true, ..PLAIN_ATTENTION };

const MINIMAX_M2: Arch = Arch {
    gguf_rules: GgufRules { experts: gguf_rules::GATE_DOWN_UP, ..gguf_rules::PLAIN },
    name: "minimax_m2",
    model_types: &["minimax_m2"],
    gguf: Some("minimax-m2"),
    tensors: &[ENDS, NORMS, ATTENTION, BLOCK_SPARSE_ROWS, EXPERTS, HEAD_NORMS],
    config: ConfigDefaults { normalised_experts: true, rope_theta: 5_000_000.0, ..CONFIG },
    forward: Some(ForwardSpec {
        attention: JOINT_NORMS,
        experts: Some(MoeSpec { shares: RouterScores::Sigmoid, ..PLAIN_EXPERTS }),
        ..PLAIN
    }),
    gguf_keys: &[BASE, keys::MINIMAX_M2],
    ..LLAMA_LIKE
};

const GPT_OSS: Arch = Arch { gguf_stacks: Some(&GPT_OSS_OF_GGUF), ..GPT_OSS_COMMON };

const GPT_OSS_OF_GGUF: Arch = Arch {
    gguf_rules: gguf_rules::PLAIN,
    tensors: &[ENDS, POST_NORMS, ATTENTION, GGUF_STACKS, GPT_OSS_ROWS],
    ..GPT_OSS_COMMON
};

const GPT_OSS_COMMON: Arch = Arch {
    tokenizer: tokenizer::GPT_OSS,
    gguf_rules: gguf_rules::GPT_OSS,
    name: "gpt_oss",
    model_types: &["gpt_oss"],
    gguf: Some("gpt-oss"),
    tensors: &[ENDS, POST_NORMS, ATTENTION, GPT_OSS_ROWS],
    config: ConfigDefaults { normalised_experts: true, sliding: SlidingLayers::Even, ..CONFIG },
    forward: Some(ForwardSpec {
        attention: Attention { sinks: true, ..PLAIN_ATTENTION },
        experts: Some(MoeSpec { interleaved_gate_up: true, columns: true, ..PLAIN_EXPERTS }),
        ..PLAIN
    }),
    gguf_keys: &[BASE, keys::GPT_OSS],
    ..LLAMA_LIKE
};

const DEEPSEEK_V2: Arch = Arch {
    tokenizer: tokenizer::DEEPSEEK,
    gguf_rules: gguf_rules::LATENT,
    name: "deepseek_v2",
    model_types: &["deepseek_v2"],
    gguf: Some("deepseek2"),
    tensors: &[ENDS, NORMS, LATENT, DENSE, EXPERTS, SHARED_EXPERTS],
    rotation: Some(RotationFacts { values: ValueLayout::Latent, ..ROTATION }),
    forward: Some(ForwardSpec {
        latent: true,
        experts: Some(MoeSpec { shared: Some(SharedExpert::Gated), ..PLAIN_EXPERTS }),
        ..PLAIN
    }),
    gguf_keys: &[keys::DEEPSEEK_BEFORE, BASE, keys::DEEPSEEK],
    ..LLAMA_LIKE
};

const DEEPSEEK_V3: Arch = Arch {
    tokenizer: tokenizer::DEEPSEEK,
    name: "deepseek_v3",
    model_types: &["deepseek_v3"],
    config: ConfigDefaults { normalised_experts: true, ..CONFIG },
    rotation: Some(RotationFacts { values: ValueLayout::Latent, mtp: MtpLocation::LayersBeyond, ..ROTATION }),
    forward: Some(DEEPSEEK_V3_PASS),
    ..DEEPSEEK_V2
};

/// Latent attention, and experts that are chosen by corrected sigmoid scores.
pub(super) const DEEPSEEK_V3_PASS: ForwardSpec = ForwardSpec {
    latent: true,
    experts: Some(MoeSpec {
        shared: Some(SharedExpert::Gated),
        shares: RouterScores::Sigmoid,
        ..PLAIN_EXPERTS
    }),
    ..PLAIN
};

const KIMI_K2: Arch =
    Arch { tokenizer: tokenizer::DEEPSEEK, model_types: &["kimi_k2"], forward: None, ..DEEPSEEK_V3 };

const GLM4_MOE: Arch = Arch {
    tokenizer: tokenizer::GLM4_MOE,
    gguf_rules: GgufRules { beyond: BeyondRule::Kept, ..gguf_rules::PLAIN },
    name: "glm4_moe",
    model_types: &["glm4_moe"],
    gguf: Some("glm4moe"),
    tensors: &[ENDS, POST_NORMS, ATTENTION, DENSE, EXPERTS, SHARED_EXPERTS, HEAD_NORMS, NEXTN],
    config: ConfigDefaults { normalised_experts: true, rotary_share: 0.5, ..CONFIG },
    rotation: Some(RotationFacts { mtp: MtpLocation::LayersBeyond, ..ROTATION }),
    forward: Some(ForwardSpec { latent: false, configured_head_norms: true, ..DEEPSEEK_V3_PASS }),
    gguf_keys: &[BASE, keys::GLM4_MOE],
    ..LLAMA_LIKE
};

const LLAMA4: Arch = Arch { gguf_stacks: Some(&LLAMA4_OF_GGUF), ..LLAMA4_COMMON };

const LLAMA4_OF_GGUF: Arch = Arch {
    gguf_rules: GgufRules { generated: gguf_rules::LLAMA4.generated, ..gguf_rules::PLAIN },
    tensors: &[ENDS, NORMS, ATTENTION, GGUF_STACKS, LLAMA4_ROWS],
    ..LLAMA4_COMMON
};

const LLAMA4_COMMON: Arch = Arch {
    gguf_rules: gguf_rules::LLAMA4,
    name: "llama4",
    model_types: &["llama4_text"],
    gguf: Some("llama4"),
    tensors: &[ENDS, NORMS, ATTENTION, LLAMA4_ROWS],
    config: ConfigDefaults {
        unrotated_every: Some(4),
        head_norms: true,
        chunk: Some(8192),
        temperature: Some((0.1, 8192.0)),
        rope_theta: 500_000.0,
        norm_eps: 1e-5,
        ..CONFIG
    },
    forward: Some(ForwardSpec {
        attention: Attention { rotary: Rotary::Pairs, chunked: true, ..PLAIN_ATTENTION },
        experts: Some(MoeSpec {
            shared: Some(SharedExpert::Gated),
            shares: RouterScores::SigmoidOfInput,
            columns: true,
            ..PLAIN_EXPERTS
        }),
        ..PLAIN
    }),
    gguf_keys: &[BASE, keys::LLAMA, keys::LLAMA4],
    ..LLAMA_LIKE
};

pub(super) const ALL: &[&Arch] = &[
    &QWEN3_MOE,
    &QWEN2_MOE,
    &MIXTRAL,
    &MINIMAX_M2,
    &GPT_OSS,
    &DEEPSEEK_V2,
    &DEEPSEEK_V3,
    &KIMI_K2,
    &GLM4_MOE,
    &LLAMA4,
];
