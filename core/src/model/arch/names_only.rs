//! Architectures without rotation rules. Most have no forward pass either.

use super::gguf_rules::{self, BeyondRule, Generated, GgufRules};
use super::llama_like::{
    ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LFM2_ROWS, LLAMA_LIKE, NORMS, QWEN2, QWEN3, RECIPE, SHARED_80,
};
use super::mlx_names::{self, MlxHead, MlxNames};
use super::module::Module as M;
use super::moe::{BLOCK_SPARSE_ROWS, DEEPSEEK_V3_PASS, EXPERTS, JOINT_NORMS, LATENT, SHARED_EXPERTS};
use super::pre_post_norm::{GEMMA_NORMS, GEMMA3};
use super::row::{TensorMapRow, layer, root, within};
use super::{Arch, ConfigDefaults, Prefix, RecipeFacts, SharedValues};
use crate::model::forward::spec::{
    ATTENTION as PLAIN_ATTENTION, Attention, EXPERTS as PLAIN_EXPERTS, ForwardSpec, MoeSpec, NORMED, Norm,
    PLAIN, Rotary, RouterScores, SharedExpert,
};
use crate::model::gguf_keys::{BASE, encoders as encoder_keys, families as keys};
use crate::model::tensor_id::TensorPart::{Bare, Bias, Weight};
use crate::model::tokenizer::rules as tokenizer;

/// The name of Mistral's own format and its variant.
pub const MISTRAL_NAME: &str = "mistral_format";
const BARE: &[Prefix] = &[Prefix::decoder("")];
const NAMED: Arch = Arch { rotation: None, forward: None, ..LLAMA_LIKE };

const GRANITE_MOE_ROWS: &[TensorMapRow] = &[
    layer(M::FfnGateInp, "block_sparse_moe.router.layer"),
    layer(M::FfnGateUpExps, "block_sparse_moe.input_linear"),
    layer(M::FfnDownExps, "block_sparse_moe.output_linear"),
    layer(M::FfnGateUpShexp, "shared_mlp.input_linear"),
    layer(M::FfnDownShexp, "shared_mlp.output_linear"),
];
const MAMBA: &[TensorMapRow] = &[
    layer(M::SsmIn, "mamba.in_proj"),
    layer(M::SsmConv1d, "mamba.conv1d"),
    layer(M::SsmA, "mamba.A_log").tensor(Bare),
    layer(M::SsmD, "mamba.D").tensor(Bare),
    layer(M::SsmDt, "mamba.dt_bias").tensor(Bias),
    layer(M::SsmNorm, "mamba.norm"),
    layer(M::SsmOut, "mamba.out_proj"),
];
const MAMBA2_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embeddings"),
    root(M::OutputNorm, "norm_f"),
    root(M::Output, "lm_head"),
    layer(M::AttnNorm, "norm"),
    layer(M::SsmIn, "mixer.in_proj"),
    layer(M::SsmConv1d, "mixer.conv1d"),
    layer(M::SsmA, "mixer.A_log").tensor(Bare),
    layer(M::SsmD, "mixer.D").tensor(Bare),
    layer(M::SsmDt, "mixer.dt_bias").tensor(Bias),
    layer(M::SsmNorm, "mixer.norm"),
    layer(M::SsmOut, "mixer.out_proj"),
];
const ERNIE_MOE_BIAS: &[TensorMapRow] =
    &[layer(M::ExpProbsB, "mlp.moe_statics.e_score_correction_bias").tensor(Bias)];
const LFM2_MOE_ROWS: &[TensorMapRow] = &[
    layer(M::FfnGateInp, "feed_forward.gate"),
    layer(M::FfnGateExps, "feed_forward.experts.{expert}.w1"),
    layer(M::FfnUpExps, "feed_forward.experts.{expert}.w3"),
    layer(M::FfnDownExps, "feed_forward.experts.{expert}.w2"),
    layer(M::ExpProbsB, "feed_forward.expert_bias").tensor(Bias),
];
const GEMMA4_ROWS: &[TensorMapRow] = &[
    root(M::PerLayerTokenEmbd, "embed_tokens_per_layer"),
    root(M::PerLayerModelProj, "per_layer_model_projection"),
    root(M::PerLayerProjNorm, "per_layer_projection_norm"),
    layer(M::AttnPostNorm, "post_attention_layernorm"),
    layer(M::FfnPostNorm, "post_feedforward_layernorm"),
    layer(M::PerLayerInpGate, "per_layer_input_gate"),
    layer(M::PerLayerProj, "per_layer_projection"),
    layer(M::PerLayerPostNorm, "post_per_layer_input_norm"),
    layer(M::LayerOutputScale, "layer_scalar").tensor(Weight),
];
const MISTRAL_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "tok_embeddings"),
    root(M::OutputNorm, "norm"),
    root(M::Output, "output"),
    layer(M::AttnNorm, "attention_norm"),
    layer(M::FfnNorm, "ffn_norm"),
    layer(M::AttnQ, "attention.wq"),
    layer(M::AttnK, "attention.wk"),
    layer(M::AttnV, "attention.wv"),
    layer(M::AttnOutput, "attention.wo"),
    layer(M::FfnGate, "feed_forward.w1"),
    layer(M::FfnUp, "feed_forward.w3"),
    layer(M::FfnDown, "feed_forward.w2"),
];

const BERT_LAYER: &str = "encoder.layer";
const BERT_ENDS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embeddings.word_embeddings"),
    root(M::PosEmbd, "embeddings.position_embeddings"),
    root(M::TokenTypes, "embeddings.token_type_embeddings"),
    root(M::TokenEmbdNorm, "embeddings.LayerNorm"),
];
const BERT_ROWS: &[TensorMapRow] = &[
    within(BERT_LAYER, M::AttnQ, "attention.self.query"),
    within(BERT_LAYER, M::AttnK, "attention.self.key"),
    within(BERT_LAYER, M::AttnV, "attention.self.value"),
    within(BERT_LAYER, M::AttnOutput, "attention.output.dense"),
    within(BERT_LAYER, M::AttnOutputNorm, "attention.output.LayerNorm"),
    within(BERT_LAYER, M::FfnUp, "intermediate.dense"),
    within(BERT_LAYER, M::FfnDown, "output.dense"),
    within(BERT_LAYER, M::LayerOutputNorm, "output.LayerNorm"),
];
const DISTIL_LAYER: &str = "transformer.layer";
const DISTIL_ROWS: &[TensorMapRow] = &[
    within(DISTIL_LAYER, M::AttnQ, "attention.q_lin"),
    within(DISTIL_LAYER, M::AttnK, "attention.k_lin"),
    within(DISTIL_LAYER, M::AttnV, "attention.v_lin"),
    within(DISTIL_LAYER, M::AttnOutput, "attention.out_lin"),
    within(DISTIL_LAYER, M::AttnOutputNorm, "sa_layer_norm"),
    within(DISTIL_LAYER, M::FfnUp, "ffn.lin1"),
    within(DISTIL_LAYER, M::FfnDown, "ffn.lin2"),
    within(DISTIL_LAYER, M::LayerOutputNorm, "output_layer_norm"),
];
const NOMIC_LAYER: &str = "encoder.layers";
const NOMIC_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "embeddings.word_embeddings"),
    root(M::TokenTypes, "embeddings.token_type_embeddings"),
    root(M::TokenEmbdNorm, "emb_ln"),
    within(NOMIC_LAYER, M::AttnQkv, "attn.Wqkv"),
    within(NOMIC_LAYER, M::AttnOutput, "attn.out_proj"),
    within(NOMIC_LAYER, M::AttnOutputNorm, "norm1"),
    within(NOMIC_LAYER, M::FfnUp, "mlp.fc11"),
    within(NOMIC_LAYER, M::FfnGate, "mlp.fc12"),
    within(NOMIC_LAYER, M::FfnDown, "mlp.fc2"),
    within(NOMIC_LAYER, M::LayerOutputNorm, "norm2"),
];

const ENC: &str = "encoder.block";
const DEC: &str = "decoder.block";
const T5_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "shared"),
    root(M::Output, "lm_head"),
    root(M::EncOutputNorm, "encoder.final_layer_norm"),
    root(M::DecOutputNorm, "decoder.final_layer_norm"),
    within(ENC, M::EncAttnQ, "layer.0.SelfAttention.q"),
    within(ENC, M::EncAttnK, "layer.0.SelfAttention.k"),
    within(ENC, M::EncAttnV, "layer.0.SelfAttention.v"),
    within(ENC, M::EncAttnOut, "layer.0.SelfAttention.o"),
    within(ENC, M::EncAttnRelB, "layer.0.SelfAttention.relative_attention_bias"),
    within(ENC, M::EncAttnNorm, "layer.0.layer_norm"),
    within(ENC, M::EncFfnGate, "layer.1.DenseReluDense.wi_0"),
    within(ENC, M::EncFfnUp, "layer.1.DenseReluDense.wi_1"),
    within(ENC, M::EncFfnUp, "layer.1.DenseReluDense.wi"),
    within(ENC, M::EncFfnDown, "layer.1.DenseReluDense.wo"),
    within(ENC, M::EncFfnNorm, "layer.1.layer_norm"),
    within(DEC, M::DecAttnQ, "layer.0.SelfAttention.q"),
    within(DEC, M::DecAttnK, "layer.0.SelfAttention.k"),
    within(DEC, M::DecAttnV, "layer.0.SelfAttention.v"),
    within(DEC, M::DecAttnOut, "layer.0.SelfAttention.o"),
    within(DEC, M::DecAttnRelB, "layer.0.SelfAttention.relative_attention_bias"),
    within(DEC, M::DecAttnNorm, "layer.0.layer_norm"),
    within(DEC, M::DecCrossAttnQ, "layer.1.EncDecAttention.q"),
    within(DEC, M::DecCrossAttnK, "layer.1.EncDecAttention.k"),
    within(DEC, M::DecCrossAttnV, "layer.1.EncDecAttention.v"),
    within(DEC, M::DecCrossAttnOut, "layer.1.EncDecAttention.o"),
    within(DEC, M::DecCrossAttnNorm, "layer.1.layer_norm"),
    within(DEC, M::DecFfnGate, "layer.2.DenseReluDense.wi_0"),
    within(DEC, M::DecFfnUp, "layer.2.DenseReluDense.wi_1"),
    within(DEC, M::DecFfnUp, "layer.2.DenseReluDense.wi"),
    within(DEC, M::DecFfnDown, "layer.2.DenseReluDense.wo"),
    within(DEC, M::DecFfnNorm, "layer.2.layer_norm"),
];

const GRANITE_MOE: Arch = Arch {
    tokenizer: tokenizer::LLAMA,
    gguf_keys: &[keys::GRANITE_BEFORE, BASE, keys::LLAMA, keys::GRANITE],
    gguf_rules: GgufRules { generated: Generated::None, ..gguf_rules::PERMUTED },
    name: "granite_moe",
    model_types: &["granitemoe", "granitemoeshared"],
    gguf: Some("granitemoe"),
    tensors: &[ENDS, NORMS, ATTENTION, GRANITE_MOE_ROWS],
    config: ConfigDefaults { normalised_experts: true, attention_multiplier: Some(1.0), ..CONFIG },
    forward: Some(ForwardSpec {
        experts: Some(MoeSpec { shared: Some(SharedExpert::JoinedIfStored), ..PLAIN_EXPERTS }),
        ..PLAIN
    }),
    ..NAMED
};
const GRANITE_HYBRID: Arch = Arch {
    tokenizer: tokenizer::GRANITE_HYBRID,
    gguf_keys: &[keys::GRANITE_BEFORE, BASE, keys::LLAMA, keys::GRANITE, keys::GRANITE_HYBRID],
    gguf_rules: gguf_rules::GRANITE_HYBRID,
    name: "granite_hybrid",
    model_types: &["granitemoehybrid"],
    gguf: Some("granitehybrid"),
    tensors: &[ENDS, NORMS, ATTENTION, GRANITE_MOE_ROWS, MAMBA],
    ..NAMED
};
const MAMBA2: Arch = Arch {
    tokenizer: tokenizer::MAMBA2,
    gguf_keys: &[keys::MAMBA2],
    gguf_rules: gguf_rules::MAMBA2,
    name: "mamba2",
    model_types: &["mamba2"],
    gguf: Some("mamba2"),
    prefixes: &[Prefix::decoder("backbone.")],
    tensors: &[MAMBA2_ROWS],
    ..NAMED
};
const OLMO: Arch = Arch {
    gguf_keys: &[BASE, keys::OLMO],
    gguf_rules: GgufRules { generated: Generated::None, ..gguf_rules::PERMUTED },
    name: "olmo",
    model_types: &["olmo"],
    gguf: Some("olmo"),
    config: ConfigDefaults { norm_eps: 1e-5, ..CONFIG },
    forward: Some(ForwardSpec { norm: Norm::MeanWithoutGain, ..PLAIN }),
    ..NAMED
};
const OLMOE: Arch = Arch {
    mlx: Some(mlx_names::MLP_EXPERTS),
    gguf_keys: &[BASE, keys::OLMOE],
    gguf_rules: gguf_rules::PLAIN,
    name: "olmoe",
    model_types: &["olmoe"],
    gguf: Some("olmoe"),
    tensors: &[ENDS, NORMS, ATTENTION, EXPERTS, HEAD_NORMS],
    config: ConfigDefaults { norm_eps: 1e-5, ..CONFIG },
    forward: Some(ForwardSpec { attention: JOINT_NORMS, experts: Some(PLAIN_EXPERTS), ..PLAIN }),
    ..NAMED
};
const PHIMOE: Arch = Arch {
    mlx: Some(MlxNames { head: MlxHead::Own, ..mlx_names::MIXTRAL }),
    tokenizer: tokenizer::PHI3,
    gguf_keys: &[keys::PHI3, keys::PHIMOE],
    gguf_rules: GgufRules {
        generated: Generated::RopeFactors,
        experts: gguf_rules::GATE_DOWN_UP,
        ..gguf_rules::PLAIN
    },
    name: "phimoe",
    model_types: &["phimoe"],
    gguf: Some("phimoe"),
    tensors: &[ENDS, NORMS, ATTENTION, BLOCK_SPARSE_ROWS],
    ..NAMED
};
const ERNIE4_5_MOE: Arch = Arch {
    tokenizer: tokenizer::ERNIE,
    gguf_keys: &[BASE, keys::ERNIE_MOE],
    gguf_rules: GgufRules {
        experts: gguf_rules::GATE_UP_DOWN,
        beyond: BeyondRule::Dropped,
        ..gguf_rules::PLAIN
    },
    name: "ernie4_5_moe",
    model_types: &["ernie4_5_moe"],
    gguf: Some("ernie4_5-moe"),
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, EXPERTS, ERNIE_MOE_BIAS, SHARED_EXPERTS],
    config: ConfigDefaults {
        tied: true,
        normalised_experts: true,
        rope_theta: 500_000.0,
        norm_eps: 1e-5,
        ..CONFIG
    },
    forward: Some(ForwardSpec {
        attention: Attention { rotary: Rotary::Pairs, ..PLAIN_ATTENTION },
        experts: Some(MoeSpec {
            shared: Some(SharedExpert::GatedIfStored),
            shares: RouterScores::SoftmaxCorrected,
            ..PLAIN_EXPERTS
        }),
        ..PLAIN
    }),
    ..NAMED
};
const GLM4_MOE_LITE: Arch = Arch {
    tokenizer: tokenizer::GLM4_MOE,
    gguf_keys: &[keys::DEEPSEEK_BEFORE, BASE, keys::DEEPSEEK],
    gguf_rules: gguf_rules::LATENT,
    name: "glm4_moe_lite",
    model_types: &["glm4_moe_lite"],
    gguf: Some("deepseek2"),
    tensors: &[ENDS, NORMS, LATENT, DENSE, EXPERTS, SHARED_EXPERTS],
    config: ConfigDefaults { normalised_experts: true, norm_eps: 1e-5, ..CONFIG },
    forward: Some(DEEPSEEK_V3_PASS),
    ..NAMED
};
const LFM2_MOE: Arch = Arch {
    gguf_keys: &[BASE, keys::LFM2_MOE, keys::LFM2],
    gguf_rules: GgufRules { experts: gguf_rules::GATE_DOWN_UP, ..gguf_rules::PLAIN },
    name: "lfm2_moe",
    model_types: &["lfm2_moe"],
    gguf: Some("lfm2moe"),
    tensors: &[LFM2_ROWS, LFM2_MOE_ROWS],
    config: ConfigDefaults {
        tied: true,
        normalised_experts: true,
        rope_theta: 1_000_000.0,
        norm_eps: 1e-5,
        ..CONFIG
    },
    forward: Some(ForwardSpec {
        attention: NORMED,
        convolution: true,
        experts: Some(MoeSpec {
            shares: RouterScores::Sigmoid,
            share_epsilon: 1e-6,
            optional_correction: true,
            ..PLAIN_EXPERTS
        }),
        ..PLAIN
    }),
    ..NAMED
};
const GEMMA3_MULTI: Arch = Arch { mlx: None, model_types: &["gemma3"], rotation: None, ..GEMMA3 };
const GEMMA_EMBEDDING: Arch = Arch {
    mlx: None,
    gguf_keys: &[keys::GEMMA3_BEFORE, BASE, keys::GEMMA3, keys::POOLED],
    gguf_rules: GgufRules { classes: &["Gemma3TextModel", "EmbeddingGemmaModel"], ..gguf_rules::PLAIN },
    name: "gemma_embedding",
    model_types: &[],
    gguf: Some("gemma-embedding"),
    prefixes: BARE,
    rotation: None,
    // An encoder: every position sees all others.
    forward: None,
    ..GEMMA3
};
const GEMMA4: Arch = Arch {
    tokenizer: tokenizer::GEMMA4,
    gguf_keys: &[BASE, keys::GEMMA4],
    gguf_rules: GgufRules { generated: Generated::PartialRope, ..gguf_rules::PLAIN },
    name: "gemma4",
    model_types: &["gemma4", "gemma4_text"],
    gguf: Some("gemma4"),
    tensors: &[ENDS, GEMMA_NORMS, ATTENTION, DENSE, HEAD_NORMS, GEMMA4_ROWS],
    ..NAMED
};
const MINISTRAL3: Arch = Arch {
    tokenizer: tokenizer::LLAMA,
    gguf_keys: &[BASE, keys::LLAMA, keys::MINISTRAL3],
    gguf_rules: gguf_rules::PERMUTED,
    name: "ministral3",
    model_types: &["ministral3"],
    gguf: Some("mistral3"),
    ..NAMED
};
/// The layout of `consolidated.safetensors`.
const MISTRAL_FORMAT: Arch =
    Arch { gguf_keys: &[BASE, keys::MISTRAL_FORMAT], gguf: Some("mistral3"), ..MISTRAL_FORMAT_LLAMA };
/// The same without the scaling of Llama 4.
const MISTRAL_FORMAT_LLAMA: Arch = Arch {
    gguf_rules: gguf_rules::PLAIN,
    name: MISTRAL_NAME,
    model_types: &[],
    gguf: Some("llama"),
    prefixes: BARE,
    tensors: &[MISTRAL_ROWS],
    ..NAMED
};
const QWEN2_VL: Arch = Arch {
    mlx: None,
    gguf_keys: &[BASE],
    name: "qwen2_vl",
    model_types: &["qwen2_vl", "qwen2_5_vl"],
    gguf: Some("qwen2vl"),
    recipe: SHARED_80,
    rotation: None,
    forward: None,
    ..QWEN2
};
const QWEN3_VL: Arch = Arch {
    mlx: None,
    gguf_keys: &[BASE, keys::QWEN3_VL],
    name: "qwen3_vl",
    model_types: &["qwen3_vl", "qwen3_vl_text"],
    gguf: Some("qwen3vl"),
    rotation: None,
    forward: None,
    ..QWEN3
};
const DECI: Arch =
    Arch { name: "deci", model_types: &["deci"], gguf: Some("deci"), recipe: SHARED_80, ..NAMED };
const JAIS2: Arch = Arch {
    name: "jais2",
    model_types: &["jais2"],
    gguf: Some("jais2"),
    recipe: RecipeFacts { shared_values: Some(SharedValues { layers: 68, grouped: false }), ..RECIPE },
    ..NAMED
};
const BERT: Arch = Arch {
    tokenizer: tokenizer::BERT,
    gguf_keys: &[encoder_keys::BERT_BEFORE, BASE, encoder_keys::BERT],
    gguf_rules: gguf_rules::BERT,
    name: "bert",
    model_types: &["bert"],
    gguf: Some("bert"),
    prefixes: &[Prefix::decoder(""), Prefix::decoder("bert."), Prefix::decoder("roberta.")],
    tensors: &[BERT_ENDS, BERT_ROWS],
    ..NAMED
};
/// The first rows of the positions are those of padding.
const ROBERTA: Arch = Arch {
    name: "roberta",
    model_types: &["roberta", "xlm-roberta"],
    gguf_rules: gguf_rules::ROBERTA,
    ..BERT
};
const DISTILBERT: Arch = Arch {
    tokenizer: tokenizer::BERT,
    gguf_keys: &[encoder_keys::DISTILBERT_BEFORE, BASE, encoder_keys::BERT],
    name: "distilbert",
    model_types: &["distilbert"],
    prefixes: &[Prefix::decoder(""), Prefix::decoder("distilbert.")],
    tensors: &[BERT_ENDS, DISTIL_ROWS],
    ..BERT
};
const NOMIC_BERT: Arch = Arch {
    tokenizer: tokenizer::BERT,
    gguf_keys: &[encoder_keys::NOMIC_BEFORE, BASE, encoder_keys::BERT],
    gguf_rules: gguf_rules::BERT,
    name: "nomic_bert",
    model_types: &["nomic_bert"],
    gguf: Some("nomic-bert"),
    prefixes: BARE,
    tensors: &[NOMIC_ROWS],
    ..NAMED
};
const T5: Arch = Arch {
    tokenizer: tokenizer::T5,
    gguf_keys: &[
        encoder_keys::T5_SIZES,
        encoder_keys::T5_DECODER_BLOCKS,
        encoder_keys::T5_ATTENTION,
        encoder_keys::T5_DECODER_START,
        encoder_keys::FILE_TYPE,
    ],
    gguf_rules: gguf_rules::PLAIN,
    name: "t5",
    model_types: &["t5"],
    gguf: Some("t5"),
    prefixes: BARE,
    tensors: &[T5_ROWS],
    ..NAMED
};
const T5_ENCODER: Arch = Arch {
    gguf_keys: &[encoder_keys::T5_SIZES, encoder_keys::T5_ATTENTION, encoder_keys::FILE_TYPE],
    gguf_rules: GgufRules { classes: &["T5EncoderModel"], ..gguf_rules::PLAIN },
    name: "t5_encoder",
    model_types: &[],
    gguf: Some("t5encoder"),
    ..T5
};

pub(super) const ALL: &[&Arch] = &[
    &GRANITE_MOE,
    &GRANITE_HYBRID,
    &MAMBA2,
    &OLMO,
    &OLMOE,
    &PHIMOE,
    &ERNIE4_5_MOE,
    &GLM4_MOE_LITE,
    &LFM2_MOE,
    &GEMMA3_MULTI,
    &GEMMA_EMBEDDING,
    &GEMMA4,
    &MINISTRAL3,
    &MISTRAL_FORMAT,
    &MISTRAL_FORMAT_LLAMA,
    &QWEN2_VL,
    &QWEN3_VL,
    &DECI,
    &JAIS2,
    &BERT,
    &ROBERTA,
    &DISTILBERT,
    &NOMIC_BERT,
    &T5,
    &T5_ENCODER,
];
