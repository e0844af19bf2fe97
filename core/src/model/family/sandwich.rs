//! Families with norms after the branches: their gains lie on the stream's own axes, and no rotation passes them.

use super::NormForm;
use super::table::{
    ATTENTION, DENSE, ENDS, FIRST, Family, HEAD_NORMS, LLAMA, Rule, SECOND, blocks, norm, reads, writes,
};

const BETWEEN: &str = "layers.{layer}.pre_feedforward_layernorm";
const AFTER: &[Rule] = &[blocks(SECOND), blocks("layers.{layer}.post_feedforward_layernorm")];
const GEMMA: &[Rule] = &[norm(FIRST), norm(BETWEEN)];
const GLM4: &[Rule] = &[
    norm(FIRST),
    norm(SECOND),
    reads("layers.{layer}.mlp.gate_up_proj", SECOND),
    writes("layers.{layer}.mlp.down_proj"),
    blocks("layers.{layer}.{post_self_attn_layernorm,post_mlp_layernorm}"),
];

const SANDWICH: Family = Family { refused: Some("gains on the outputs of the branches"), ..LLAMA };
/// Nothing is normalised before the branches.
const AFTER_ONLY: Family = Family { tables: &[ENDS, AFTER, ATTENTION, DENSE, HEAD_NORMS], ..SANDWICH };

pub const FAMILIES: &[Family] = &[
    Family {
        name: "gemma2",
        model_types: &["gemma2"],
        tables: &[ENDS, GEMMA, AFTER, ATTENTION, DENSE],
        form: NormForm::OnePlusGain,
        ..SANDWICH
    },
    Family {
        name: "gemma3",
        model_types: &["gemma3_text"],
        tables: &[ENDS, GEMMA, AFTER, ATTENTION, DENSE, HEAD_NORMS],
        form: NormForm::OnePlusGain,
        ..SANDWICH
    },
    Family { name: "glm4", model_types: &["glm4"], tables: &[ENDS, ATTENTION, GLM4], ..SANDWICH },
    Family { name: "olmo2", model_types: &["olmo2"], ..AFTER_ONLY },
    Family { name: "olmo3", model_types: &["olmo3"], ..AFTER_ONLY },
    Family { name: "exaone4", model_types: &["exaone4"], ..AFTER_ONLY },
];
