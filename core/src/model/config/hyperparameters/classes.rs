//! Values that the configuration classes of transformers 4.57.6 add to a `config.json`, by `model_type`.
//!
//! Data only. Types that this release does not know, and types without a table here, are read as they stand.

use super::ClassDefault::{self, Bool, Copied, Float, Int, Layers, Members, Null, Ratio, Text};
use super::LayerPattern::{AllFull, Chunked, FullEvery, Rotated, Short};

#[rustfmt::skip]
const LLAMA: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("tie_word_embeddings", Bool(false)),
    ("num_key_value_heads", Copied("num_attention_heads")),
    ("head_dim", Ratio("hidden_size", "num_attention_heads")),
];
#[rustfmt::skip]
const MISTRAL: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(14336)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("sliding_window", Int(4096)), ("head_dim", Null), ("num_key_value_heads", Int(8)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const MIXTRAL: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(14336)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("sliding_window", Null), ("num_key_value_heads", Int(8)), ("hidden_act", Text("silu")),
    ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(1000000.0)), ("head_dim", Null),
    ("num_experts_per_tok", Int(2)), ("num_local_experts", Int(8)), ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const QWEN2: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_936)), ("max_position_embeddings", Int(32768)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(22016)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("use_sliding_window", Bool(false)), ("sliding_window", Null), ("num_key_value_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("tie_word_embeddings", Bool(false)), ("layer_types", Layers(AllFull)),
];
#[rustfmt::skip]
const QWEN2_MOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_936)), ("max_position_embeddings", Int(32768)), ("hidden_size", Int(2048)),
    ("intermediate_size", Int(5632)), ("num_hidden_layers", Int(24)), ("num_attention_heads", Int(16)),
    ("use_sliding_window", Bool(false)), ("sliding_window", Null), ("num_key_value_heads", Int(16)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("moe_intermediate_size", Int(1408)),
    ("shared_expert_intermediate_size", Int(5632)), ("num_experts_per_tok", Int(4)),
    ("num_experts", Int(60)), ("norm_topk_prob", Bool(false)), ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const QWEN3: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_936)), ("max_position_embeddings", Int(32768)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(22016)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("use_sliding_window", Bool(false)), ("sliding_window", Null), ("num_key_value_heads", Int(32)),
    ("head_dim", Int(128)), ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("tie_word_embeddings", Bool(false)), ("layer_types", Layers(AllFull)),
];
#[rustfmt::skip]
const QWEN3_MOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_936)), ("max_position_embeddings", Int(32768)), ("hidden_size", Int(2048)),
    ("intermediate_size", Int(6144)), ("num_hidden_layers", Int(24)), ("num_attention_heads", Int(32)),
    ("use_sliding_window", Bool(false)), ("sliding_window", Null), ("num_key_value_heads", Int(4)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("moe_intermediate_size", Int(768)),
    ("num_experts_per_tok", Int(8)), ("num_experts", Int(128)), ("norm_topk_prob", Bool(false)),
    ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const QWEN3_NEXT: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("vocab_size", Int(151_936)),
    ("max_position_embeddings", Int(32768)), ("hidden_size", Int(2048)), ("intermediate_size", Int(5632)),
    ("num_hidden_layers", Int(48)), ("num_attention_heads", Int(16)), ("num_key_value_heads", Int(2)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("partial_rotary_factor", Float(0.25)), ("attention_bias", Bool(false)),
    ("head_dim", Int(256)), ("linear_conv_kernel_dim", Int(4)), ("linear_key_head_dim", Int(128)),
    ("linear_value_head_dim", Int(128)), ("linear_num_key_heads", Int(16)),
    ("linear_num_value_heads", Int(32)), ("moe_intermediate_size", Int(512)),
    ("shared_expert_intermediate_size", Int(512)), ("num_experts_per_tok", Int(10)),
    ("num_experts", Int(512)), ("norm_topk_prob", Bool(true)),
    ("layer_types", Layers(FullEvery("linear_attention", "full_attention_interval", 4))),
];
#[rustfmt::skip]
const QWEN3_VL_TEXT: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_936)), ("max_position_embeddings", Int(128_000)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(22016)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("num_key_value_heads", Int(32)), ("head_dim", Int(128)), ("hidden_act", Text("silu")),
    ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(5000000.0)), ("rope_scaling", Null),
    ("attention_bias", Bool(false)), ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const GEMMA: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(256_000)), ("max_position_embeddings", Int(8192)), ("hidden_size", Int(3072)),
    ("intermediate_size", Int(24576)), ("num_hidden_layers", Int(28)), ("num_attention_heads", Int(16)),
    ("head_dim", Int(256)), ("num_key_value_heads", Int(16)), ("hidden_act", Text("gelu_pytorch_tanh")),
    ("hidden_activation", Null), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("attention_bias", Bool(false)), ("pad_token_id", Int(0)),
];
#[rustfmt::skip]
const GEMMA2: &[(&str, ClassDefault)] = &[
    ("pad_token_id", Int(0)), ("vocab_size", Int(256_000)), ("max_position_embeddings", Int(8192)),
    ("hidden_size", Int(2304)), ("intermediate_size", Int(9216)), ("num_hidden_layers", Int(26)),
    ("num_attention_heads", Int(8)), ("head_dim", Int(256)), ("num_key_value_heads", Int(4)),
    ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)), ("attention_bias", Bool(false)),
    ("hidden_activation", Text("gelu_pytorch_tanh")), ("sliding_window", Int(4096)),
    ("final_logit_softcapping", Float(30.0)), ("attn_logit_softcapping", Float(50.0)),
    ("layer_types", Layers(FullEvery("sliding_attention", "", 2))),
];
#[rustfmt::skip]
const GEMMA3_TEXT: &[(&str, ClassDefault)] = &[
    ("pad_token_id", Int(0)), ("vocab_size", Int(262_208)), ("max_position_embeddings", Int(131_072)),
    ("hidden_size", Int(2304)), ("intermediate_size", Int(9216)), ("num_hidden_layers", Int(26)),
    ("num_attention_heads", Int(8)), ("head_dim", Int(256)), ("num_key_value_heads", Int(4)),
    ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(1000000.0)), ("attention_bias", Bool(false)),
    ("hidden_activation", Text("gelu_pytorch_tanh")), ("sliding_window", Int(4096)),
    ("final_logit_softcapping", Null), ("attn_logit_softcapping", Null),
    ("rope_local_base_freq", Float(10000.0)), ("rope_scaling", Null),
    ("layer_types", Layers(FullEvery("sliding_attention", "sliding_window_pattern", 6))),
];
#[rustfmt::skip]
const PHI: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(51200)), ("hidden_size", Int(2048)), ("intermediate_size", Int(8192)),
    ("num_hidden_layers", Int(24)), ("num_attention_heads", Int(32)), ("hidden_act", Text("gelu_new")),
    ("max_position_embeddings", Int(2048)), ("layer_norm_eps", Float(1e-05)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("partial_rotary_factor", Float(0.5)),
    ("tie_word_embeddings", Bool(false)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const PHI3: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32064)), ("hidden_size", Int(3072)), ("intermediate_size", Int(8192)),
    ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)), ("hidden_act", Text("silu")),
    ("max_position_embeddings", Int(4096)), ("original_max_position_embeddings", Int(4096)),
    ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(10000.0)), ("rope_scaling", Null),
    ("partial_rotary_factor", Float(1.0)), ("sliding_window", Null), ("tie_word_embeddings", Bool(false)),
    ("pad_token_id", Int(32000)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const PHIMOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32064)), ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(6400)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("sliding_window", Null), ("attention_bias", Bool(false)), ("num_key_value_heads", Int(8)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(1000000.0)),
    ("num_experts_per_tok", Int(2)), ("num_local_experts", Int(16)), ("rope_scaling", Null),
    ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const SMOLLM3: &[(&str, ClassDefault)] = &[
    ("pad_token_id", Int(128_004)), ("vocab_size", Int(128_256)), ("max_position_embeddings", Int(32768)),
    ("hidden_size", Int(2048)), ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(36)),
    ("num_attention_heads", Int(16)), ("use_sliding_window", Bool(false)), ("sliding_window", Null),
    ("num_key_value_heads", Int(4)), ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)),
    ("rope_theta", Float(2000000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("no_rope_layers", Layers(Rotated)), ("layer_types", Layers(AllFull)),
];
#[rustfmt::skip]
const GRANITE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("embedding_multiplier", Float(1.0)),
    ("logits_scaling", Float(1.0)), ("residual_multiplier", Float(1.0)),
    ("attention_multiplier", Float(1.0)), ("tie_word_embeddings", Bool(false)),
    ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const GRANITEMOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("embedding_multiplier", Float(1.0)),
    ("logits_scaling", Float(1.0)), ("residual_multiplier", Float(1.0)),
    ("attention_multiplier", Float(1.0)), ("num_local_experts", Int(8)), ("num_experts_per_tok", Int(2)),
    ("tie_word_embeddings", Bool(false)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const GRANITEMOESHARED: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("embedding_multiplier", Float(1.0)),
    ("logits_scaling", Float(1.0)), ("residual_multiplier", Float(1.0)),
    ("attention_multiplier", Float(1.0)), ("num_local_experts", Int(8)), ("num_experts_per_tok", Int(2)),
    ("shared_intermediate_size", Int(0)), ("tie_word_embeddings", Bool(false)),
    ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const GRANITEMOEHYBRID: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("embedding_multiplier", Float(1.0)),
    ("logits_scaling", Float(1.0)), ("residual_multiplier", Float(1.0)),
    ("attention_multiplier", Float(1.0)), ("num_local_experts", Int(8)), ("num_experts_per_tok", Int(2)),
    ("shared_intermediate_size", Int(1024)), ("mamba_expand", Int(2)), ("layer_types", Null),
    ("tie_word_embeddings", Bool(false)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const GPT_OSS: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(201_088)), ("hidden_size", Int(2880)), ("intermediate_size", Int(2880)),
    ("num_hidden_layers", Int(36)), ("num_attention_heads", Int(64)), ("num_local_experts", Int(128)),
    ("sliding_window", Int(128)), ("num_experts_per_tok", Int(4)), ("num_key_value_heads", Int(8)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-05)),
    ("rope_theta", Float(150000.0)), ( "rope_scaling", Members(&[ ("rope_type", Text("yarn")), ("factor", Float(32.0)), ("beta_fast", Float(32.0)), ("beta_slow", Float(1.0)), ("truncate", Bool(false)), ("original_max_position_embeddings", Int(4096)), ]), ),
    ("head_dim", Int(64)), ("attention_bias", Bool(true)), ("max_position_embeddings", Int(131_072)),
    ("tie_word_embeddings", Bool(false)), ("layer_types", Layers(FullEvery("sliding_attention", "", 2))),
];
#[rustfmt::skip]
const DEEPSEEK_V2: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("vocab_size", Int(32000)),
    ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)), ("intermediate_size", Int(11008)),
    ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)), ("hidden_act", Text("silu")),
    ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)), ("rope_scaling", Null),
    ("attention_bias", Bool(false)), ("first_k_dense_replace", Int(0)), ("kv_lora_rank", Int(512)),
    ("q_lora_rank", Int(1536)), ("n_group", Null), ("n_routed_experts", Int(64)),
    ("n_shared_experts", Int(2)), ("qk_nope_head_dim", Int(128)), ("qk_rope_head_dim", Int(64)),
    ("routed_scaling_factor", Float(1.0)), ("topk_group", Null), ("v_head_dim", Int(128)),
    ("num_experts_per_tok", Null), ("norm_topk_prob", Bool(false)), ("moe_intermediate_size", Int(1407)),
    ("num_key_value_heads", Copied("num_attention_heads")), ("head_dim", Copied("qk_rope_head_dim")),
];
#[rustfmt::skip]
const DEEPSEEK_V3: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(129_280)), ("max_position_embeddings", Int(4096)), ("hidden_size", Int(7168)),
    ("intermediate_size", Int(18432)), ("moe_intermediate_size", Int(2048)), ("num_hidden_layers", Int(61)),
    ("num_attention_heads", Int(128)), ("n_shared_experts", Int(1)), ("n_routed_experts", Int(256)),
    ("routed_scaling_factor", Float(2.5)), ("kv_lora_rank", Int(512)), ("q_lora_rank", Int(1536)),
    ("qk_rope_head_dim", Int(64)), ("v_head_dim", Int(128)), ("qk_nope_head_dim", Int(128)),
    ("n_group", Int(8)), ("topk_group", Int(4)), ("num_experts_per_tok", Int(8)),
    ("first_k_dense_replace", Int(3)), ("norm_topk_prob", Bool(true)), ("num_key_value_heads", Int(128)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("tie_word_embeddings", Bool(false)),
    ("head_dim", Copied("qk_rope_head_dim")),
];
#[rustfmt::skip]
const GLM4: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_552)), ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(13696)), ("num_hidden_layers", Int(40)), ("num_attention_heads", Int(32)),
    ("partial_rotary_factor", Float(0.5)), ("head_dim", Int(128)), ("num_key_value_heads", Int(2)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1.5625e-07)), ("rope_theta", Float(10000.0)),
    ("attention_bias", Bool(true)), ("tie_word_embeddings", Bool(false)), ("pad_token_id", Int(151_329)),
];
#[rustfmt::skip]
const GLM4_MOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(151_552)), ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(10944)), ("num_hidden_layers", Int(46)), ("num_attention_heads", Int(96)),
    ("partial_rotary_factor", Float(0.5)), ("num_key_value_heads", Int(8)), ("hidden_act", Text("silu")),
    ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(10000.0)), ("rope_scaling", Null),
    ("attention_bias", Bool(false)), ("moe_intermediate_size", Int(1408)), ("num_experts_per_tok", Int(8)),
    ("n_group", Int(1)), ("topk_group", Int(1)), ("n_shared_experts", Int(1)),
    ("n_routed_experts", Int(128)), ("routed_scaling_factor", Float(1.0)),
    ("first_k_dense_replace", Int(1)), ("norm_topk_prob", Bool(true)), ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const LFM2: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(65536)), ("hidden_size", Int(2560)), ("num_hidden_layers", Int(32)),
    ("rope_theta", Float(1000000.0)), ("max_position_embeddings", Int(128_000)), ("norm_eps", Float(1e-05)),
    ("num_attention_heads", Int(32)), ("num_key_value_heads", Int(8)), ("conv_L_cache", Int(3)),
    ("intermediate_size", Int(12288)), ("block_multiple_of", Int(256)),
    ("block_ffn_dim_multiplier", Float(1.0)), ("block_auto_adjust_ff_dim", Bool(true)),
    ("pad_token_id", Int(0)), ("layer_types", Layers(Short)),
];
#[rustfmt::skip]
const COHERE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(256_000)), ("max_position_embeddings", Int(8192)), ("hidden_size", Int(8192)),
    ("logit_scale", Float(0.0625)), ("intermediate_size", Int(22528)), ("num_hidden_layers", Int(40)),
    ("num_attention_heads", Int(64)), ("hidden_act", Text("silu")), ("layer_norm_eps", Float(1e-05)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("pad_token_id", Int(0)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const COHERE2: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(256_000)), ("max_position_embeddings", Int(8192)), ("hidden_size", Int(8192)),
    ("logit_scale", Float(0.0625)), ("intermediate_size", Int(22528)), ("num_hidden_layers", Int(40)),
    ("num_attention_heads", Int(64)), ("hidden_act", Text("silu")), ("layer_norm_eps", Float(1e-05)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("sliding_window", Int(4096)), ("pad_token_id", Int(0)),
    ("num_key_value_heads", Copied("num_attention_heads")),
    ("head_dim", Ratio("hidden_size", "num_attention_heads")),
    ("layer_types", Layers(FullEvery("sliding_attention", "sliding_window_pattern", 4))),
];
#[rustfmt::skip]
const STARCODER2: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(49152)), ("max_position_embeddings", Int(4096)), ("hidden_size", Int(3072)),
    ("intermediate_size", Int(12288)), ("num_hidden_layers", Int(30)), ("num_attention_heads", Int(24)),
    ("sliding_window", Null), ("num_key_value_heads", Int(2)), ("hidden_act", Text("gelu_pytorch_tanh")),
    ("norm_epsilon", Float(1e-05)), ("rope_theta", Float(10000.0)), ("rope_scaling", Null),
];
#[rustfmt::skip]
const GPT_NEOX: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("vocab_size", Int(50432)),
    ("max_position_embeddings", Int(2048)), ("hidden_size", Int(6144)), ("num_hidden_layers", Int(44)),
    ("num_attention_heads", Int(64)), ("intermediate_size", Int(24576)), ("hidden_act", Text("gelu")),
    ("rotary_pct", Float(0.25)), ("rotary_emb_base", Int(10000)), ("layer_norm_eps", Float(1e-05)),
    ("use_parallel_residual", Bool(true)), ("rope_scaling", Null), ("attention_bias", Bool(true)),
    ("partial_rotary_factor", Copied("rotary_pct")), ("rope_theta", Copied("rotary_emb_base")),
];
#[rustfmt::skip]
const GPT2: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(50257)), ("n_positions", Int(1024)), ("n_embd", Int(768)), ("n_layer", Int(12)),
    ("n_head", Int(12)), ("n_inner", Null), ("activation_function", Text("gelu_new")),
    ("layer_norm_epsilon", Float(1e-05)),
];
#[rustfmt::skip]
const FALCON: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(65024)), ("hidden_size", Int(4544)), ("num_hidden_layers", Int(32)),
    ("num_attention_heads", Int(71)), ("layer_norm_epsilon", Float(1e-05)),
    ("max_position_embeddings", Int(2048)), ("rope_theta", Float(10000.0)), ("rope_scaling", Null),
    ("num_kv_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const STABLELM: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(50304)), ("max_position_embeddings", Int(4096)), ("hidden_size", Int(2560)),
    ("intermediate_size", Int(6912)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("num_key_value_heads", Int(32)), ("hidden_act", Text("silu")), ("layer_norm_eps", Float(1e-05)),
    ("rope_theta", Int(10000)), ("rope_scaling", Null), ("use_parallel_residual", Bool(false)),
    ("partial_rotary_factor", Float(0.25)), ("tie_word_embeddings", Bool(false)),
];
#[rustfmt::skip]
const OLMO: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(50304)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("hidden_act", Text("silu")), ("rope_theta", Float(10000.0)), ("rope_scaling", Null),
    ("attention_bias", Bool(false)), ("clip_qkv", Null), ("tie_word_embeddings", Bool(false)),
    ("pad_token_id", Int(1)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const OLMO2: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("pad_token_id", Int(1)), ("vocab_size", Int(50304)),
    ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)), ("intermediate_size", Int(11008)),
    ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)), ("hidden_act", Text("silu")),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("rms_norm_eps", Float(1e-05)), ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const OLMO3: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("pad_token_id", Int(1)), ("vocab_size", Int(50304)),
    ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)), ("intermediate_size", Int(11008)),
    ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)), ("hidden_act", Text("silu")),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("rms_norm_eps", Float(1e-05)), ("sliding_window", Int(4096)),
    ("num_key_value_heads", Copied("num_attention_heads")),
    ("layer_types", Layers(FullEvery("sliding_attention", "", 4))),
];
#[rustfmt::skip]
const OLMOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(50304)), ("max_position_embeddings", Int(4096)), ("hidden_size", Int(2048)),
    ("intermediate_size", Int(2048)), ("num_hidden_layers", Int(16)), ("num_attention_heads", Int(16)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("clip_qkv", Null),
    ("num_experts_per_tok", Int(8)), ("num_experts", Int(64)), ("norm_topk_prob", Bool(false)),
    ("tie_word_embeddings", Bool(false)), ("pad_token_id", Int(1)),
    ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const EXAONE4: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(102_400)), ("hidden_size", Int(4096)), ("num_hidden_layers", Int(32)),
    ("num_attention_heads", Int(32)), ("num_key_value_heads", Int(32)), ("intermediate_size", Int(16384)),
    ("hidden_act", Text("silu")), ("max_position_embeddings", Int(2048)), ("rms_norm_eps", Float(1e-05)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("sliding_window", Int(4096)),
    ("sliding_window_pattern", Int(4)), ("tie_word_embeddings", Bool(false)),
    ("layer_types", Layers(FullEvery("sliding_attention", "sliding_window_pattern", 4))),
];
#[rustfmt::skip]
const HUNYUAN_V1_DENSE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(290_943)), ("max_position_embeddings", Int(2048)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(11008)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("head_dim", Null), ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-05)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(false)),
    ("tie_word_embeddings", Bool(false)), ("pad_token_id", Int(0)),
    ("num_key_value_heads", Copied("num_attention_heads")),
];
#[rustfmt::skip]
const MINIMAX: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("vocab_size", Int(32000)),
    ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(14336)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)),
    ("sliding_window", Null), ("num_key_value_heads", Int(8)), ("hidden_act", Text("silu")),
    ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(1000000.0)), ("head_dim", Null),
    ("num_experts_per_tok", Int(2)), ("num_local_experts", Int(8)), ("block_size", Int(256)),
];
#[rustfmt::skip]
const LLAMA4_TEXT: &[(&str, ClassDefault)] = &[
    ("tie_word_embeddings", Bool(false)), ("vocab_size", Int(202_048)),
    ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(5120)), ("intermediate_size", Int(8192)),
    ("intermediate_size_mlp", Int(16384)), ("num_hidden_layers", Int(48)), ("num_attention_heads", Int(40)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("num_key_value_heads", Int(8)),
    ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-05)), ("rope_theta", Int(500_000)),
    ("head_dim", Int(128)), ("num_experts_per_tok", Int(1)), ("num_local_experts", Int(16)),
    ("no_rope_layers", Layers(Rotated)), ("interleave_moe_layer_step", Int(1)),
    ("layer_types", Layers(Chunked)),
];
#[rustfmt::skip]
const BERT: &[(&str, ClassDefault)] = &[
    ("pad_token_id", Int(0)), ("vocab_size", Int(30522)), ("hidden_size", Int(768)),
    ("num_hidden_layers", Int(12)), ("num_attention_heads", Int(12)), ("hidden_act", Text("gelu")),
    ("intermediate_size", Int(3072)), ("max_position_embeddings", Int(512)), ("type_vocab_size", Int(2)),
    ("layer_norm_eps", Float(1e-12)),
];
#[rustfmt::skip]
const ROBERTA: &[(&str, ClassDefault)] = &[
    ("pad_token_id", Int(1)), ("vocab_size", Int(50265)), ("hidden_size", Int(768)),
    ("num_hidden_layers", Int(12)), ("num_attention_heads", Int(12)), ("hidden_act", Text("gelu")),
    ("intermediate_size", Int(3072)), ("max_position_embeddings", Int(512)), ("type_vocab_size", Int(2)),
    ("layer_norm_eps", Float(1e-12)),
];
#[rustfmt::skip]
const XLM_ROBERTA: &[(&str, ClassDefault)] = &[
    ("pad_token_id", Int(1)), ("vocab_size", Int(30522)), ("hidden_size", Int(768)),
    ("num_hidden_layers", Int(12)), ("num_attention_heads", Int(12)), ("hidden_act", Text("gelu")),
    ("intermediate_size", Int(3072)), ("max_position_embeddings", Int(512)), ("type_vocab_size", Int(2)),
    ("layer_norm_eps", Float(1e-12)),
];
#[rustfmt::skip]
const DISTILBERT: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(30522)), ("max_position_embeddings", Int(512)), ("n_layers", Int(6)),
    ("n_heads", Int(12)), ("dim", Int(768)), ("hidden_dim", Int(3072)), ("pad_token_id", Int(0)),
];
#[rustfmt::skip]
const T5: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32128)), ("d_model", Int(512)), ("d_kv", Int(64)), ("d_ff", Int(2048)),
    ("num_layers", Int(6)), ("num_decoder_layers", Copied("num_layers")), ("num_heads", Int(8)),
    ("relative_attention_num_buckets", Int(32)), ("layer_norm_epsilon", Float(1e-06)),
    ("pad_token_id", Int(0)),
];
#[rustfmt::skip]
const NEMOTRON: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(256_000)), ("max_position_embeddings", Int(4096)), ("hidden_size", Int(6144)),
    ("intermediate_size", Int(24576)), ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(48)),
    ("num_key_value_heads", Null), ("hidden_act", Text("relu2")), ("norm_eps", Float(1e-05)),
    ("rope_theta", Float(10000.0)), ("partial_rotary_factor", Float(0.5)), ("attention_bias", Bool(false)),
    ("tie_word_embeddings", Bool(false)), ("head_dim", Ratio("hidden_size", "num_attention_heads")),
];
#[rustfmt::skip]
const SEED_OSS: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(155_136)), ("max_position_embeddings", Int(524_288)), ("hidden_size", Int(4096)),
    ("intermediate_size", Int(27648)), ("num_hidden_layers", Int(64)), ("num_attention_heads", Int(80)),
    ("num_key_value_heads", Int(8)), ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-06)),
    ("rope_theta", Float(10000.0)), ("rope_scaling", Null), ("attention_bias", Bool(true)),
    ("head_dim", Int(128)), ("tie_word_embeddings", Bool(false)), ("pad_token_id", Int(1)),
];
#[rustfmt::skip]
const ERNIE4_5: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(103_424)), ("max_position_embeddings", Int(131_072)), ("hidden_size", Int(1024)),
    ("intermediate_size", Int(3072)), ("num_hidden_layers", Int(18)), ("num_attention_heads", Int(16)),
    ("num_key_value_heads", Int(2)), ("hidden_act", Text("silu")), ("rms_norm_eps", Float(1e-05)),
    ("rope_theta", Float(500000.0)), ("rope_scaling", Null), ("head_dim", Int(128)),
    ("pad_token_id", Int(0)),
];
#[rustfmt::skip]
const ERNIE4_5_MOE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(103_424)), ("hidden_size", Int(2560)), ("intermediate_size", Int(12288)),
    ("num_hidden_layers", Int(28)), ("num_attention_heads", Int(20)), ("num_key_value_heads", Int(4)),
    ("hidden_act", Text("silu")), ("max_position_embeddings", Int(131_072)), ("rms_norm_eps", Float(1e-05)),
    ("rope_theta", Float(500000.0)), ("rope_scaling", Null), ("moe_intermediate_size", Int(1536)),
    ("moe_k", Int(6)), ("moe_num_experts", Int(64)), ("moe_num_shared_experts", Int(2)),
    ("moe_layer_start_index", Int(1)), ("moe_layer_interval", Int(1)), ("pad_token_id", Int(0)),
];
#[rustfmt::skip]
const MAMBA2: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32768)), ("hidden_size", Int(4096)), ("state_size", Int(128)),
    ("num_hidden_layers", Int(64)), ("layer_norm_epsilon", Float(1e-05)), ("conv_kernel", Int(4)),
    ("expand", Int(2)), ("pad_token_id", Int(1)), ("hidden_act", Text("silu")),
    ("time_step_rank", Int(256)), ("n_groups", Int(8)), ("num_heads", Int(128)), ("head_dim", Int(64)),
    ("tie_word_embeddings", Bool(false)),
];

#[rustfmt::skip]
const ARCEE: &[(&str, ClassDefault)] = &[
    ("vocab_size", Int(32000)), ("hidden_size", Int(2560)), ("intermediate_size", Int(18432)),
    ("num_hidden_layers", Int(32)), ("num_attention_heads", Int(32)), ("hidden_act", Text("relu2")),
    ("max_position_embeddings", Int(4096)), ("rms_norm_eps", Float(1e-05)), ("rope_theta", Float(10000.0)),
    ("rope_scaling", Null), ("attention_bias", Bool(false)), ("tie_word_embeddings", Bool(false)),
    ("num_key_value_heads", Copied("num_attention_heads")),
    ("head_dim", Ratio("hidden_size", "num_attention_heads")),
];

/// Defaults of the base class, under those of the classes.
pub(super) const COMMON: &[(&str, ClassDefault)] =
    &[("max_length", Int(20)), ("tie_word_embeddings", Bool(true)), ("pad_token_id", Null)];

/// The defaults of each `model_type`.
#[rustfmt::skip]
pub(super) const CLASSES: &[(&str, &[(&str, ClassDefault)])] = &[
    ("llama", LLAMA), ("mistral", MISTRAL), ("mixtral", MIXTRAL), ("qwen2", QWEN2),
    ("qwen2_moe", QWEN2_MOE), ("qwen3", QWEN3), ("qwen3_moe", QWEN3_MOE), ("qwen3_next", QWEN3_NEXT),
    ("qwen3_vl_text", QWEN3_VL_TEXT), ("gemma", GEMMA), ("gemma2", GEMMA2), ("gemma3_text", GEMMA3_TEXT),
    ("phi", PHI), ("phi3", PHI3), ("phimoe", PHIMOE), ("smollm3", SMOLLM3), ("granite", GRANITE),
    ("granitemoe", GRANITEMOE), ("granitemoeshared", GRANITEMOESHARED),
    ("granitemoehybrid", GRANITEMOEHYBRID), ("gpt_oss", GPT_OSS), ("deepseek_v2", DEEPSEEK_V2),
    ("deepseek_v3", DEEPSEEK_V3), ("glm4", GLM4), ("glm4_moe", GLM4_MOE), ("lfm2", LFM2),
    ("cohere", COHERE), ("cohere2", COHERE2), ("starcoder2", STARCODER2), ("gpt_neox", GPT_NEOX),
    ("gpt2", GPT2), ("falcon", FALCON), ("stablelm", STABLELM), ("olmo", OLMO), ("olmo2", OLMO2),
    ("olmo3", OLMO3), ("olmoe", OLMOE), ("exaone4", EXAONE4), ("hunyuan_v1_dense", HUNYUAN_V1_DENSE),
    ("minimax", MINIMAX), ("llama4_text", LLAMA4_TEXT), ("bert", BERT), ("roberta", ROBERTA),
    ("xlm-roberta", XLM_ROBERTA), ("distilbert", DISTILBERT), ("t5", T5), ("nemotron", NEMOTRON),
    ("seed_oss", SEED_OSS), ("ernie4_5", ERNIE4_5), ("ernie4_5_moe", ERNIE4_5_MOE), ("mamba2", MAMBA2),
    ("arcee", ARCEE),
];
