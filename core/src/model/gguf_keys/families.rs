//! What single architectures write beside, or instead of, the common keys.

use super::KeyRule::{
    self, Blocks, Computed, Count, FileType, FixedCount, FixedReal, FixedText, Flag, Pooling, Real,
};
use super::base::{ANY_HEADS, ANY_HIDDEN, CONTEXT, FEED_FORWARD, KV_HEADS, LAYER_NORM_EPS};
use super::computed::{
    deepstack, ernie_shared, falcon_kv_heads, forget_head_dim, four_times, freq_base, gemma3_defaults,
    gemma3_window, glm_predictor, glm_rotated, hunyuan, latent, log_multiplier, longest_context, minicpm,
    ministral, mistral_format, nemotron_scaling, non_zero, normalised_experts, one_kv_head, predictor,
    rotated_head, rotated_share, rotated_stream, share_of_stream, shared_length, unless_all_full,
    usual_sections,
};
use super::layer_kinds::{gated_delta, gemma4, granite_hybrid, lfm2, mamba2, window_and_layers};
use super::scaling::original_context;

const VOCABULARY: KeyRule = Count("vocab_size", &["vocab_size"]);
const WINDOW: KeyRule = Count("attention.sliding_window", &["sliding_window"]);
const EXPERT_LENGTH: KeyRule = Count("expert_feed_forward_length", &["moe_intermediate_size"]);
const RMS_EPS: KeyRule = Real("attention.layer_norm_rms_epsilon", &["rms_norm_eps", "norm_eps"]);
pub(super) const LN_EPS: KeyRule = Real("attention.layer_norm_epsilon", LAYER_NORM_EPS);
pub(super) const EMBEDDING: KeyRule = Count("embedding_length", ANY_HIDDEN);
pub(super) const HEAD_COUNT: KeyRule = Count("attention.head_count", ANY_HEADS);
const HEAD_COUNT_KV: KeyRule = Count("attention.head_count_kv", KV_HEADS);
const FEED: KeyRule = Count("feed_forward_length", FEED_FORWARD);
const LOGIT_SCALE: KeyRule = Real("logit_scale", &["logit_scale"]);
const UNSCALED: KeyRule = FixedText("rope.scaling.type", "none");

/// Llama, Mistral, Mixtral, SmolLM3.
pub const LLAMA: &[KeyRule] = &[VOCABULARY, Computed(rotated_head)];
/// Llama 4, after [`LLAMA`].
pub const LLAMA4: &[KeyRule] = &[
    Count("feed_forward_length", &["intermediate_size_mlp"]),
    Count("interleave_moe_layer_step", &["interleave_moe_layer_step"]),
    Count("expert_feed_forward_length", &["intermediate_size"]),
    Computed(unless_all_full),
];
/// Ministral 3, after [`LLAMA`].
pub const MINISTRAL3: &[KeyRule] = &[Computed(ministral)];
/// `params.json` of Mistral's own format, after the common keys.
pub const MISTRAL_FORMAT: &[KeyRule] = &[Computed(rotated_head), Computed(mistral_format)];
/// Before the common keys of Granite: heads have their share of the stream.
pub const GRANITE_BEFORE: &[KeyRule] = &[Computed(forget_head_dim)];
/// Granite, after [`LLAMA`].
pub const GRANITE: &[KeyRule] = &[
    Computed(|to| non_zero(to, "attention.scale", "attention_multiplier")),
    Computed(|to| non_zero(to, "embedding_scale", "embedding_multiplier")),
    Computed(|to| non_zero(to, "residual_scale", "residual_multiplier")),
    Computed(|to| non_zero(to, "logit_scale", "logits_scaling")),
    Computed(shared_length),
];
/// Granite with Mamba layers, after [`GRANITE`].
pub const GRANITE_HYBRID: &[KeyRule] = &[Computed(granite_hybrid)];
/// Models that can be embedding models.
pub const POOLED: &[KeyRule] = &[Pooling];
/// Qwen2 MoE and Qwen3 MoE.
pub const QWEN_MOE: &[KeyRule] =
    &[EXPERT_LENGTH, Count("expert_shared_feed_forward_length", &["shared_expert_intermediate_size"])];
/// Qwen3-Next and Qwen3.5.
pub const GATED_DELTA: &[KeyRule] = &[
    Computed(predictor),
    Count("ssm.conv_kernel", &["linear_conv_kernel_dim"]),
    Count("ssm.state_size", &["linear_key_head_dim"]),
    Count("ssm.group_count", &["linear_num_key_heads"]),
    Count("ssm.time_step_rank", &["linear_num_value_heads"]),
    Computed(gated_delta),
];
/// Qwen3.5, after [`GATED_DELTA`].
pub const QWEN3_5: &[KeyRule] = &[Computed(usual_sections)];
/// Qwen3-VL.
pub const QWEN3_VL: &[KeyRule] = &[Computed(deepstack)];
/// Gemma, without the common keys.
pub const GEMMA: &[KeyRule] = &[
    Count("context_length", CONTEXT),
    EMBEDDING,
    Blocks,
    FEED,
    HEAD_COUNT,
    HEAD_COUNT_KV,
    RMS_EPS,
    Count("attention.key_length", &["head_dim"]),
    Count("attention.value_length", &["head_dim"]),
    FileType,
];
/// Gemma 2, after [`GEMMA`].
pub const GEMMA2: &[KeyRule] = &[
    Real("attn_logit_softcapping", &["attn_logit_softcapping"]),
    Real("final_logit_softcapping", &["final_logit_softcapping"]),
    WINDOW,
];
/// Before the common keys of Gemma 3: what the configurations leave out.
pub const GEMMA3_BEFORE: &[KeyRule] = &[Computed(gemma3_defaults)];
/// Gemma 3.
pub const GEMMA3: &[KeyRule] = &[
    Computed(|to| non_zero(to, "final_logit_softcapping", "final_logit_softcapping")),
    Computed(gemma3_window),
];
/// Gemma 4.
pub const GEMMA4: &[KeyRule] = &[
    Real("final_logit_softcapping", &["final_logit_softcapping"]),
    WINDOW,
    Count("attention.shared_kv_layers", &["num_kv_shared_layers"]),
    Count("embedding_length_per_layer_input", &["hidden_size_per_layer_input"]),
    EXPERT_LENGTH,
    Computed(gemma4),
];
/// Phi-2, without the common keys.
pub const PHI2: &[KeyRule] = &[
    Count("context_length", CONTEXT),
    EMBEDDING,
    Computed(four_times),
    Blocks,
    HEAD_COUNT,
    Count("attention.head_count_kv", ANY_HEADS),
    LN_EPS,
    Computed(|to| rotated_stream(to, "rope.dimension_count", 1.0)),
    FileType,
];
/// Phi-3, without the common keys.
pub const PHI3: &[KeyRule] = &[
    Count("context_length", CONTEXT),
    Computed(|to| {
        let original = original_context(&to.hyper)?;
        to.count("rope.scaling.original_context_length", original);
        Ok(())
    }),
    EMBEDDING,
    FEED,
    Blocks,
    HEAD_COUNT,
    HEAD_COUNT_KV,
    RMS_EPS,
    Computed(|to| rotated_stream(to, "rope.dimension_count", 1.0)),
    Computed(freq_base),
    FileType,
    Computed(|to| {
        let window = to.hyper.count(&["sliding_window"])?.unwrap_or(0);
        to.count("attention.sliding_window", window);
        Ok(())
    }),
];
/// Phi-3.5-MoE, after [`PHI3`].
pub const PHIMOE: &[KeyRule] = &[
    Count("expert_used_count", &["num_experts_per_tok"]),
    Count("expert_count", &["num_local_experts", "num_experts"]),
];
/// GPT-OSS.
pub const GPT_OSS: &[KeyRule] = &[WINDOW, Count("expert_feed_forward_length", &["intermediate_size"])];
/// OLMo.
pub const OLMO: &[KeyRule] =
    &[FixedReal("attention.layer_norm_epsilon", 1e-5), Real("attention.clamp_kqv", &["clip_qkv"])];
/// OLMo 2 and 3, EXAONE 4: a window and its layers, if there is one.
pub const WINDOWED: &[KeyRule] = &[Computed(window_and_layers)];
/// EXAONE 4, before [`WINDOWED`].
pub const EXAONE4: &[KeyRule] = &[VOCABULARY];
/// OLMoE.
pub const OLMOE: &[KeyRule] = &[FixedReal("attention.layer_norm_rms_epsilon", 1e-5)];
/// Before the common keys of Cohere.
pub const COHERE_BEFORE: &[KeyRule] = &[Computed(longest_context)];
/// Cohere.
pub const COHERE: &[KeyRule] = &[LOGIT_SCALE, UNSCALED];
/// Cohere 2.
pub const COHERE2: &[KeyRule] =
    &[LOGIT_SCALE, WINDOW, VOCABULARY, Computed(|to| rotated_share(to, &["rotary_pct"], 1.0)), UNSCALED];
/// EXAONE 3.
pub const EXAONE: &[KeyRule] = &[Computed(|to| rotated_share(to, &["partial_rotary_factor"], 1.0))];
/// Models that say how long a head is.
pub const CONFIGURED_HEADS: &[KeyRule] = &[Count("rope.dimension_count", &["head_dim"])];
/// MiniCPM.
pub const MINICPM: &[KeyRule] = &[Computed(minicpm)];
/// After [`LLAMA`], where heads have their share of the stream.
pub const SHARED_HEADS: &[KeyRule] = &[Computed(share_of_stream)];
/// GLM-4.
pub const GLM4: &[KeyRule] = &[Computed(glm_rotated)];
/// GLM-4.5.
pub const GLM4_MOE: &[KeyRule] = &[
    Computed(glm_rotated),
    Count("expert_count", &["n_routed_experts"]),
    EXPERT_LENGTH,
    Count("expert_shared_count", &["n_shared_experts"]),
    Count("leading_dense_block_count", &["first_k_dense_replace"]),
    FixedCount("expert_gating_func", 2),
    Real("expert_weights_scale", &["routed_scaling_factor"]),
    Flag("expert_weights_norm", &["norm_topk_prob"]),
    Computed(glm_predictor),
];
/// Before the common keys of DeepSeek 2 and 3: latent attention has one key.
pub const DEEPSEEK_BEFORE: &[KeyRule] = &[Computed(one_kv_head)];
/// DeepSeek 2 and 3.
pub const DEEPSEEK: &[KeyRule] = &[
    Count("leading_dense_block_count", &["first_k_dense_replace"]),
    VOCABULARY,
    Count("attention.q_lora_rank", &["q_lora_rank"]),
    Computed(latent),
    EXPERT_LENGTH,
    Count("expert_count", &["n_routed_experts"]),
    Computed(|to| {
        let shared = to.hyper.count(&["n_shared_experts"])?.unwrap_or(0);
        to.count("expert_shared_count", shared);
        Ok(())
    }),
    Real("expert_weights_scale", &["routed_scaling_factor"]),
    Computed(normalised_experts),
    Count("rope.dimension_count", &["qk_rope_head_dim"]),
    Computed(|to| log_multiplier(to, 0.1)),
];
/// Hunyuan, dense.
pub const HUNYUAN: &[KeyRule] = &[Computed(hunyuan)];
/// LFM2 with experts, before [`LFM2`].
pub const LFM2_MOE: &[KeyRule] = &[
    EXPERT_LENGTH,
    Count("leading_dense_block_count", &["num_dense_layers"]),
    FixedCount("expert_gating_func", 2),
];
/// LFM2.
pub const LFM2: &[KeyRule] = &[VOCABULARY, Count("shortconv.l_cache", &["conv_L_cache"]), Computed(lfm2)];
/// MiniMax-M2.
pub const MINIMAX_M2: &[KeyRule] = &[
    Count("expert_feed_forward_length", &["intermediate_size"]),
    Count("rope.dimension_count", &["rotary_dim"]),
];
/// ERNIE 4.5 with experts.
pub const ERNIE_MOE: &[KeyRule] = &[
    Count("expert_count", &["moe_num_experts"]),
    Count("expert_used_count", &["moe_k"]),
    Count("interleave_moe_layer_step", &["moe_layer_interval"]),
    Count("leading_dense_block_count", &["moe_layer_start_index"]),
    EXPERT_LENGTH,
    Computed(ernie_shared),
];
/// GPT-2, without the common keys.
pub const GPT2: &[KeyRule] = &[
    Blocks,
    Count("context_length", &["n_ctx", "n_positions"]),
    EMBEDDING,
    Computed(four_times),
    HEAD_COUNT,
    LN_EPS,
    FileType,
];
/// GPT-NeoX, without the common keys.
pub const GPT_NEOX: &[KeyRule] = &[
    Count("context_length", CONTEXT),
    EMBEDDING,
    Blocks,
    FEED,
    Computed(|to| rotated_share(to, &["rotary_pct"], 0.25)),
    HEAD_COUNT,
    Flag("use_parallel_residual", &["use_parallel_residual"]),
    LN_EPS,
];
/// Falcon, without the common keys.
pub const FALCON: &[KeyRule] = &[
    FixedCount("context_length", 2048),
    FixedText("tensor_data_layout", "jploski"),
    EMBEDDING,
    Computed(four_times),
    Blocks,
    HEAD_COUNT,
    Computed(falcon_kv_heads),
    LN_EPS,
    FileType,
];
/// StableLM, without the common keys.
pub const STABLELM: &[KeyRule] = &[
    Count("context_length", CONTEXT),
    EMBEDDING,
    Blocks,
    FEED,
    Computed(|to| rotated_share(to, &["rope_pct", "partial_rotary_factor"], 0.25)),
    HEAD_COUNT,
    HEAD_COUNT_KV,
    Computed(|to| {
        let parallel = to.hyper.flag(&["use_parallel_residual"])?.unwrap_or(true);
        to.flag("use_parallel_residual", parallel);
        Ok(())
    }),
    LN_EPS,
    FileType,
];
/// Nemotron.
pub const NEMOTRON: &[KeyRule] = &[
    VOCABULARY,
    Real("attention.layer_norm_epsilon", &["norm_eps", "layer_norm_eps", "layer_norm_epsilon"]),
    Computed(|to| rotated_stream(to, "rope.dimension_count", 0.5)),
    Computed(nemotron_scaling),
];
/// Mamba 2, without the common keys.
pub const MAMBA2: &[KeyRule] = &[
    FixedCount("context_length", 1 << 20),
    EMBEDDING,
    FixedCount("feed_forward_length", 0),
    FixedCount("attention.head_count", 0),
    Blocks,
    Computed(mamba2),
    FileType,
];
