//! Architectures with norms after the branches: their gains lie on the stream's own axes, and no rotation is exact.

use super::gguf_rules::{self, Generated, GgufRules, HeadRule};
use super::llama_like::{ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LLAMA_LIKE, ROTATION};
use super::module::Module as M;
use super::row::{TensorMapRow, layer};
use super::{Arch, ConfigDefaults, GgufValues, NormForm, RotationFacts};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tokenizer::rules as tokenizer;

const AFTER: &[TensorMapRow] = &[
    layer(M::AttnPostNorm, "post_attention_layernorm"),
    layer(M::FfnPostNorm, "post_feedforward_layernorm"),
];
/// Gemma's norms before the branches.
pub const GEMMA_NORMS: &[TensorMapRow] =
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
pub const PRE_POST: Arch = Arch {
    rotation: Some(RotationFacts { refused: Some("gains on the outputs of the branches"), ..ROTATION }),
    forward: None,
    ..LLAMA_LIKE
};
/// Norms after the branches only.
const POST_ONLY: Arch = Arch { tensors: &[ENDS, AFTER, ATTENTION, DENSE, HEAD_NORMS], ..PRE_POST };
const TIED: ConfigDefaults = ConfigDefaults { tied: true, ..CONFIG };

const GEMMA2: Arch = Arch {
    tokenizer: tokenizer::GEMMA,
    gguf_keys: &[keys::GEMMA, keys::GEMMA2],
    gguf_rules: GgufRules { head: HeadRule::Dropped, ..gguf_rules::PLAIN },
    name: "gemma2",
    model_types: &["gemma2"],
    gguf: Some("gemma2"),
    gguf_values: GgufValues::Plain,
    tensors: &[ENDS, GEMMA_NORMS, AFTER, ATTENTION, DENSE],
    norm_form: NormForm::OnePlusGain,
    config: TIED,
    ..PRE_POST
};

pub const GEMMA3: Arch = Arch {
    tokenizer: tokenizer::GEMMA3,
    gguf_keys: &[keys::GEMMA3_BEFORE, BASE, keys::GEMMA3],
    gguf_rules: gguf_rules::PLAIN,
    name: "gemma3",
    model_types: &["gemma3_text"],
    gguf: Some("gemma3"),
    tensors: &[ENDS, GEMMA_NORMS, AFTER, ATTENTION, DENSE, HEAD_NORMS],
    ..GEMMA2
};

const GLM4: Arch = Arch {
    tokenizer: tokenizer::GLM4,
    gguf_keys: &[BASE, keys::GLM4],
    gguf_rules: gguf_rules::PLAIN,
    name: "glm4",
    model_types: &["glm4"],
    gguf: Some("glm4"),
    tensors: &[ENDS, ATTENTION, GLM4_ROWS],
    ..PRE_POST
};

const OLMO2: Arch = Arch {
    gguf_keys: &[BASE, keys::WINDOWED],
    gguf_rules: gguf_rules::PLAIN,
    name: "olmo2",
    model_types: &["olmo2"],
    gguf: Some("olmo2"),
    ..POST_ONLY
};
const OLMO3: Arch = Arch {
    gguf_keys: &[BASE, keys::WINDOWED],
    gguf_rules: gguf_rules::PLAIN,
    name: "olmo3",
    model_types: &["olmo3"],
    gguf: Some("olmo2"),
    ..POST_ONLY
};
const EXAONE4: Arch = Arch {
    gguf_keys: &[BASE, keys::EXAONE4, keys::WINDOWED],
    gguf_rules: GgufRules { generated: Generated::RopeFreqs(16), ..gguf_rules::PLAIN },
    name: "exaone4",
    model_types: &["exaone4"],
    gguf: Some("exaone4"),
    ..POST_ONLY
};

pub const ALL: &[&Arch] = &[&GEMMA2, &GEMMA3, &GLM4, &OLMO2, &OLMO3, &EXAONE4];
