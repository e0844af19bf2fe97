//! Llama, and architectures with its stream and a dense feed-forward part.

use super::gguf_rules::{self, BeyondRule, Generated, GgufRules, HeadRule};
use super::mlx_names;
use super::module::Module as M;
use super::row::{TensorMapRow, layer, root};
use super::{
    Arch, ConfigDefaults, GgufValues, MtpLocation, NormForm, Prefix, RecipeFacts, RotationFacts,
    SharedValues, SlidingLayers, ValueLayout,
};
use crate::model::config::Activation;
use crate::model::forward::spec::{
    ATTENTION as PLAIN_ATTENTION, Attention, FeedForward, ForwardSpec, NORMED, Norm, PLAIN, QkvProjection,
    Rotary,
};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tokenizer::rules as tokenizer;

/// Embedding, last norm, head.
pub(super) const ENDS: &[TensorMapRow] =
    &[root(M::TokenEmbd, "embed_tokens"), root(M::OutputNorm, "norm"), root(M::Output, "lm_head")];
/// Norms before the branches.
pub(super) const NORMS: &[TensorMapRow] =
    &[layer(M::AttnNorm, "input_layernorm"), layer(M::FfnNorm, "post_attention_layernorm")];
/// The same where the GGUF calls the second one by its Hugging Face name.
pub(super) const POST_NORMS: &[TensorMapRow] = &[
    layer(M::AttnNorm, "input_layernorm"),
    layer(M::FfnNorm, "post_attention_layernorm").gguf(&["blk.post_attention_norm"]),
];
/// Separate query, key and value projections.
pub(super) const ATTENTION: &[TensorMapRow] = &[
    layer(M::AttnQ, "self_attn.q_proj"),
    layer(M::AttnK, "self_attn.k_proj"),
    layer(M::AttnV, "self_attn.v_proj"),
    layer(M::AttnOutput, "self_attn.o_proj"),
];
/// A gated feed-forward part for every token.
pub(super) const DENSE: &[TensorMapRow] =
    &[layer(M::FfnGate, "mlp.gate_proj"), layer(M::FfnUp, "mlp.up_proj"), layer(M::FfnDown, "mlp.down_proj")];
/// Norms of queries and keys, in the space of the heads.
pub(super) const HEAD_NORMS: &[TensorMapRow] =
    &[layer(M::AttnQNorm, "self_attn.q_norm"), layer(M::AttnKNorm, "self_attn.k_norm")];

const PHI3_LAYERS: &[TensorMapRow] = &[
    layer(M::AttnQkv, "self_attn.qkv_proj"),
    layer(M::AttnOutput, "self_attn.o_proj"),
    layer(M::FfnUp, "mlp.gate_up_proj"),
    layer(M::FfnDown, "mlp.down_proj"),
];

const HUNYUAN_NORMS: &[TensorMapRow] =
    &[layer(M::AttnQNorm, "self_attn.query_layernorm"), layer(M::AttnKNorm, "self_attn.key_layernorm")];

/// The last norm is called after the embedding, and stands before the head.
pub(super) const LFM2_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embed_tokens"),
    root(M::OutputNorm, "embedding_norm").gguf(&["token_embd_norm"]),
    root(M::Output, "lm_head"),
    layer(M::AttnNorm, "operator_norm"),
    layer(M::FfnNorm, "ffn_norm"),
    layer(M::AttnQ, "self_attn.q_proj"),
    layer(M::AttnK, "self_attn.k_proj"),
    layer(M::AttnV, "self_attn.v_proj"),
    layer(M::AttnOutput, "self_attn.out_proj"),
    layer(M::AttnQNorm, "self_attn.q_layernorm"),
    layer(M::AttnKNorm, "self_attn.k_layernorm"),
    layer(M::ShortConvIn, "conv.in_proj"),
    layer(M::ShortConvOut, "conv.out_proj"),
    layer(M::ShortConv, "conv.conv"),
    layer(M::FfnGate, "feed_forward.w1"),
    layer(M::FfnUp, "feed_forward.w3"),
    layer(M::FfnDown, "feed_forward.w2"),
];

/// The prefixes of decoders, alone and inside of multi-modal models.
pub(super) const PREFIXES: &[Prefix] = &[
    Prefix::decoder("model."),
    Prefix::decoder("model.language_model."),
    Prefix { decoder: "language_model.model.", head: "language_model." },
    Prefix::decoder(""),
];

/// No default differs from what most configurations say.
pub(super) const CONFIG: ConfigDefaults = ConfigDefaults {
    tied: false,
    rotary_share: 1.0,
    normalised_experts: false,
    sliding: SlidingLayers::Configured,
    unrotated_every: None,
    logit_scale: None,
    softcaps: None,
    query_scalar: None,
    attention_multiplier: None,
    rope_theta: 10_000.0,
    dynamic_alpha: false,
    local_theta: None,
    gelu: Activation::Gelu,
    activation: Activation::Silu,
    norm_eps: 1e-6,
    head_norms: false,
    chunk: None,
    temperature: None,
    required: &[],
};

/// Nothing that presets treat in their own way.
pub(super) const RECIPE: RecipeFacts = RecipeFacts { falcon: false, shared_values: None };

/// The recipe facts of architectures with an 80-layer model that shares values.
pub(super) const SHARED_80: RecipeFacts =
    RecipeFacts { shared_values: Some(SharedValues { layers: 80, grouped: false }), ..RECIPE };

/// Any rotation of the stream is exact, and any of plain values.
pub(super) const ROTATION: RotationFacts = RotationFacts {
    layer_norm: false,
    refused: None,
    values: ValueLayout::Plain,
    values_refused: None,
    mtp: MtpLocation::None,
    required: &[],
};

/// Llama: every other architecture is given by its differences.
pub(super) const LLAMA: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::LLAMA,
    gguf_keys: &[BASE, keys::LLAMA],
    gguf_rules: gguf_rules::LLAMA,
    name: "llama",
    model_types: &["llama"],
    gguf: Some("llama"),
    prefixes: PREFIXES,
    tensors: &[ENDS, NORMS, ATTENTION, DENSE],
    outside: &[],
    norm_form: NormForm::Gain,
    gguf_values: GgufValues::InterleavedQk,
    config: CONFIG,
    recipe: RecipeFacts { shared_values: Some(SharedValues { layers: 80, grouped: true }), ..RECIPE },
    rotation: Some(ROTATION),
    forward: Some(PLAIN),
    gguf_stacks: None,
};

/// A Llama under another GGUF name: whether the converter interleaves its queries is not known.
pub(super) const LLAMA_LIKE: Arch = Arch {
    mlx: None,
    tokenizer: tokenizer::BPE,
    gguf_keys: &[BASE],
    gguf_rules: gguf_rules::UNKNOWN,
    gguf: None,
    gguf_values: GgufValues::Unknown,
    recipe: RECIPE,
    ..LLAMA
};

const MISTRAL: Arch = Arch {
    tokenizer: tokenizer::LLAMA,
    name: "mistral",
    model_types: &["mistral"],
    config: ConfigDefaults { sliding: SlidingLayers::All, ..CONFIG },
    ..LLAMA
};

const GRANITE: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::LLAMA,
    gguf_keys: &[keys::GRANITE_BEFORE, BASE, keys::LLAMA, keys::GRANITE],
    gguf_rules: GgufRules { generated: Generated::None, ..gguf_rules::PERMUTED },
    name: "granite",
    config: ConfigDefaults { attention_multiplier: Some(1.0), ..CONFIG },
    model_types: &["granite"],
    gguf: Some("granite"),
    ..LLAMA_LIKE
};

const SMOLLM3: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::LLAMA,
    gguf_keys: &[BASE, keys::LLAMA],
    gguf_rules: gguf_rules::PERMUTED,
    name: "smollm3",
    model_types: &["smollm3"],
    gguf: Some("smollm3"),
    config: ConfigDefaults { tied: true, unrotated_every: Some(4), ..CONFIG },
    ..LLAMA_LIKE
};

const SEED_OSS: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_rules: gguf_rules::PLAIN,
    name: "seed_oss",
    model_types: &["seed_oss"],
    gguf: Some("seed_oss"),
    tensors: &[ENDS, POST_NORMS, ATTENTION, DENSE],
    ..LLAMA_LIKE
};

const ERNIE4_5: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::ERNIE,
    gguf_rules: GgufRules { beyond: BeyondRule::Dropped, ..gguf_rules::PLAIN },
    name: "ernie4_5",
    model_types: &["ernie4_5"],
    gguf: Some("ernie4_5"),
    config: ConfigDefaults { tied: true, ..CONFIG },
    forward: Some(ForwardSpec { attention: Attention { rotary: Rotary::Pairs, ..PLAIN_ATTENTION }, ..PLAIN }),
    ..LLAMA_LIKE
};

const HUNYUAN: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::HUNYUAN,
    gguf_keys: &[BASE, keys::HUNYUAN],
    gguf_rules: GgufRules { head: HeadRule::DroppedWhenTied, ..gguf_rules::PLAIN },
    name: "hunyuan",
    model_types: &["hunyuan_v1_dense"],
    gguf: Some("hunyuan-dense"),
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, HUNYUAN_NORMS],
    config: ConfigDefaults { dynamic_alpha: true, ..CONFIG },
    forward: Some(ForwardSpec { attention: Attention { norms_after_rotary: true, ..NORMED }, ..PLAIN }),
    ..LLAMA_LIKE
};

pub(super) const QWEN2: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_keys: &[BASE, keys::POOLED],
    gguf_rules: gguf_rules::PLAIN,
    name: "qwen2",
    model_types: &["qwen2"],
    gguf: Some("qwen2"),
    gguf_values: GgufValues::Plain,
    recipe: SHARED_80,
    ..LLAMA_LIKE
};

pub(super) const QWEN3: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_keys: &[BASE, keys::POOLED],
    gguf_rules: gguf_rules::PLAIN,
    name: "qwen3",
    model_types: &["qwen3"],
    gguf: Some("qwen3"),
    gguf_values: GgufValues::Plain,
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, HEAD_NORMS],
    forward: Some(ForwardSpec { attention: NORMED, ..PLAIN }),
    ..LLAMA_LIKE
};

const GEMMA: Arch = Arch {
    mlx: Some(mlx_names::TIED),
    tokenizer: tokenizer::GEMMA1,
    gguf_keys: &[keys::GEMMA],
    gguf_rules: GgufRules { head: HeadRule::Dropped, ..gguf_rules::PLAIN },
    name: "gemma",
    model_types: &["gemma"],
    gguf: Some("gemma"),
    gguf_values: GgufValues::Plain,
    norm_form: NormForm::OnePlusGain,
    // The configuration of Gemma 1 says "gelu" and means the approximation.
    config: ConfigDefaults {
        tied: true,
        gelu: Activation::GeluTanh,
        activation: Activation::GeluTanh,
        ..CONFIG
    },
    forward: Some(ForwardSpec { norm: Norm::Rms(1.0), scaled_embedding: true, ..PLAIN }),
    ..LLAMA_LIKE
};

const PHI3: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::PHI3,
    gguf_keys: &[keys::PHI3],
    gguf_rules: GgufRules { generated: Generated::RopeFactors, ..gguf_rules::PLAIN },
    name: "phi3",
    model_types: &["phi3"],
    gguf: Some("phi3"),
    gguf_values: GgufValues::Plain,
    tensors: &[ENDS, NORMS, PHI3_LAYERS],
    config: ConfigDefaults { sliding: SlidingLayers::All, ..CONFIG },
    rotation: Some(RotationFacts { values: ValueLayout::Stacked, ..ROTATION }),
    forward: Some(ForwardSpec {
        attention: Attention { inputs: QkvProjection::Joined, ..PLAIN_ATTENTION },
        feed: FeedForward::Joined,
        ..PLAIN
    }),
    ..LLAMA_LIKE
};

const LFM2: Arch = Arch {
    gguf_keys: &[BASE, keys::LFM2],
    gguf_rules: gguf_rules::PLAIN,
    name: "lfm2",
    model_types: &["lfm2"],
    gguf: Some("lfm2"),
    tensors: &[LFM2_ROWS],
    config: ConfigDefaults { tied: true, rope_theta: 1_000_000.0, ..CONFIG },
    forward: Some(ForwardSpec { attention: NORMED, convolution: true, ..PLAIN }),
    ..LLAMA_LIKE
};

pub(super) const ALL: &[&Arch] = &[
    &LLAMA, &MISTRAL, &GRANITE, &SMOLLM3, &SEED_OSS, &ERNIE4_5, &HUNYUAN, &QWEN2, &QWEN3, &GEMMA, &PHI3,
    &LFM2,
];
