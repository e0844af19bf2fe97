//! Llama-like decoders without rotation rules. Most have no forward pass either.

use super::gguf_rules::{self, Generated, GgufRules, HeadRule};
use super::llama_like::{ATTENTION, CONFIG, DENSE, ENDS, HEAD_NORMS, LLAMA_LIKE, NORMS};
use super::module::Module as M;
use super::row::{TensorMapRow, layer, root, within};
use super::{Arch, ConfigDefaults, Prefix};
use crate::model::config::Activation;
use crate::model::forward::spec::{FeedForward, ForwardSpec, PLAIN};
use crate::model::gguf_keys::{BASE, families as keys};
use crate::model::tokenizer::rules as tokenizer;

const NAMED: Arch = Arch { rotation: None, forward: None, ..LLAMA_LIKE };

/// A feed-forward part without a gate.
const UP_DOWN: &[TensorMapRow] = &[layer(M::FfnUp, "mlp.up_proj"), layer(M::FfnDown, "mlp.down_proj")];

const EXAONE_ROWS: &[TensorMapRow] = &[
    root(M::TokenEmbd, "wte"),
    root(M::OutputNorm, "ln_f"),
    root(M::Output, "lm_head"),
    within("h", M::AttnNorm, "ln_1"),
    within("h", M::FfnNorm, "ln_2"),
    within("h", M::AttnQ, "attn.attention.q_proj"),
    within("h", M::AttnK, "attn.attention.k_proj"),
    within("h", M::AttnV, "attn.attention.v_proj"),
    within("h", M::AttnOutput, "attn.attention.out_proj"),
    within("h", M::FfnGate, "mlp.c_fc_0"),
    within("h", M::FfnUp, "mlp.c_fc_1"),
    within("h", M::FfnDown, "mlp.c_proj"),
];

const ARCEE: Arch = Arch {
    tokenizer: tokenizer::LLAMA,
    gguf_keys: &[BASE, keys::LLAMA, keys::POOLED],
    gguf_rules: gguf_rules::PERMUTED,
    name: "arcee",
    model_types: &["arcee"],
    gguf: Some("arcee"),
    tensors: &[ENDS, NORMS, ATTENTION, UP_DOWN],
    config: ConfigDefaults { activation: Activation::ReluSquared, norm_eps: 1e-5, ..CONFIG },
    forward: Some(ForwardSpec { feed: FeedForward::Plain, ..PLAIN }),
    ..NAMED
};

const EXAONE: Arch = Arch {
    gguf_keys: &[BASE, keys::EXAONE],
    gguf_rules: GgufRules { generated: Generated::RopeFreqs(8), ..gguf_rules::PLAIN },
    name: "exaone",
    model_types: &["exaone"],
    gguf: Some("exaone"),
    prefixes: &[Prefix::decoder("transformer."), Prefix::decoder("")],
    tensors: &[EXAONE_ROWS],
    ..NAMED
};

const MAINCODER: Arch = Arch {
    gguf_keys: &[BASE, keys::CONFIGURED_HEADS],
    gguf_rules: gguf_rules::PLAIN,
    name: "maincoder",
    model_types: &["maincoder"],
    gguf: Some("maincoder"),
    tensors: &[ENDS, NORMS, ATTENTION, DENSE, HEAD_NORMS],
    ..NAMED
};

const MINICPM: Arch = Arch {
    tokenizer: tokenizer::SENTENCEPIECE,
    gguf_keys: &[BASE, keys::MINICPM],
    gguf_rules: GgufRules { generated: Generated::RopeFactors, ..gguf_rules::PERMUTED },
    name: "minicpm",
    model_types: &["minicpm"],
    gguf: Some("minicpm"),
    ..NAMED
};

const PANGU_EMBEDDED: Arch = Arch {
    tokenizer: tokenizer::PANGU,
    gguf_keys: &[BASE, keys::LLAMA, keys::SHARED_HEADS],
    gguf_rules: GgufRules { head: HeadRule::DroppedWhenTied, ..gguf_rules::PLAIN },
    name: "pangu_embedded",
    model_types: &["PanguEmbedded"],
    gguf: Some("pangu-embedded"),
    ..NAMED
};

pub(super) const ALL: &[&Arch] = &[&ARCEE, &EXAONE, &MAINCODER, &MINICPM, &PANGU_EMBEDDED];
