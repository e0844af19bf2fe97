//! Architectures with norms after the branches: their gains lie on the stream's own axes, and no rotation is exact.

use super::gguf_rules::{self, Generated, GgufRules, HeadRule};
use super::llama_like::{ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LLAMA_LIKE, ROTATION};
use super::mlx_names;
use super::module::Module as M;
use super::row::{TensorMapRow, layer};
use super::{Arch, ConfigDefaults, GgufValues, NormForm, RotationFacts, SlidingLayers};
use crate::model::config::Activation;
use crate::model::forward::spec::{
    ATTENTION as PLAIN_ATTENTION, Attention, FeedForward, ForwardSpec, NORMED, Norm, NormPlaces, PLAIN,
    Rotary,
};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tokenizer::rules as tokenizer;

const AFTER: &[TensorMapRow] = &[
    layer(M::AttnPostNorm, "post_attention_layernorm"),
    layer(M::FfnPostNorm, "post_feedforward_layernorm"),
];
/// Gemma's norms before the branches.
pub(super) const GEMMA_NORMS: &[TensorMapRow] =
    &[layer(M::AttnNorm, "input_layernorm"), layer(M::FfnNorm, "pre_feedforward_layernorm")];
const GLM4_ROWS: &[TensorMapRow] = &[
    layer(M::AttnNorm, "input_layernorm"),
    layer(M::FfnNorm, "post_attention_layernorm"),
    layer(M::FfnUp, "mlp.gate_up_proj"),
    layer(M::FfnDown, "mlp.down_proj"),
    layer(M::AttnPostNorm, "post_self_attn_layernorm"),
    layer(M::FfnPostNorm, "post_mlp_layernorm"),
];

/// Norms before and after the branches.
pub(super) const PRE_POST: Arch = Arch {
    rotation: Some(RotationFacts { refused: Some("gains on the outputs of the branches"), ..ROTATION }),
    forward: None,
    ..LLAMA_LIKE
};
/// Norms after the branches only.
const POST_ONLY: Arch = Arch { tensors: &[ENDS, AFTER, ATTENTION, DENSE, HEAD_NORMS], ..PRE_POST };
/// Post-norm layers with queries and keys that are normalised over all heads.
const OLMO_PASS: ForwardSpec = ForwardSpec {
    norms: NormPlaces::After,
    attention: Attention { head_norms: true, joint_norms: true, ..PLAIN_ATTENTION },
    ..PLAIN
};
const GEMMA_CONFIG: ConfigDefaults = ConfigDefaults {
    tied: true,
    query_scalar: Some(256.0),
    gelu: Activation::GeluTanh,
    activation: Activation::GeluTanh,
    ..CONFIG
};
const GEMMA_PASS: ForwardSpec =
    ForwardSpec { norm: Norm::Rms(1.0), norms: NormPlaces::Both, scaled_embedding: true, ..PLAIN };

const GEMMA2: Arch = Arch {
    mlx: Some(mlx_names::TIED),
    tokenizer: tokenizer::GEMMA,
    gguf_keys: &[keys::GEMMA, keys::GEMMA2],
    gguf_rules: GgufRules { head: HeadRule::Dropped, ..gguf_rules::PLAIN },
    name: "gemma2",
    model_types: &["gemma2"],
    gguf: Some("gemma2"),
    gguf_values: GgufValues::Plain,
    tensors: &[ENDS, GEMMA_NORMS, AFTER, ATTENTION, DENSE],
    norm_form: NormForm::OnePlusGain,
    config: ConfigDefaults { sliding: SlidingLayers::Even, softcaps: Some((50.0, 30.0)), ..GEMMA_CONFIG },
    forward: Some(GEMMA_PASS),
    ..PRE_POST
};

pub(super) const GEMMA3: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::GEMMA3,
    gguf_keys: &[keys::GEMMA3_BEFORE, BASE, keys::GEMMA3],
    gguf_rules: gguf_rules::PLAIN,
    name: "gemma3",
    model_types: &["gemma3_text"],
    gguf: Some("gemma3"),
    tensors: &[ENDS, GEMMA_NORMS, AFTER, ATTENTION, DENSE, HEAD_NORMS],
    config: ConfigDefaults {
        sliding: SlidingLayers::AllBut(6),
        rope_theta: 1_000_000.0,
        local_theta: Some(10_000.0),
        ..GEMMA_CONFIG
    },
    forward: Some(ForwardSpec {
        attention: Attention { head_norms: true, local_rope: true, ..PLAIN_ATTENTION },
        ..GEMMA_PASS
    }),
    ..GEMMA2
};

const GLM4: Arch = Arch {
    mlx: Some(mlx_names::UNTIED),
    tokenizer: tokenizer::GLM4,
    gguf_keys: &[BASE, keys::GLM4],
    gguf_rules: gguf_rules::PLAIN,
    name: "glm4",
    model_types: &["glm4"],
    gguf: Some("glm4"),
    tensors: &[ENDS, ATTENTION, GLM4_ROWS],
    config: ConfigDefaults { rotary_share: 0.5, ..CONFIG },
    forward: Some(ForwardSpec {
        norms: NormPlaces::Both,
        attention: Attention { rotary: Rotary::Pairs, ..PLAIN_ATTENTION },
        feed: FeedForward::Joined,
        ..PLAIN
    }),
    ..PRE_POST
};

const OLMO2: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_keys: &[BASE, keys::WINDOWED],
    gguf_rules: gguf_rules::PLAIN,
    name: "olmo2",
    model_types: &["olmo2"],
    gguf: Some("olmo2"),
    forward: Some(OLMO_PASS),
    ..POST_ONLY
};
const OLMO3: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_keys: &[BASE, keys::WINDOWED],
    gguf_rules: gguf_rules::PLAIN,
    name: "olmo3",
    model_types: &["olmo3"],
    gguf: Some("olmo2"),
    config: ConfigDefaults { sliding: SlidingLayers::AllBut(4), ..CONFIG },
    forward: Some(ForwardSpec {
        attention: Attention { local_rope: true, ..OLMO_PASS.attention },
        ..OLMO_PASS
    }),
    ..POST_ONLY
};
const EXAONE4: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_keys: &[BASE, keys::EXAONE4, keys::WINDOWED],
    gguf_rules: GgufRules { generated: Generated::RopeFreqs(16), ..gguf_rules::PLAIN },
    name: "exaone4",
    model_types: &["exaone4"],
    gguf: Some("exaone4"),
    config: ConfigDefaults { sliding: SlidingLayers::AllBut(4), ..CONFIG },
    forward: Some(ForwardSpec {
        norms: NormPlaces::After,
        attention: Attention { unrotated_full: true, ..NORMED },
        ..PLAIN
    }),
    ..POST_ONLY
};

pub(super) const ALL: &[&Arch] = &[&GEMMA2, &GEMMA3, &GLM4, &OLMO2, &OLMO3, &EXAONE4];
