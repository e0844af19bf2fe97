//! What is said of a family: rules for the names of its tensors, and how they are shared. Data; resolves nothing.
//!
//! Names stand without the prefix of the decoder (`model.`) and without `.weight` and `.bias`: a bias goes with its weight.

use super::NormForm;

/// What the modules that a rule names are to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSide {
    /// A table of vectors that are added to the stream, one a row.
    Embedding,
    /// Reads the stream through the norm of this name.
    Reads(&'static str),
    /// Its outputs are added to the stream.
    Writes,
    /// Normalises the stream for those that read it.
    Norm,
    /// Has a gain on what a branch adds to the stream: no rotation passes.
    PreventsRotation,
    /// Lies beside the stream, whatever its axes.
    Untouched,
}

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct NameRule {
    /// A pattern of names ([`super::pattern`]).
    pub names: &'static str,
    /// What they are.
    pub side: StreamSide,
    /// The axis of the stream, where it is not the usual one: the last of what reads, the first of what writes.
    pub axis: Option<usize>,
    /// Whether these are tensors and no modules: no `.weight` follows, and a bias is `_bias`. Those of the stream are
    /// stacks of matrices, one for each expert.
    pub bare: bool,
}

const fn rule(names: &'static str, side: StreamSide) -> NameRule {
    NameRule { names, side, axis: None, bare: false }
}

pub const fn embedding(names: &'static str) -> NameRule {
    rule(names, StreamSide::Embedding)
}

pub const fn reads(names: &'static str, norm: &'static str) -> NameRule {
    rule(names, StreamSide::Reads(norm))
}

pub const fn writes(names: &'static str) -> NameRule {
    rule(names, StreamSide::Writes)
}

pub const fn norm(names: &'static str) -> NameRule {
    rule(names, StreamSide::Norm)
}

pub const fn prevents_rotation(names: &'static str) -> NameRule {
    rule(names, StreamSide::PreventsRotation)
}

pub const fn untouched(names: &'static str) -> NameRule {
    rule(names, StreamSide::Untouched)
}

impl NameRule {
    /// The same, with the stream along this axis.
    pub const fn along(self, axis: usize) -> NameRule {
        NameRule { axis: Some(axis), ..self }
    }

    /// The same of tensors that are no modules.
    pub const fn bare(self) -> NameRule {
        NameRule { bare: true, ..self }
    }
}

/// Where the decoder and its head stand in the names of a file.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// What comes before the names of the decoder.
    pub decoder: &'static str,
    /// What comes before the name of the head.
    pub head: &'static str,
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
    /// What is left of a key, then values, for each head: `[heads * (nope + d), rank]`.
    Latent,
    /// As `Stacked`, every head with its own, and the other way round: `[hidden, 3 heads * d]`.
    Transposed,
}

/// The tensors between which the values of the heads lie.
#[derive(Clone, Copy, Debug)]
pub struct ValueProjections {
    pub layout: ValueLayout,
    /// Makes the values.
    pub v_proj: &'static str,
    /// Reads them, head by head.
    pub o_proj: &'static str,
    /// Why they cannot be rotated, where they cannot.
    pub refused: Option<&'static str>,
}

/// How the predictor of further tokens is told from the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtpLocation {
    /// The family has none that we know.
    None,
    /// Everything under `mtp.`.
    Module,
    /// The layers after the last one.
    LayersBeyond,
}

/// A flag of the configuration that makes another model of the family.
#[derive(Clone, Copy, Debug)]
pub struct RequiredFlag {
    pub key: &'static str,
    /// What it must say.
    pub value: bool,
    /// What it says where it is absent.
    pub default: bool,
}

/// A family.
#[derive(Clone, Copy, Debug)]
pub struct RotationFamily {
    /// The name that reports give it.
    pub name: &'static str,
    /// `model_type` of the configurations that are of this family.
    pub model_types: &'static [&'static str],
    /// Where its names may begin, most usual first.
    pub prefixes: &'static [Prefix],
    /// The embedding of tokens.
    pub embedding: &'static str,
    /// The names a head can have; one that must be made gets the first.
    pub heads: &'static [NameRule],
    /// The tables of the decoder's names, the first rule that fits counts.
    pub tables: &'static [&'static [NameRule]],
    /// Rules for what stands outside the decoder, by whole names.
    pub outside: &'static [NameRule],
    pub form: NormForm,
    /// Whether norms subtract the mean.
    pub layer_norm: bool,
    /// Why no rotation of the stream is exact, where none is.
    pub refused: Option<&'static str>,
    pub values: ValueProjections,
    pub mtp: MtpLocation,
    pub needed: &'static [RequiredFlag],
}

pub const FIRST: &str = "layers.{layer}.input_layernorm";
pub const SECOND: &str = "layers.{layer}.post_attention_layernorm";
pub const LAST: &str = "norm";

/// Llama's stream without its layers.
pub const ENDS: &[NameRule] = &[embedding("embed_tokens"), norm(LAST)];
/// Norms before the branches.
pub const NORMS: &[NameRule] = &[norm(FIRST), norm(SECOND)];
pub const ATTENTION: &[NameRule] =
    &[reads("layers.{layer}.self_attn.{q,k,v}_proj", FIRST), writes("layers.{layer}.self_attn.o_proj")];
/// A feed-forward part for every token.
pub const DENSE: &[NameRule] =
    &[reads("layers.{layer}.mlp.{gate,up}_proj", SECOND), writes("layers.{layer}.mlp.down_proj")];
/// Norms of queries and keys, in the space of the heads.
pub const HEAD_NORMS: &[NameRule] = &[untouched("layers.{layer}.self_attn.{q,k}_norm")];

const PREFIXES: &[Prefix] = &[
    Prefix { decoder: "model.", head: "" },
    Prefix { decoder: "model.language_model.", head: "" },
    Prefix { decoder: "language_model.model.", head: "language_model." },
    Prefix { decoder: "", head: "" },
];

/// Llama: every other family says how it differs.
pub const LLAMA: RotationFamily = RotationFamily {
    name: "llama",
    model_types: &["llama"],
    prefixes: PREFIXES,
    embedding: "embed_tokens",
    heads: &[reads("lm_head", LAST)],
    tables: &[ENDS, NORMS, ATTENTION, DENSE],
    outside: &[],
    form: NormForm::Gain,
    layer_norm: false,
    refused: None,
    values: ValueProjections {
        layout: ValueLayout::Plain,
        v_proj: "layers.{layer}.self_attn.v_proj",
        o_proj: "layers.{layer}.self_attn.o_proj",
        refused: None,
    },
    mtp: MtpLocation::None,
    needed: &[],
};

/// The family of a `model_type`.
pub fn find(model_type: &str) -> Option<&'static RotationFamily> {
    all().find(|f| f.model_types.contains(&model_type))
}

/// Every family there is.
pub fn all() -> impl Iterator<Item = &'static RotationFamily> {
    [super::dense::FAMILIES, super::moe::FAMILIES, super::linear::FAMILIES]
        .into_iter()
        .chain([super::pre_post_norm::FAMILIES, super::layer_norm::FAMILIES])
        .flatten()
}
