//! Families with Llama's stream and mixtures of experts. Experts lie one by one in files, in stacks in newer ones.

use super::table::{
    ATTENTION, DENSE, ENDS, FIRST, HEAD_NORMS, LLAMA, MtpLocation, NORMS, NameRule, RotationFamily, SECOND,
    ValueLayout, ValueProjections, reads, untouched, writes,
};

/// A router and experts under `mlp`.
pub const EXPERTS: &[NameRule] = &[
    reads("layers.{layer}.mlp.gate", SECOND),
    reads("layers.{layer}.mlp.experts.{expert}.{gate,up}_proj", SECOND),
    writes("layers.{layer}.mlp.experts.{expert}.down_proj"),
    // [experts, 2 inner, hidden] and [experts, hidden, inner].
    reads("layers.{layer}.mlp.experts.gate_up_proj", SECOND).along(2).bare(),
    writes("layers.{layer}.mlp.experts.down_proj").along(1).bare(),
];

/// The expert of every token, and the gate that weighs it.
pub const SHARED_EXPERT: &[NameRule] = &[
    reads("layers.{layer}.mlp.shared_expert.{gate,up}_proj", SECOND),
    writes("layers.{layer}.mlp.shared_expert.down_proj"),
    reads("layers.{layer}.mlp.shared_expert_gate", SECOND),
];

/// DeepSeek's experts of every token; what corrects the scores is one number an expert.
const SHARED_EXPERTS: &[NameRule] = &[
    reads("layers.{layer}.mlp.shared_experts.{gate,up}_proj", SECOND),
    writes("layers.{layer}.mlp.shared_experts.down_proj"),
    untouched("layers.{layer}.mlp.gate.e_score_correction_bias").bare(),
];

const MIXTRAL: &[NameRule] = &[
    reads("layers.{layer}.block_sparse_moe.gate", SECOND),
    reads("layers.{layer}.block_sparse_moe.experts.{expert}.{w1,w3}", SECOND),
    writes("layers.{layer}.block_sparse_moe.experts.{expert}.w2"),
    untouched("layers.{layer}.{mlp,block_sparse_moe}.e_score_correction_bias").bare(),
];

/// The other way round: [experts, hidden, 2 inner] and [experts, inner, hidden].
const GPT_OSS: &[NameRule] = &[
    reads("layers.{layer}.mlp.router", SECOND),
    reads("layers.{layer}.mlp.experts.gate_up_proj", SECOND).along(1).bare(),
    writes("layers.{layer}.mlp.experts.down_proj").along(2).bare(),
    untouched("layers.{layer}.self_attn.sinks").bare(),
];

const LLAMA4: &[NameRule] = &[
    reads("layers.{layer}.feed_forward.{gate,up}_proj", SECOND),
    writes("layers.{layer}.feed_forward.down_proj"),
    reads("layers.{layer}.feed_forward.router", SECOND),
    reads("layers.{layer}.feed_forward.experts.gate_up_proj", SECOND).along(1).bare(),
    writes("layers.{layer}.feed_forward.experts.down_proj").along(2).bare(),
    reads("layers.{layer}.feed_forward.shared_expert.{gate,up}_proj", SECOND),
    writes("layers.{layer}.feed_forward.shared_expert.down_proj"),
];

/// Latent attention: between the two matrices of each pair lies a space of its own.
const LATENT: &[NameRule] = &[
    reads("layers.{layer}.self_attn.{q_proj,q_a_proj,kv_a_proj_with_mqa}", FIRST),
    writes("layers.{layer}.self_attn.o_proj"),
    untouched("layers.{layer}.self_attn.{q_a_layernorm,kv_a_layernorm,q_b_proj,kv_b_proj}"),
];

const DEEPSEEK: RotationFamily = RotationFamily {
    tables: &[ENDS, NORMS, LATENT, DENSE, EXPERTS, SHARED_EXPERTS],
    values: ValueProjections {
        layout: ValueLayout::Latent,
        v_proj: "layers.{layer}.self_attn.kv_b_proj",
        ..LLAMA.values
    },
    ..LLAMA
};

pub const FAMILIES: &[RotationFamily] = &[
    RotationFamily {
        name: "qwen3_moe",
        model_types: &["qwen3_moe"],
        tables: &[ENDS, NORMS, ATTENTION, DENSE, EXPERTS, HEAD_NORMS],
        ..LLAMA
    },
    RotationFamily {
        name: "qwen2_moe",
        model_types: &["qwen2_moe"],
        tables: &[ENDS, NORMS, ATTENTION, DENSE, EXPERTS, SHARED_EXPERT],
        ..LLAMA
    },
    RotationFamily {
        name: "mixtral",
        model_types: &["mixtral"],
        tables: &[ENDS, NORMS, ATTENTION, MIXTRAL, EXPERTS],
        ..LLAMA
    },
    RotationFamily {
        name: "minimax_m2",
        model_types: &["minimax_m2"],
        tables: &[ENDS, NORMS, ATTENTION, MIXTRAL, EXPERTS, HEAD_NORMS],
        ..LLAMA
    },
    RotationFamily {
        name: "gpt_oss",
        model_types: &["gpt_oss"],
        tables: &[ENDS, NORMS, ATTENTION, GPT_OSS],
        ..LLAMA
    },
    RotationFamily { name: "deepseek_v2", model_types: &["deepseek_v2"], ..DEEPSEEK },
    RotationFamily {
        name: "deepseek_v3",
        model_types: &["deepseek_v3", "kimi_k2"],
        mtp: MtpLocation::LayersBeyond,
        ..DEEPSEEK
    },
    RotationFamily {
        name: "glm4_moe",
        model_types: &["glm4_moe"],
        tables: &[ENDS, NORMS, ATTENTION, DENSE, EXPERTS, SHARED_EXPERTS, HEAD_NORMS],
        mtp: MtpLocation::LayersBeyond,
        ..LLAMA
    },
    RotationFamily {
        name: "llama4",
        model_types: &["llama4_text"],
        tables: &[ENDS, NORMS, ATTENTION, LLAMA4],
        ..LLAMA
    },
];
