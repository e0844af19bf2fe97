//! Architectures with linear attention beside full attention, whose outputs pass a gate.

use super::gguf_rules;
use super::llama_like::{ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LLAMA_LIKE, POST_NORMS, ROTATION};
use super::module::Module as M;
use super::moe::{EXPERTS, NEXTN, SHARED_EXPERT};
use super::row::{StreamSide, TensorMapRow, layer, root, within};
use super::{Arch, ConfigDefaults, MtpLocation, NormForm, RotationFacts};
use crate::model::forward::spec::{
    Attention, DeltaProjections, ForwardSpec, NORMED, Norm, PLAIN, WITH_SHARED,
};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tensor_id::TensorPart::{Bare, Bias};

/// The norm inside has a gain of its own form, and no part in the stream.
const LINEAR: &[TensorMapRow] = &[
    layer(M::SsmOut, "linear_attn.out_proj"),
    layer(M::SsmNorm, "linear_attn.norm"),
    layer(M::SsmConv1d, "linear_attn.conv1d"),
    layer(M::SsmA, "linear_attn.A_log").tensor(Bare),
    layer(M::SsmDt, "linear_attn.dt_bias").tensor(Bias),
];
const FUSED: &[TensorMapRow] =
    &[layer(M::SsmQkvz, "linear_attn.in_proj_qkvz"), layer(M::SsmBa, "linear_attn.in_proj_ba")];
const SPLIT: &[TensorMapRow] = &[
    layer(M::AttnQkv, "linear_attn.in_proj_qkv"),
    layer(M::AttnGate, "linear_attn.in_proj_z"),
    layer(M::SsmBeta, "linear_attn.in_proj_b"),
    layer(M::SsmAlpha, "linear_attn.in_proj_a"),
];

const BLOCKS: &str = "model.visual.blocks";
/// The vision tower; the last layer of its merger writes the stream.
const VISION: &[TensorMapRow] = &[
    root(M::Vision, "model.visual.merger.linear_fc2").side(StreamSide::Writes),
    root(M::Vision, "model.visual.merger.norm"),
    root(M::Vision, "model.visual.merger.linear_fc1"),
    root(M::Vision, "model.visual.patch_embed.proj"),
    root(M::Vision, "model.visual.pos_embed"),
    within(BLOCKS, M::Vision, "norm1"),
    within(BLOCKS, M::Vision, "norm2"),
    within(BLOCKS, M::Vision, "attn.qkv"),
    within(BLOCKS, M::Vision, "attn.proj"),
    within(BLOCKS, M::Vision, "mlp.linear_fc1"),
    within(BLOCKS, M::Vision, "mlp.linear_fc2"),
];

const GATED: Arch = Arch {
    norm_form: NormForm::OnePlusGain,
    config: ConfigDefaults { rotary_share: 0.25, ..CONFIG },
    rotation: Some(RotationFacts {
        values_refused: Some("a sigmoid gate on each channel of the attention's output"),
        mtp: MtpLocation::Module,
        ..ROTATION
    }),
    forward: Some(ForwardSpec {
        norm: Norm::Rms(1.0),
        attention: Attention { gated: true, ..NORMED },
        delta: Some(DeltaProjections::Separate),
        ..PLAIN
    }),
    ..LLAMA_LIKE
};

const WITH_EXPERTS: ConfigDefaults = ConfigDefaults { normalised_experts: true, ..GATED.config };

const QWEN3_NEXT: Arch = Arch {
    gguf_rules: gguf_rules::QWEN3_NEXT,
    name: "qwen3_next",
    model_types: &["qwen3_next"],
    gguf: Some("qwen3next"),
    tensors: &[ENDS, POST_NORMS, ATTENTION, FUSED, LINEAR, DENSE, EXPERTS, SHARED_EXPERT, HEAD_NORMS, NEXTN],
    config: WITH_EXPERTS,
    forward: Some(ForwardSpec {
        norm: Norm::Rms(1.0),
        attention: Attention { gated: true, ..NORMED },
        delta: Some(DeltaProjections::Joined),
        experts: Some(WITH_SHARED),
        ..PLAIN
    }),
    gguf_keys: &[BASE, keys::QWEN_MOE, keys::GATED_DELTA],
    ..GATED
};

const QWEN3_5: Arch = Arch {
    gguf_rules: gguf_rules::QWEN3_5,
    name: "qwen3_5",
    model_types: &["qwen3_5", "qwen3_5_text"],
    gguf: Some("qwen35"),
    tensors: &[ENDS, POST_NORMS, ATTENTION, SPLIT, LINEAR, DENSE, HEAD_NORMS, NEXTN],
    outside: VISION,
    gguf_keys: &[BASE, keys::GATED_DELTA, keys::QWEN3_5],
    ..GATED
};

const QWEN3_5_MOE: Arch = Arch {
    gguf_rules: gguf_rules::QWEN3_5,
    name: "qwen3_5_moe",
    model_types: &["qwen3_5_moe", "qwen3_5_moe_text"],
    gguf: Some("qwen35moe"),
    tensors: &[ENDS, POST_NORMS, ATTENTION, SPLIT, LINEAR, DENSE, EXPERTS, SHARED_EXPERT, HEAD_NORMS, NEXTN],
    outside: VISION,
    config: WITH_EXPERTS,
    forward: Some(ForwardSpec {
        norm: Norm::Rms(1.0),
        attention: Attention { gated: true, ..NORMED },
        delta: Some(DeltaProjections::Separate),
        experts: Some(WITH_SHARED),
        ..PLAIN
    }),
    gguf_keys: &[BASE, keys::QWEN_MOE, keys::GATED_DELTA, keys::QWEN3_5],
    ..GATED
};

pub(super) const ALL: &[&Arch] = &[&QWEN3_NEXT, &QWEN3_5, &QWEN3_5_MOE];
