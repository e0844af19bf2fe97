//! What a configuration says where a rule computes a key, from the key. Each proposal looks at keys, not at architectures.

use super::draft::Draft;
use super::keys::{self, ArchKeys, decimal};
use super::rope::rope;
use crate::dtype::DType;
use crate::model::arch::gguf_rules::BeyondRule;
use crate::model::arch::module::Module as M;
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Map, Value, json};

type Proposal = fn(&ArchKeys<'_>, &mut Draft<'_>);

const FIRST: &[Proposal] = &[
    identity,
    latent,
    by_kind,
    linear,
    mamba,
    widths,
    rope,
    rotated,
    factors,
    minicpm,
    encoder,
    encoder_decoder,
    falcon,
];

/// Proposals before copied keys.
pub(super) fn all(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    FIRST.iter().for_each(|propose| propose(keys, draft));
}

/// Proposals that depend on all others.
pub(super) fn last(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let ids = [
        ("bos_token_id", "bos_token_id"),
        ("eos_token_id", "eos_token_id"),
        ("pad_token_id", "padding_token_id"),
        ("unk_token_id", "unknown_token_id"),
        ("sep_token_id", "seperator_token_id"),
        ("mask_token_id", "mask_token_id"),
    ];
    for (name, key) in ids {
        draft.set_some(name, keys.whole(&format!("tokenizer.ggml.{key}")).and_then(keys::uint));
    }
    let dtype = match draft.facts.dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        _ => "bfloat16",
    };
    draft.set("torch_dtype", dtype);
}

/// Class, vocabulary, head, biases.
fn identity(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    draft.set("architectures", json!([draft.candidate.class]));
    draft.set("model_type", draft.candidate.model_type);
    let tokens = keys.whole("tokenizer.ggml.tokens").and_then(|v| match v {
        MetaValue::Array(array) => Some(array.len),
        _ => None,
    });
    let rows = draft.rows("token_embd.weight");
    draft.set_some(
        "vocab_size",
        keys.uint("vocab_size").or(tokens.filter(|t| rows.is_none_or(|r| *t <= r))).or(rows),
    );
    if draft.candidate.arch.rows().any(|r| r.module == M::Output) {
        draft.set("tie_word_embeddings", !draft.has_module(M::Output));
    }
    let biased = draft.has_tensor(".attn_q.bias") || draft.has_tensor(".attn_qkv.bias");
    for (name, on) in [
        ("attention_bias", biased),
        ("mlp_bias", draft.has_tensor(".ffn_down.bias")),
        ("lm_head_bias", draft.has_tensor("output.bias") && draft.has_module(M::Output)),
        ("use_qkv_bias", biased),
        ("qk_layernorm", draft.has_module(M::AttnQNorm)),
        ("use_qk_norm", draft.has_module(M::AttnQNorm)),
    ] {
        let model_type = draft.candidate.model_type;
        let known = match name {
            "lm_head_bias" => model_type == "phimoe",
            "use_qkv_bias" => model_type == "stablelm",
            "qk_layernorm" => matches!(model_type, "stablelm" | "phi"),
            "use_qk_norm" => matches!(model_type, "cohere" | "glm4_moe"),
            "mlp_bias" => matches!(model_type, "llama" | "granite" | "smollm3"),
            _ => draft.knows(name) && model_type != "gpt_neox",
        };
        if known {
            draft.set(name, on);
        }
    }
    if draft.candidate.arch.gguf_rules.beyond == BeyondRule::Mtp && draft.candidate.model_type.contains("3_5")
    {
        draft.set("mtp_num_hidden_layers", keys.uint("nextn_predict_layers").unwrap_or(0));
    } else if draft.candidate.arch.gguf_rules.beyond != BeyondRule::Refused {
        draft.set_some("num_nextn_predict_layers", keys.uint("nextn_predict_layers"));
    }
    if keys.uint("n_deepstack_layers").is_some_and(|n| n <= 1024) {
        let layers: Vec<u64> = (0..keys.uint("n_deepstack_layers").unwrap_or(0)).collect();
        draft.set("vision_config", json!({"deepstack_visual_indexes": layers}));
    }
}

/// Latent attention.
fn latent(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let (Some(key), Some(value)) =
        (keys.uint("attention.key_length_mla"), keys.uint("attention.value_length_mla"))
    else {
        return;
    };
    let rotated = keys.uint("rope.dimension_count").unwrap_or(0);
    draft.skip("head_dim");
    draft.set_some("kv_lora_rank", keys.uint("attention.kv_lora_rank"));
    draft.set("qk_nope_head_dim", key.saturating_sub(rotated));
    draft.set("v_head_dim", value);
    draft.set_some("num_key_value_heads", keys.uint("attention.head_count"));
    draft.set("q_lora_rank", keys.uint("attention.q_lora_rank").map_or(Value::Null, Value::from));
    draft.set_some("n_shared_experts", keys.uint("expert_shared_count"));
    draft.set("norm_topk_prob", keys.flag("expert_weights_norm").unwrap_or(false));
}

/// Lists with an entry for each layer.
fn by_kind(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let layers = keys.layers().unwrap_or(0) as usize;
    let listed = |flags: Vec<u64>, on: &str, off: &str| -> Value {
        flags.into_iter().take(layers).map(|f| Value::from(if f > 0 { on } else { off })).collect()
    };
    if let Some(sliding) = keys.counts("attention.sliding_window_pattern") {
        draft.set("layer_types", listed(sliding.clone(), "sliding_attention", "full_attention"));
        gemma4(keys, draft, &sliding);
    }
    if let Some(recurrent) = keys.counts("attention.recurrent_layers") {
        draft.set("layer_types", listed(recurrent, "linear_attention", "full_attention"));
    }
    if let Some(heads) = keys.counts("attention.head_count_kv") {
        let (on, off) =
            if draft.has_module(M::SsmIn) { ("attention", "mamba") } else { ("full_attention", "conv") };
        draft.set_some("num_key_value_heads", heads.iter().copied().find(|n| *n > 0));
        draft.set("layer_types", listed(heads, on, off));
    }
}

/// Heads of layers with full attention and with a window, and wide feed-forward parts.
fn gemma4(keys: &ArchKeys<'_>, draft: &mut Draft<'_>, sliding: &[u64]) {
    let Some(own) = keys.uint("attention.key_length_swa") else { return };
    draft.set("head_dim", own);
    draft.set_some("global_head_dim", keys.uint("attention.key_length"));
    let all = |key: &str| keys.counts(key).unwrap_or_default();
    let of = |key: &str, slides: bool| {
        let pairs = all(key).into_iter().zip(sliding);
        pairs.into_iter().find(|(_, s)| (**s > 0) == slides).map(|(n, _)| n)
    };
    draft.set_some("num_global_key_value_heads", of("attention.head_count_kv", false));
    draft.set_some("num_key_value_heads", of("attention.head_count_kv", true));
    let lengths = all("feed_forward_length");
    draft.set_some("intermediate_size", lengths.first().copied());
    draft.set("use_double_wide_mlp", lengths.iter().any(|n| Some(n) != lengths.first()));
}

/// Linear attention.
fn linear(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    if keys.counts("attention.recurrent_layers").is_none() {
        return;
    }
    let inner = keys.uint("ssm.inner_size").zip(keys.uint("ssm.time_step_rank"));
    draft.set_some("linear_value_head_dim", inner.and_then(|(a, b)| a.checked_div(b)));
    draft.set_some("full_attention_interval", keys.uint("full_attention_interval"));
}

/// State-space layers.
fn mamba(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    if !draft.has_module(M::SsmIn) {
        return;
    }
    let hybrid = draft.has_module(M::AttnQ);
    let name = |plain: &'static str| match (hybrid, plain) {
        (false, plain) => plain,
        (true, "conv_kernel") => "mamba_d_conv",
        (true, "state_size") => "mamba_d_state",
        (true, "num_heads") => "mamba_n_heads",
        (true, "head_dim") => "mamba_d_head",
        (true, "n_groups") => "mamba_n_groups",
        (true, _) => "mamba_expand",
    };
    let inner = keys.uint("ssm.inner_size");
    let rank = keys.uint("ssm.time_step_rank");
    draft.set_some(name("conv_kernel"), keys.uint("ssm.conv_kernel"));
    draft.set_some(name("state_size"), keys.uint("ssm.state_size"));
    draft.set_some(name("n_groups"), keys.uint("ssm.group_count"));
    draft.set_some(name("num_heads"), rank);
    draft.set_some(name("head_dim"), inner.zip(rank).and_then(|(a, b)| a.checked_div(b)));
    let expand = inner.zip(keys.uint("embedding_length")).and_then(|(a, b)| a.checked_div(b));
    draft.set_some(name("expand"), expand);
    if hybrid {
        let rotary = keys.flag("rope.scaling.finetuned").unwrap_or(false);
        draft.set("position_embedding_type", if rotary { "rope" } else { "nope" });
    } else {
        draft.set_some("layer_norm_epsilon", keys.real("attention.layer_norm_rms_epsilon").and_then(decimal));
        draft.skip("head_dim");
    }
}

/// Sizes that are named otherwise, or come with a rule.
fn widths(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let model_type = draft.candidate.model_type;
    if model_type.starts_with("lfm2") {
        draft.set("block_auto_adjust_ff_dim", false);
    }
    if matches!(model_type, "phi3" | "phimoe") {
        draft.set_some("original_max_position_embeddings", keys.uint("rope.scaling.original_context_length"));
    }
    if model_type == "phi3" {
        let window = keys.uint("attention.sliding_window").filter(|n| *n > 0);
        draft.set("sliding_window", window.map_or(Value::Null, Value::from));
    }
    if model_type == "phimoe" {
        draft.set_some("sliding_window", keys.uint("attention.sliding_window").filter(|n| *n > 0));
    }
    if matches!(model_type, "phi") {
        draft.set_some("intermediate_size", keys.uint("feed_forward_length"));
    }
    if model_type.starts_with("gemma3") {
        draft.set("sliding_window", keys.uint("attention.sliding_window").map_or(Value::Null, Value::from));
    }
    if model_type == "llama4_text" {
        // As llama.cpp decides it: the model with 128 experts does not normalise queries and keys.
        draft.set("use_qk_norm", keys.uint("expert_count") != Some(128));
    }
    if model_type == "ernie4_5_moe" {
        draft.set_some("moe_num_shared_experts", keys.uint("expert_shared_count"));
    }
    if matches!(model_type, "olmo2" | "olmo3" | "exaone4") {
        draft.set("sliding_window", keys.uint("attention.sliding_window").map_or(Value::Null, Value::from));
    }
    draft.set_some("use_parallel_residual", keys.flag("use_parallel_residual"));
    let gating =
        keys.uint("expert_gating_func").filter(|_| !draft.knows("scoring_func") || model_type != "glm4_moe");
    let function = gating.and_then(|n| match n {
        1 => Some("softmax"),
        2 => Some("sigmoid"),
        4 => Some("sqrtsoftplus"),
        _ => None,
    });
    draft.set_some("scoring_func", function);
}

/// The share of a head that is rotated.
fn rotated(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    const SHARE: &[&str] = &["rotary_pct", "partial_rotary_factor"];
    let latent = keys.uint("attention.key_length_mla").is_some();
    let layered = keys.uint("attention.key_length_swa").is_some();
    let own = ["minimax_m2", "llama"].contains(&draft.candidate.model_type);
    let (Some(count), false) = (keys.uint("rope.dimension_count"), latent || layered || own) else { return };
    let stream = matches!(draft.candidate.model_type, "phi" | "phi3" | "phimoe" | "nemotron");
    let whole = if stream { keys.uint("embedding_length") } else { keys.head_dim() };
    let part = if stream {
        keys.uint("attention.head_count").and_then(|h| h.checked_mul(count))
    } else {
        Some(count)
    };
    let (Some(whole), Some(part)) = (whole.filter(|n| *n > 0), part) else { return };
    let name = draft.pick(SHARE);
    let name = if draft.knows(name) { name } else { "partial_rotary_factor" };
    if part != whole || draft.knows(name) || draft.candidate.arch.config.rotary_share < 1.0 {
        let share = part as f64 / whole as f64;
        // The rule takes the whole part of the product.
        let short = (share * whole as f64) as u64 != part;
        draft.set(name, if short { share + f64::EPSILON } else { share });
    }
}

/// Multipliers and limits that are written unless they are 0.
fn factors(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let granite = draft.candidate.model_type.starts_with("granite");
    for (name, key, of_granite) in [
        ("attention_multiplier", "attention.scale", true),
        ("embedding_multiplier", "embedding_scale", true),
        ("residual_multiplier", "residual_scale", true),
        ("logits_scaling", "logit_scale", true),
        ("final_logit_softcapping", "final_logit_softcapping", false),
    ] {
        if of_granite == granite {
            draft.set_some(name, keys.real(key).and_then(decimal));
        }
    }
    if granite {
        let shared = keys.uint("expert_shared_feed_forward_length");
        if draft.knows("shared_intermediate_size") {
            draft.set("shared_intermediate_size", shared.unwrap_or(0));
        }
        draft.skip("head_dim");
    }
}

/// MiniCPM: scales that are given by other numbers.
fn minicpm(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    if draft.candidate.model_type != "minicpm" {
        return;
    }
    draft.set_some("scale_emb", keys.real("embedding_scale").and_then(decimal));
    let (hidden, logits) = (keys.uint("embedding_length"), keys.real("logit_scale"));
    let base = hidden.zip(logits).map(|(hidden, scale)| hidden as f64 / f64::from(scale));
    draft.set_some("dim_model_base", base.and_then(|base| decimal(base as f32)));
    let (layers, residual) = (keys.layers(), keys.real("residual_scale"));
    let depth = layers.zip(residual).map(|(layers, scale)| f64::from(scale) * libm::sqrt(layers as f64));
    draft.set_some("scale_depth", depth.and_then(|depth| decimal(depth as f32)));
}

/// Encoders: positions behind those of padding, labels, kinds of tokens.
fn encoder(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    let model_type = draft.candidate.model_type;
    draft.set_some("type_vocab_size", keys.whole("tokenizer.ggml.token_type_count").and_then(keys::uint));
    let context = keys.uint("context_length");
    if matches!(model_type, "roberta" | "xlm-roberta") {
        let pad = keys.whole("tokenizer.ggml.padding_token_id").and_then(keys::uint);
        draft.set_some(
            "max_position_embeddings",
            context.zip(pad).map(|(c, p)| c.saturating_add(p).saturating_add(1)),
        );
    }
    if model_type == "nomic_bert" {
        draft.set_some("n_positions", context.map(|c| if c == 512 { 2048 } else { c.saturating_mul(4) }));
        draft.set("activation_function", "swiglu");
        for name in ["qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "prenorm", "causal", "use_rms_norm"] {
            draft.set(name, false);
        }
        draft.set("rotary_emb_fraction", 1.0);
    }
    let Some(MetaValue::Array(labels)) = keys.get("classifier.output_labels") else { return };
    let labels = keys::texts(labels).unwrap_or_default();
    let ids: Map<String, Value> =
        labels.iter().enumerate().map(|(id, label)| (format!("{id}"), Value::from(*label))).collect();
    draft.set(
        "label2id",
        labels.iter().enumerate().map(|(id, l)| (String::from(*l), json!(id))).collect::<Map<_, _>>(),
    );
    draft.set("id2label", ids);
}

/// T5.
fn encoder_decoder(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    if draft.candidate.model_type != "t5" {
        return;
    }
    draft.set_some("n_positions", keys.uint("context_length"));
    draft.set_some("num_heads", keys.uint("attention.head_count"));
    draft.set_some("d_model", keys.uint("embedding_length"));
    let gated = draft.has_module(M::EncFfnGate);
    draft.set("feed_forward_proj", if gated { "gated-gelu" } else { "relu" });
    draft.set("is_encoder_decoder", draft.has_module(M::DecAttnQ));
    draft.set_some("layer_norm_epsilon", keys.real("attention.layer_norm_rms_epsilon").and_then(decimal));
}

/// Falcon's heads.
fn falcon(keys: &ArchKeys<'_>, draft: &mut Draft<'_>) {
    if draft.candidate.model_type != "falcon" {
        return;
    }
    let (kv, newer) = (keys.uint("attention.head_count_kv"), draft.has_module(M::AttnNorm2));
    draft.set("new_decoder_architecture", newer);
    draft.set("multi_query", !newer && kv == Some(1));
    if newer || kv != Some(1) {
        draft.set_some("num_kv_heads", kv);
    }
    draft.set("parallel_attn", true);
    draft.set("bias", draft.has_tensor(".attn_qkv.bias"));
    draft.set("alibi", false);
    draft.skip("num_key_value_heads");
}
