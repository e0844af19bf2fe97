//! What single architectures write beside, or instead of, the common keys.

use super::KeyRule::{
    self, Blocks, Computed, Count, FileType, FixedCount, FixedReal, FixedText, Flag, Pooling, Real,
};
use super::KeyWriter;
use super::base::{ANY_HEADS, ANY_HIDDEN, CONTEXT, FEED_FORWARD, KV_HEADS, LAYER_NORM_EPS};
use super::rules::{product, share_of};
use super::scaling::original_context;
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

use super::super::config::hyperparameters::Hyperparameters;

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
fn non_zero(to: &mut KeyWriter, key: &str, from: &str) -> Result<()> {
    if let Some(x) = to.hyper.real(&[from])?.filter(|x| *x != 0.0) {
        to.real(key, x);
    }
    Ok(())
}

fn rotated_head(to: &mut KeyWriter) -> Result<()> {
    let d = to.hyper.head_dim()?;
    to.count("rope.dimension_count", d);
    Ok(())
}

/// The rotated share of the stream, divided by the number of heads.
fn rotated_stream(to: &mut KeyWriter, key: &str, usual: f64) -> Result<()> {
    let share = to.hyper.real(&["partial_rotary_factor"])?.unwrap_or(usual);
    let rotated = share_of(to.hyper.required(ANY_HIDDEN)?, share)?.checked_div(to.hyper.required(ANY_HEADS)?);
    let none = || Error::new(Code::BadValue, "the configuration has no attention heads");
    to.count(key, rotated.ok_or_else(none)?);
    Ok(())
}

/// The rotated share of a head, which has its share of the stream.
fn rotated_share(to: &mut KeyWriter, from: &[&str], usual: f64) -> Result<()> {
    let share = to.hyper.real(from)?.unwrap_or(usual);
    let rotated = share_of(to.hyper.share_of_a_head()?, share)?;
    to.count("rope.dimension_count", rotated);
    Ok(())
}

fn share_of_stream(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.count(&["head_dim"])?.is_none() {
        let d = to.hyper.head_dim()?;
        to.count("attention.key_length", d);
        to.count("attention.value_length", d);
    }
    Ok(())
}

fn minicpm(to: &mut KeyWriter) -> Result<()> {
    let needed = |key: &'static str| -> Result<f64> {
        let missing = || Error::new(Code::BadValue, format!("the configuration has no {key}"));
        to.hyper.real(&[key])?.ok_or_else(missing)
    };
    let (embedding, depth, base) = (needed("scale_emb")?, needed("scale_depth")?, needed("dim_model_base")?);
    let layers = to.hyper.required(&["num_hidden_layers"])?;
    let hidden = to.hyper.required(ANY_HIDDEN)?;
    to.real("embedding_scale", embedding);
    to.real("residual_scale", depth / libm::sqrt(layers as f64));
    to.real("logit_scale", hidden as f64 / base);
    Ok(())
}

fn glm_rotated(to: &mut KeyWriter) -> Result<()> {
    let share = to.hyper.rope().real(&["partial_rotary_factor"])?.unwrap_or(0.5);
    let rotated = share_of(to.hyper.head_dim()?, share)?;
    to.count("rope.dimension_count", rotated);
    Ok(())
}

fn freq_base(to: &mut KeyWriter) -> Result<()> {
    if let Some(theta) = to.hyper.rope().real(&["rope_theta"])? {
        to.real("rope.freq_base", theta);
    }
    Ok(())
}

fn four_times(to: &mut KeyWriter) -> Result<()> {
    let length = product(4, to.hyper.required(ANY_HIDDEN)?)?;
    to.count("feed_forward_length", length);
    Ok(())
}

fn unless_all_full(to: &mut KeyWriter) -> Result<()> {
    let full = to.hyper.layer_types().is_some_and(|t| t.iter().all(|kind| *kind == "full_attention"));
    if full {
        to.count("attention.sliding_window", 0);
    }
    Ok(())
}

fn ministral(to: &mut KeyWriter) -> Result<()> {
    log_multiplier(to, 1.0)?;
    if let Some(beta) = to.hyper.rope().real(&["llama_4_scaling_beta"])? {
        to.real("attention.temperature_scale", beta);
    }
    Ok(())
}

fn log_multiplier(to: &mut KeyWriter, times: f64) -> Result<()> {
    let rope = to.hyper.rope();
    let mscale = if rope.kind() == "yarn" { rope.real(&["mscale_all_dim"])? } else { None };
    if let Some(mscale) = mscale {
        to.real("rope.scaling.yarn_log_multiplier", times * mscale);
    }
    Ok(())
}

fn mistral_format(to: &mut KeyWriter) -> Result<()> {
    let yarn = to.hyper.get("yarn").cloned();
    let llama4 = to.hyper.get("llama_4_scaling").cloned();
    let number = |of: &Value, key: &str| {
        let missing = || Error::new(Code::BadValue, format!("params.json lacks the number {key:?}"));
        of.get(key).and_then(Value::as_f64).ok_or_else(missing)
    };
    if let Some(yarn) = yarn {
        to.text("rope.scaling.type", "yarn");
        to.real("rope.scaling.factor", number(&yarn, "factor")?);
        to.real("rope.scaling.yarn_beta_fast", number(&yarn, "beta")?);
        to.real("rope.scaling.yarn_beta_slow", number(&yarn, "alpha")?);
        let scaled = yarn.get("apply_scale").and_then(Value::as_bool).unwrap_or(false);
        to.real("rope.scaling.yarn_log_multiplier", if scaled { 0.0 } else { 1.0 });
        let original = yarn.get("original_max_position_embeddings").and_then(Value::as_u64);
        let none = || Error::new(Code::BadValue, "params.json lacks \"original_max_position_embeddings\"");
        let original = original.and_then(|n| u32::try_from(n).ok()).ok_or_else(none)?;
        to.count("rope.scaling.original_context_length", original);
    }
    if let Some(llama4) = llama4 {
        to.real("attention.temperature_scale", number(&llama4, "beta")?);
    }
    Ok(())
}

fn forget_head_dim(to: &mut KeyWriter) -> Result<()> {
    to.hyper.assume("head_dim", Value::Null);
    Ok(())
}

fn shared_length(to: &mut KeyWriter) -> Result<()> {
    if let Some(length) = to.hyper.count(&["shared_intermediate_size"])?.filter(|n| *n > 0) {
        to.count("expert_shared_feed_forward_length", length);
    }
    Ok(())
}

/// Whether a Granite hybrid has a layer that is not attention.
pub(super) fn has_mamba_layers(hyper: &Hyperparameters) -> bool {
    hyper.layer_types().is_none_or(|t| t.iter().any(|kind| *kind != "attention"))
}

fn granite_hybrid(to: &mut KeyWriter) -> Result<()> {
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

fn predictor(to: &mut KeyWriter) -> Result<()> {
    if to.facts.mtp_blocks > 0 {
        to.count("nextn_predict_layers", to.facts.mtp_blocks);
    }
    Ok(())
}

fn glm_predictor(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.get("num_nextn_predict_layers").is_some() && !to.facts.no_mtp {
        to.count("nextn_predict_layers", to.facts.mtp_blocks);
    }
    Ok(())
}

fn gated_delta(to: &mut KeyWriter) -> Result<()> {
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

fn usual_sections(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.rope().full.contains_key("mrope_section") {
        return Ok(());
    }
    to.counts("rope.dimension_sections", [11, 11, 10, 0])
}

fn deepstack(to: &mut KeyWriter) -> Result<()> {
    let vision = to.hyper.get("vision_config").and_then(|v| v.get("deepstack_visual_indexes"));
    let layers = vision.and_then(Value::as_array).map_or(0, Vec::len);
    to.count("n_deepstack_layers", u32::try_from(layers).unwrap_or(u32::MAX));
    Ok(())
}

fn gemma3_defaults(to: &mut KeyWriter) -> Result<()> {
    for (key, value) in [
        ("max_position_embeddings", Value::from(131_072)),
        ("num_attention_heads", Value::from(8)),
        ("num_key_value_heads", Value::from(4)),
        ("head_dim", Value::from(256)),
        ("rms_norm_eps", Value::from(1e-6)),
    ] {
        if !to.hyper.values().contains_key(key) {
            to.hyper.assume(key, value);
        }
    }
    Ok(())
}

fn gemma3_window(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.get("sliding_window_pattern").and_then(Value::as_u64) == Some(1) {
        return Ok(());
    }
    if let Some(window) = to.hyper.count(&["sliding_window"])? {
        to.count("attention.sliding_window", window);
    }
    Ok(())
}

fn gemma4(to: &mut KeyWriter) -> Result<()> {
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

fn window_and_layers(to: &mut KeyWriter) -> Result<()> {
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

fn longest_context(to: &mut KeyWriter) -> Result<()> {
    if let Some(context) = to.hyper.count(&["model_max_length"])? {
        to.hyper.assume("max_position_embeddings", context);
    }
    Ok(())
}

fn one_kv_head(to: &mut KeyWriter) -> Result<()> {
    to.hyper.assume("num_key_value_heads", 1);
    Ok(())
}

fn latent(to: &mut KeyWriter) -> Result<()> {
    let rank = to.hyper.count(&["kv_lora_rank"])?.unwrap_or(512);
    let (rotated, plain) =
        (to.hyper.required(&["qk_rope_head_dim"])?, to.hyper.required(&["qk_nope_head_dim"])?);
    let sum = |a: u32, b: u32| {
        a.checked_add(b).ok_or_else(|| Error::new(Code::BadValue, "the length of a key exceeds 32 bits"))
    };
    to.count("attention.kv_lora_rank", rank);
    to.count("attention.key_length", sum(rank, rotated)?);
    to.count("attention.value_length", rank);
    to.count("attention.key_length_mla", sum(plain, rotated)?);
    let values = to.hyper.required(&["v_head_dim"])?;
    to.count("attention.value_length_mla", values);
    Ok(())
}

fn normalised_experts(to: &mut KeyWriter) -> Result<()> {
    if to.hyper.flag(&["norm_topk_prob"])? == Some(true) {
        to.flag("expert_weights_norm", true);
    }
    Ok(())
}

fn hunyuan(to: &mut KeyWriter) -> Result<()> {
    const LONG: u32 = 1 << 18;
    let rope = to.hyper.rope();
    if rope.kind() != "dynamic" {
        return Ok(());
    }
    let Some(alpha) = rope.real(&["alpha"])? else { return Ok(()) };
    let base = rope.real(&["rope_theta"])?.unwrap_or(10_000.0);
    let d = f64::from(to.hyper.head_dim()?);
    to.real("rope.freq_base", base * libm::pow(alpha, d / (d - 2.0)));
    to.text("rope.scaling.type", "none");
    to.real("rope.scaling.factor", 1.0);
    to.count("rope.scaling.original_context_length", LONG);
    to.count("context_length", LONG);
    Ok(())
}

fn lfm2(to: &mut KeyWriter) -> Result<()> {
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

fn ernie_shared(to: &mut KeyWriter) -> Result<()> {
    let Some(shared) = to.hyper.count(&["moe_num_shared_experts"])? else { return Ok(()) };
    to.count("expert_shared_count", shared);
    let length = to.hyper.count(&["intermediate_size"])?.zip(to.hyper.count(&["num_key_value_heads"])?);
    if let Some(length) = length.filter(|_| shared > 0).and_then(|(a, b)| a.checked_div(b)) {
        to.count("expert_shared_feed_forward_length", length);
    }
    Ok(())
}

/// One shared head of keys and values is not among the keys of the configuration.
fn falcon_kv_heads(to: &mut KeyWriter) -> Result<()> {
    let flag = |key: &str| to.hyper.flag(&[key]).map(|f| f == Some(true));
    let one = flag("multi_query")? && !flag("new_decoder_architecture")?;
    let heads = if one { 1 } else { to.hyper.count(&["num_kv_heads", "n_head_kv"])?.unwrap_or(1) };
    to.count("attention.head_count_kv", heads);
    Ok(())
}

fn nemotron_scaling(to: &mut KeyWriter) -> Result<()> {
    let factor = match to.hyper.get("rope_scaling") {
        None => None,
        Some(_) => to.hyper.rope().real(&["factor"])?,
    };
    match factor {
        None => to.text("rope.scaling.type", "none"),
        Some(factor) => {
            to.text("rope.scaling.type", "linear");
            to.real("rope.scaling.factor", factor);
        }
    }
    Ok(())
}

fn mamba2(to: &mut KeyWriter) -> Result<()> {
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
