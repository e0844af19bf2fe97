//! Families with linear attention beside full attention, whose outputs pass a gate.

use super::NormForm;
use super::moe::{EXPERTS, SHARED_EXPERT};
use super::table::{
    ATTENTION, DENSE, ENDS, FIRST, HEAD_NORMS, LLAMA, MtpLocation, NORMS, NameRule, RotationFamily,
    ValueProjections, reads, untouched, writes,
};

/// The norm inside has a gain of its own form, and no part in the stream.
const LINEAR: &[NameRule] = &[
    writes("layers.{layer}.linear_attn.out_proj"),
    untouched("layers.{layer}.linear_attn.{norm,conv1d}"),
    untouched("layers.{layer}.linear_attn.{A_log,dt_bias}").bare(),
];
const FUSED: &[NameRule] = &[reads("layers.{layer}.linear_attn.{in_proj_qkvz,in_proj_ba}", FIRST)];
const SPLIT: &[NameRule] = &[reads("layers.{layer}.linear_attn.in_proj_{qkv,z,b,a}", FIRST)];

/// The vision tower; the last layer of its merger writes the stream.
const VISION: &[NameRule] = &[
    writes("model.visual.merger.linear_fc2"),
    untouched("model.visual.merger.{norm,linear_fc1}"),
    untouched("model.visual.{patch_embed.proj,pos_embed}"),
    untouched("model.visual.blocks.{block}.{norm1,norm2,attn.qkv,attn.proj,mlp.linear_fc1,mlp.linear_fc2}"),
];

const GATED: RotationFamily = RotationFamily {
    form: NormForm::OnePlusGain,
    values: ValueProjections {
        refused: Some("a sigmoid gate on each channel of the attention's output"),
        ..LLAMA.values
    },
    mtp: MtpLocation::Module,
    ..LLAMA
};

pub const FAMILIES: &[RotationFamily] = &[
    RotationFamily {
        name: "qwen3_next",
        model_types: &["qwen3_next"],
        tables: &[ENDS, NORMS, ATTENTION, FUSED, LINEAR, DENSE, EXPERTS, SHARED_EXPERT, HEAD_NORMS],
        ..GATED
    },
    RotationFamily {
        name: "qwen3_5",
        model_types: &["qwen3_5", "qwen3_5_text"],
        tables: &[ENDS, NORMS, ATTENTION, SPLIT, LINEAR, DENSE, HEAD_NORMS],
        outside: VISION,
        ..GATED
    },
    RotationFamily {
        name: "qwen3_5_moe",
        model_types: &["qwen3_5_moe", "qwen3_5_moe_text"],
        tables: &[ENDS, NORMS, ATTENTION, SPLIT, LINEAR, DENSE, EXPERTS, SHARED_EXPERT, HEAD_NORMS],
        outside: VISION,
        ..GATED
    },
];
