//! Architectures whose norms subtract the mean: only a rotation that fixes the vector of ones is exact.

use super::ValueLayout;
use super::gguf_rules::{self, GgufRules};
use super::llama_like::{ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LLAMA_LIKE, NORMS, RECIPE, ROTATION};
use super::mlx_names;
use super::module::Module as M;
use super::row::{StreamSide, TensorMapRow, layer, root, within};
use super::{
    Arch, ConfigDefaults, NormForm, Prefix, RecipeFacts, RequiredFlag, RotationFacts, SlidingLayers,
};
use crate::model::config::Activation;
use crate::model::forward::spec::{
    ATTENTION as PLAIN_ATTENTION, Attention, FeedForward, ForwardSpec, Norm, PLAIN, QkvProjection, Rotary,
};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tensor_id::TensorPart::Weight;
use crate::model::tokenizer::rules as tokenizer;

/// Both branches read the same norm.
const PHI_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embed_tokens"),
    root(M::OutputNorm, "final_layernorm"),
    root(M::Output, "lm_head"),
    layer(M::AttnNorm, "input_layernorm"),
    layer(M::AttnQ, "self_attn.q_proj"),
    layer(M::AttnK, "self_attn.k_proj"),
    layer(M::AttnV, "self_attn.v_proj"),
    layer(M::AttnOutput, "self_attn.dense"),
    layer(M::FfnUp, "mlp.fc1").reads(M::AttnNorm),
    layer(M::FfnDown, "mlp.fc2"),
    layer(M::AttnQNorm, "self_attn.q_layernorm"),
    layer(M::AttnKNorm, "self_attn.k_layernorm"),
];

const STARCODER2_ROWS: &[TensorMapRow] = &[layer(M::FfnUp, "mlp.c_fc"), layer(M::FfnDown, "mlp.c_proj")];

const NEMOTRON_ROWS: &[TensorMapRow] = &[layer(M::FfnUp, "mlp.up_proj"), layer(M::FfnDown, "mlp.down_proj")];

/// Both branches read the same norm.
const COHERE_ROWS: &[TensorMapRow] = &[
    layer(M::AttnNorm, "input_layernorm"),
    layer(M::FfnGate, "mlp.gate_proj").reads(M::AttnNorm),
    layer(M::FfnUp, "mlp.up_proj").reads(M::AttnNorm),
    layer(M::FfnDown, "mlp.down_proj"),
];

/// A norm for each head, in larger models.
const STABLELM_NORMS: &[TensorMapRow] = &[
    layer(M::AttnQNorm, "self_attn.q_layernorm.norms.{expert}").named_only(),
    layer(M::AttnKNorm, "self_attn.k_layernorm.norms.{expert}").named_only(),
];

const GPT_NEOX_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embed_in"),
    root(M::OutputNorm, "final_layer_norm"),
    root(M::Output, "embed_out"),
    root(M::Output, "lm_head"),
    layer(M::AttnNorm, "input_layernorm"),
    layer(M::FfnNorm, "post_attention_layernorm"),
    layer(M::AttnQkv, "attention.query_key_value"),
    layer(M::AttnOutput, "attention.dense"),
    layer(M::FfnUp, "mlp.dense_h_to_4h"),
    layer(M::FfnDown, "mlp.dense_4h_to_h"),
    layer(M::AttnMask, "attention.bias").tensor(Weight),
    layer(M::AttnMask, "attention.masked_bias").tensor(Weight),
];

/// Matrices are transposed: `[in, out]`.
const GPT2_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "wte"),
    root(M::PosEmbd, "wpe"),
    root(M::OutputNorm, "ln_f"),
    root(M::Output, "lm_head"),
    within("h", M::AttnNorm, "ln_1"),
    within("h", M::FfnNorm, "ln_2"),
    within("h", M::AttnQkv, "attn.c_attn").along(0),
    within("h", M::AttnOutput, "attn.c_proj").along(1),
    within("h", M::FfnUp, "mlp.c_fc").along(0),
    within("h", M::FfnDown, "mlp.c_proj").along(1),
    within("h", M::AttnMask, "attn.bias").tensor(Weight),
    within("h", M::AttnMask, "attn.masked_bias").tensor(Weight),
];

const OPT_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embed_tokens"),
    root(M::PosEmbd, "embed_positions"),
    root(M::OutputNorm, "final_layer_norm"),
    root(M::Output, "lm_head"),
    layer(M::AttnNorm, "self_attn_layer_norm"),
    layer(M::FfnNorm, "final_layer_norm"),
    layer(M::AttnQ, "self_attn.q_proj"),
    layer(M::AttnK, "self_attn.k_proj"),
    layer(M::AttnV, "self_attn.v_proj"),
    layer(M::AttnOutput, "self_attn.out_proj"),
    layer(M::FfnUp, "fc1"),
    layer(M::FfnDown, "fc2"),
];

/// Two norms before the branches; older models have one, `input_layernorm`.
const FALCON_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "word_embeddings"),
    root(M::OutputNorm, "ln_f"),
    root(M::Output, "lm_head"),
    within("h", M::AttnNorm2, "ln_attn").side(StreamSide::Norm),
    within("h", M::AttnNorm, "ln_mlp"),
    within("h", M::AttnNorm, "input_layernorm").named_only(),
    within("h", M::AttnQkv, "self_attention.query_key_value").reads(M::AttnNorm2),
    within("h", M::AttnOutput, "self_attention.dense"),
    within("h", M::FfnUp, "mlp.dense_h_to_4h").reads(M::AttnNorm),
    within("h", M::FfnDown, "mlp.dense_4h_to_h"),
];

const LAYER_NORM: RotationFacts = RotationFacts { layer_norm: true, ..ROTATION };
const CENTRED: Arch = Arch { rotation: Some(LAYER_NORM), forward: None, ..LLAMA_LIKE };
const TRANSFORMER: &[Prefix] = &[Prefix::decoder("transformer."), Prefix::decoder("")];
const TIED: ConfigDefaults = ConfigDefaults { tied: true, ..CONFIG };

const fn required(key: &'static str, value: bool, default: bool) -> RequiredFlag {
    RequiredFlag { key, value, default, unless: None }
}

const PHI: Arch = Arch {
    mlx: Some(mlx_names::UNTIED),
    tokenizer: tokenizer::PHI2,
    gguf_keys: &[keys::PHI2],
    gguf_rules: gguf_rules::PLAIN,
    name: "phi",
    model_types: &["phi"],
    gguf: Some("phi2"),
    tensors: &[PHI_ROWS],
    config: ConfigDefaults { rotary_share: 0.5, activation: Activation::GeluTanh, ..CONFIG },
    forward: Some(ForwardSpec {
        norm: Norm::Mean,
        feed: FeedForward::Plain,
        feed_norm: M::AttnNorm,
        parallel: true,
        ..PLAIN
    }),
    ..CENTRED
};

const STARCODER2: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    gguf_rules: gguf_rules::PLAIN,
    name: "starcoder2",
    model_types: &["starcoder2"],
    gguf: Some("starcoder2"),
    tensors: &[ENDS, NORMS, ATTENTION, STARCODER2_ROWS],
    config: ConfigDefaults { sliding: SlidingLayers::All, activation: Activation::GeluTanh, ..TIED },
    forward: Some(ForwardSpec { norm: Norm::Mean, feed: FeedForward::Plain, ..PLAIN }),
    ..CENTRED
};

const COHERE: Arch = Arch {
    mlx: Some(mlx_names::TIED),
    gguf_keys: &[keys::COHERE_BEFORE, BASE, keys::COHERE],
    gguf_rules: gguf_rules::PLAIN,
    name: "cohere",
    model_types: &["cohere"],
    gguf: Some("command-r"),
    tensors: &[ENDS, ATTENTION, COHERE_ROWS, HEAD_NORMS],
    config: ConfigDefaults { logit_scale: Some(0.0625), ..TIED },
    forward: Some(ForwardSpec {
        feed_norm: M::AttnNorm,
        norm: Norm::Mean,
        attention: Attention { rotary: Rotary::Pairs, own_gains: true, ..PLAIN_ATTENTION },
        parallel: true,
        configured_head_norms: true,
        ..PLAIN
    }),
    ..CENTRED
};

const COHERE2: Arch = Arch {
    gguf_keys: &[BASE, keys::COHERE2],
    gguf_rules: GgufRules { unused_biases: true, ..gguf_rules::PLAIN },
    name: "cohere2",
    model_types: &["cohere2"],
    gguf: Some("cohere2"),
    config: ConfigDefaults { sliding: SlidingLayers::AllBut(4), logit_scale: Some(0.0625), ..TIED },
    forward: Some(ForwardSpec {
        feed_norm: M::AttnNorm,
        norm: Norm::Mean,
        attention: Attention { rotary: Rotary::Pairs, unrotated_full: true, ..PLAIN_ATTENTION },
        parallel: true,
        ..PLAIN
    }),
    ..COHERE
};

const STABLELM: Arch = Arch {
    mlx: Some(mlx_names::UNTIED),
    gguf_keys: &[keys::STABLELM],
    gguf_rules: gguf_rules::PLAIN,
    name: "stablelm",
    model_types: &["stablelm"],
    gguf: Some("stablelm"),
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, STABLELM_NORMS],
    config: ConfigDefaults { rotary_share: 0.25, ..CONFIG },
    forward: Some(ForwardSpec { norm: Norm::Mean, ..PLAIN }),
    // With a parallel residual there is no second norm.
    rotation: Some(RotationFacts {
        required: &[required("use_parallel_residual", false, false)],
        ..LAYER_NORM
    }),
    ..CENTRED
};

const NEMOTRON: Arch = Arch {
    mlx: Some(mlx_names::PLAIN),
    tokenizer: tokenizer::NEMOTRON,
    gguf_keys: &[BASE, keys::NEMOTRON],
    gguf_rules: gguf_rules::PLAIN,
    name: "nemotron",
    model_types: &["nemotron"],
    gguf: Some("nemotron"),
    tensors: &[ENDS, NORMS, ATTENTION, NEMOTRON_ROWS],
    norm_form: NormForm::OnePlusGain,
    config: ConfigDefaults { rotary_share: 0.5, activation: Activation::ReluSquared, ..CONFIG },
    forward: Some(ForwardSpec { norm: Norm::MeanPlusOne, feed: FeedForward::Plain, ..PLAIN }),
    ..CENTRED
};

const GPT_NEOX: Arch = Arch {
    gguf_keys: &[keys::GPT_NEOX],
    gguf_rules: gguf_rules::GPT_NEOX,
    name: "gpt_neox",
    model_types: &["gpt_neox"],
    gguf: Some("gptneox"),
    prefixes: &[Prefix::decoder("gpt_neox."), Prefix::decoder("")],
    tensors: &[GPT_NEOX_ROWS],
    config: ConfigDefaults { rotary_share: 0.25, activation: Activation::Gelu, ..CONFIG },
    rotation: Some(RotationFacts { values: ValueLayout::Interleaved, ..LAYER_NORM }),
    forward: Some(ForwardSpec {
        norm: Norm::Mean,
        attention: Attention { inputs: QkvProjection::JoinedByHead, ..PLAIN_ATTENTION },
        feed: FeedForward::Plain,
        configured_parallel: true,
        ..PLAIN
    }),
    ..CENTRED
};

const GPT2: Arch = Arch {
    gguf_keys: &[keys::GPT2],
    gguf_rules: gguf_rules::GPT2,
    name: "gpt2",
    model_types: &["gpt2"],
    gguf: Some("gpt2"),
    prefixes: TRANSFORMER,
    tensors: &[GPT2_ROWS],
    config: ConfigDefaults { activation: Activation::GeluTanh, ..TIED },
    rotation: Some(RotationFacts { values: ValueLayout::Transposed, ..LAYER_NORM }),
    forward: Some(ForwardSpec {
        norm: Norm::Mean,
        attention: Attention { inputs: QkvProjection::Joined, rotary: Rotary::None, ..PLAIN_ATTENTION },
        feed: FeedForward::Plain,
        columns: true,
        ..PLAIN
    }),
    ..CENTRED
};

/// Without these values, norms come after the branches, or the last norm is left out.
const OPT_FLAGS: &[RequiredFlag] =
    &[required("do_layer_norm_before", true, true), required("_remove_final_layer_norm", false, false)];

const OPT: Arch = Arch {
    name: "opt",
    model_types: &["opt"],
    prefixes: &[Prefix::decoder("model.decoder."), Prefix::decoder("decoder.")],
    tensors: &[OPT_ROWS],
    config: ConfigDefaults { norm_eps: 1e-5, activation: Activation::Relu, required: OPT_FLAGS, ..TIED },
    rotation: Some(RotationFacts { required: OPT_FLAGS, ..LAYER_NORM }),
    forward: Some(ForwardSpec {
        norm: Norm::Mean,
        attention: Attention { rotary: Rotary::None, ..PLAIN_ATTENTION },
        feed: FeedForward::Plain,
        position_offset: 2,
        ..PLAIN
    }),
    ..CENTRED
};

const FALCON: Arch = Arch {
    gguf_keys: &[keys::FALCON],
    gguf_rules: gguf_rules::FALCON,
    name: "falcon",
    model_types: &["falcon"],
    gguf: Some("falcon"),
    prefixes: TRANSFORMER,
    tensors: &[FALCON_ROWS],
    config: ConfigDefaults {
        norm_eps: 1e-5,
        activation: Activation::Gelu,
        required: &[
            required("alibi", false, false),
            RequiredFlag {
                unless: Some("new_decoder_architecture"),
                ..required("parallel_attn", true, true)
            },
        ],
        ..TIED
    },
    recipe: RecipeFacts { falcon: true, ..RECIPE },
    forward: Some(ForwardSpec {
        norm: Norm::Mean,
        attention: Attention { inputs: QkvProjection::JoinedByGroup, ..PLAIN_ATTENTION },
        feed: FeedForward::Plain,
        attn_norm: M::AttnNorm2,
        feed_norm: M::AttnNorm,
        parallel: true,
        ..PLAIN
    }),
    // The older architecture has other norms and another order of the heads.
    rotation: Some(RotationFacts {
        values: ValueLayout::Grouped,
        required: &[required("new_decoder_architecture", true, false)],
        ..LAYER_NORM
    }),
    ..CENTRED
};

pub(super) const ALL: &[&Arch] =
    &[&PHI, &STARCODER2, &COHERE, &COHERE2, &STABLELM, &NEMOTRON, &GPT_NEOX, &GPT2, &OPT, &FALCON];
