//! Families with norms after the branches: their gains lie on the stream's own axes, and no rotation passes them.

use super::NormForm;
use super::table::{
    ATTENTION, DENSE, ENDS, FIRST, HEAD_NORMS, LLAMA, NameRule, RotationFamily, SECOND, norm,
    prevents_rotation, reads, writes,
};

const BETWEEN: &str = "layers.{layer}.pre_feedforward_layernorm";
const AFTER: &[NameRule] =
    &[prevents_rotation(SECOND), prevents_rotation("layers.{layer}.post_feedforward_layernorm")];
const GEMMA: &[NameRule] = &[norm(FIRST), norm(BETWEEN)];
const GLM4: &[NameRule] = &[
    norm(FIRST),
    norm(SECOND),
    reads("layers.{layer}.mlp.gate_up_proj", SECOND),
    writes("layers.{layer}.mlp.down_proj"),
    prevents_rotation("layers.{layer}.{post_self_attn_layernorm,post_mlp_layernorm}"),
];

const SANDWICH: RotationFamily =
    RotationFamily { refused: Some("gains on the outputs of the branches"), ..LLAMA };
/// Nothing is normalised before the branches.
const AFTER_ONLY: RotationFamily =
    RotationFamily { tables: &[ENDS, AFTER, ATTENTION, DENSE, HEAD_NORMS], ..SANDWICH };

pub const FAMILIES: &[RotationFamily] = &[
    RotationFamily {
        name: "gemma2",
        model_types: &["gemma2"],
        tables: &[ENDS, GEMMA, AFTER, ATTENTION, DENSE],
        form: NormForm::OnePlusGain,
        ..SANDWICH
    },
    RotationFamily {
        name: "gemma3",
        model_types: &["gemma3_text"],
        tables: &[ENDS, GEMMA, AFTER, ATTENTION, DENSE, HEAD_NORMS],
        form: NormForm::OnePlusGain,
        ..SANDWICH
    },
    RotationFamily { name: "glm4", model_types: &["glm4"], tables: &[ENDS, ATTENTION, GLM4], ..SANDWICH },
    RotationFamily { name: "olmo2", model_types: &["olmo2"], ..AFTER_ONLY },
    RotationFamily { name: "olmo3", model_types: &["olmo3"], ..AFTER_ONLY },
    RotationFamily { name: "exaone4", model_types: &["exaone4"], ..AFTER_ONLY },
];
