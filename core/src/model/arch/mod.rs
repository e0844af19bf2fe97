//! One description per architecture: its names, its configuration, its recipes, its rotation, its forward pass.
//!
//! An [`Arch`] is data. What follows from it is computed elsewhere: tensor names in [`tensor_id`](super::tensor_id),
//! rotation roles in [`family`](super::family), logits in [`forward`](super::forward). Knows no tensor of a checkpoint.

mod generic;
pub mod gguf_rules;
mod layer_norm;
mod linear;
mod llama_like;
mod llama_names_only;
pub mod mlx_names;
pub mod module;
mod moe;
mod names_only;
mod pre_post_norm;
pub mod row;

pub use generic::GENERIC;
pub use names_only::MISTRAL_NAME as MISTRAL_FORMAT;

use super::config::Activation;
use super::forward::spec::ForwardSpec;
use super::gguf_keys::KeyRule;
use super::tokenizer::rules::TokenizerRules;
use crate::tensor::Metadata;
use gguf_rules::GgufRules;
use row::TensorMapRow;
use serde_json::Value;

/// An architecture.
#[derive(Clone, Copy, Debug)]
pub struct Arch {
    /// The name in reports and messages.
    pub name: &'static str,
    /// `model_type` of its configurations.
    pub model_types: &'static [&'static str],
    /// `general.architecture` of its GGUF files.
    pub gguf: Option<&'static str>,
    /// The prefixes that its names can have, the usual one first.
    pub prefixes: &'static [Prefix],
    /// The tensor map: tables of rows, the first row that fits counts.
    pub tensors: &'static [&'static [TensorMapRow]],
    /// Rows outside of the decoder, by whole names; no GGUF of the model has them.
    pub outside: &'static [TensorMapRow],
    /// How norm gains are stored.
    pub norm_form: NormForm,
    /// What llama.cpp's converter does to values.
    pub gguf_values: GgufValues,
    /// What llama.cpp's converter does to a checkpoint.
    pub gguf_rules: GgufRules,
    /// What `config.json` leaves out.
    pub config: ConfigDefaults,
    /// What llama-quantize treats in its own way.
    pub recipe: RecipeFacts,
    /// What a rotation has to know, where its rules are known.
    pub rotation: Option<RotationFacts>,
    /// The forward pass, where there is one.
    pub forward: Option<ForwardSpec>,
    /// The same architecture with the stacks of experts of a GGUF, if a checkpoint has them transposed or joined so that a GGUF
    /// cannot be read as a checkpoint.
    pub gguf_stacks: Option<&'static Arch>,
    /// What it writes into a GGUF beside `general.*` and `tokenizer.*`.
    pub gguf_keys: &'static [&'static [KeyRule]],
    /// Its tokenizer files and keys.
    pub tokenizer: TokenizerRules,
    /// The names of its tensors in mlx-lm, where they are known.
    pub mlx: Option<mlx_names::MlxNames>,
}

impl Arch {
    /// Whether gate and up projections of the shared expert are one matrix.
    pub fn has_gate_up_shared(&self) -> bool {
        self.rows().any(|r| r.module == module::Module::FfnGateUpShexp)
    }
}

/// Where the decoder and its head stand in the names of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// What comes before the names of the decoder.
    pub decoder: &'static str,
    /// What comes before the name of the head.
    pub head: &'static str,
}

impl Prefix {
    /// A prefix of the decoder; the head has none.
    pub const fn decoder(decoder: &'static str) -> Prefix {
        Prefix { decoder, head: "" }
    }
}

/// How a gain is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormForm {
    /// The gain itself.
    Gain,
    /// The gain minus 1. GGUF files store the gain.
    OnePlusGain,
}

impl NormForm {
    /// What is added to a stored value to get the gain.
    pub const fn plus(self) -> f64 {
        match self {
            NormForm::Gain => 0.0,
            NormForm::OnePlusGain => 1.0,
        }
    }

    /// The stored value of a gain of 1.
    pub const fn neutral(self) -> f64 {
        1.0 - self.plus()
    }
}

/// What llama.cpp's converter does to values beside norm gains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufValues {
    /// Not known well enough to undo it.
    Unknown,
    /// Nothing but stacking experts.
    Plain,
    /// The rows of query and key heads are interleaved for rotary embedding.
    InterleavedQk,
}

/// What a configuration means where it does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigDefaults {
    /// The head is the embedding.
    pub tied: bool,
    /// The share of a head that is rotated.
    pub rotary_share: f64,
    /// The weights of the chosen experts add up to 1.
    pub normalised_experts: bool,
    /// The layers with a sliding window.
    pub sliding: SlidingLayers,
    /// Every layer whose number (from 1) is a multiple of this has no rotary embedding.
    pub unrotated_every: Option<usize>,
    /// What logits are multiplied by.
    pub logit_scale: Option<f64>,
    /// The bounds of scores and of logits.
    pub softcaps: Option<(f64, f64)>,
    /// Scores are divided by the root of this, not of the length of a head.
    pub query_scalar: Option<f64>,
    /// What scores are multiplied by, where that is neither of the two.
    pub attention_multiplier: Option<f64>,
    /// `alpha` of `dynamic` rotary scaling changes the base (HunYuan).
    pub dynamic_alpha: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Base of those of layers with a sliding window, where they have their own.
    pub local_theta: Option<f64>,
    /// The activation called `gelu`.
    pub gelu: Activation,
    /// The activation, which a GGUF does not store.
    pub activation: Activation,
    /// Added to the mean square or variance in norms.
    pub norm_eps: f64,
    /// Queries and keys are normalised, if the configuration does not say.
    pub head_norms: bool,
    /// `attention_chunk_size`.
    pub chunk: Option<usize>,
    /// `attn_scale` and `floor_scale` of scores that grow with the position.
    pub temperature: Option<(f64, f64)>,
    /// Flags whose other value no forward pass supports.
    pub required: &'static [RequiredFlag],
}

/// Layers with a sliding window where the configuration does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingLayers {
    /// Those that `use_sliding_window` and `max_window_layers` give.
    Configured,
    /// All.
    All,
    /// The even ones, counted from 0.
    Even,
    /// All but every so-many-th.
    AllBut(usize),
}

/// What llama-quantize's presets treat in their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecipeFacts {
    /// Falcon's rules for head, down projections and attention output.
    pub falcon: bool,
    /// With so many layers, attention values get more bits: many heads share few values.
    pub shared_values: Option<SharedValues>,
}

/// The size at which attention values get more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedValues {
    /// The number of layers.
    pub layers: u64,
    /// Only where query heads outnumber key-value heads.
    pub grouped: bool,
}

/// How the values of the heads lie in the tensor that makes them, `d` values a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueLayout {
    /// `[kv * d, hidden]`.
    Plain,
    /// After all queries and all keys: `[(heads + 2 kv) * d, hidden]`.
    Stacked,
    /// A query, a key and values for each head: `[heads * 3 d, hidden]`.
    Interleaved,
    /// The queries of a group, its key, its values: `[kv * (heads / kv + 2) * d, hidden]`.
    Grouped,
    /// The unrotated part of a key, then values, for each head: `[heads * (nope + d), rank]`.
    Latent,
    /// As `Stacked`, every head with its own, transposed: `[hidden, 3 heads * d]`.
    Transposed,
}

impl ValueLayout {
    /// The module that makes the values.
    pub const fn module(self) -> module::Module {
        match self {
            ValueLayout::Plain => module::Module::AttnV,
            ValueLayout::Latent => module::Module::AttnKvB,
            _ => module::Module::AttnQkv,
        }
    }
}

/// Where the multi-token predictor (MTP) stands in the names of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtpLocation {
    /// The architecture has none.
    None,
    /// Everything under `mtp.`.
    Module,
    /// The layers after the last one.
    LayersBeyond,
}

/// A flag of the configuration that the rotation rules need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredFlag {
    /// Its key.
    pub key: &'static str,
    /// The value that the rules cover.
    pub value: bool,
    /// Its value where the key is absent.
    pub default: bool,
    /// A flag that makes it irrelevant where it is true.
    pub unless: Option<&'static str>,
}

/// What a rotation has to know beside the roles of the rows.
#[derive(Clone, Copy, Debug)]
pub struct RotationFacts {
    /// Whether norms subtract the mean.
    pub layer_norm: bool,
    /// Why no rotation of the stream is exact, where none is.
    pub refused: Option<&'static str>,
    /// How the values of the heads lie.
    pub values: ValueLayout,
    /// Why the values cannot be rotated, where they cannot.
    pub values_refused: Option<&'static str>,
    /// The predictor of further tokens.
    pub mtp: MtpLocation,
    /// Flags that make another model of the architecture.
    pub required: &'static [RequiredFlag],
}

/// All architectures; those of one name follow each other.
pub fn all() -> impl Iterator<Item = &'static Arch> {
    [
        llama_like::ALL,
        llama_names_only::ALL,
        moe::ALL,
        linear::ALL,
        pre_post_norm::ALL,
        layer_norm::ALL,
        names_only::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The architecture of a `model_type`.
pub fn find(model_type: &str) -> Option<&'static Arch> {
    all().find(|a| a.model_types.contains(&model_type))
}

/// The architectures of a `general.architecture`.
pub fn of_gguf(architecture: &str) -> impl Iterator<Item = &'static Arch> {
    all().filter(move |a| a.gguf == Some(architecture))
}

/// The architecture of a name of either kind.
pub fn named(name: &str) -> Option<&'static Arch> {
    of_gguf(name).next().or_else(|| find(name))
}

/// The architecture of a model with this metadata (of a GGUF) and `config.json`; [`GENERIC`] where it is not known.
pub fn of_model(metadata: &Metadata, config: Option<&[u8]>) -> &'static Arch {
    if let Some(arch) = metadata.text("general.architecture").and_then(named) {
        return arch;
    }
    let config = config.and_then(|c| serde_json::from_slice::<Value>(c).ok());
    let model_type = |of: &Value| of.get("model_type").and_then(Value::as_str).and_then(named);
    let nested = |of: &Value| NESTED.iter().find_map(|key| of.get(*key).and_then(model_type));
    config.and_then(|c| nested(&c).or_else(|| model_type(&c))).unwrap_or(&GENERIC)
}

/// The keys under which multi-modal configurations hold that of their text model.
pub const NESTED: [&str; 3] = ["text_config", "llm_config", "language_config"];
