//! What is said of a family: rules for the names of its tensors, and how they are shared. Data; resolves nothing.
//!
//! Names stand without the prefix of the decoder (`model.`) and without `.weight` and `.bias`: a bias goes with its weight.

use super::NormForm;

/// What the modules that a rule names are to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A table of vectors that are added to the stream, one a row.
    Embeds,
    /// Reads the stream through the norm of this name.
    Reads(&'static str),
    /// Its outputs are added to the stream.
    Writes,
    /// Normalises the stream for those that read it.
    Norm,
    /// Has a gain on what a branch adds to the stream: no rotation passes.
    Blocks,
    /// Lies beside the stream, whatever its axes.
    Apart,
}

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// A pattern of names ([`super::pattern`]).
    pub names: &'static str,
    /// What they are.
    pub side: Side,
    /// The axis of the stream, where it is not the usual one: the last of what reads, the first of what writes.
    pub axis: Option<usize>,
    /// Whether these are tensors and no modules: no `.weight` follows, and a bias is `_bias`. Those of the stream are
    /// stacks of matrices, one for each expert.
    pub bare: bool,
}

const fn rule(names: &'static str, side: Side) -> Rule {
    Rule { names, side, axis: None, bare: false }
}

pub const fn embeds(names: &'static str) -> Rule {
    rule(names, Side::Embeds)
}

pub const fn reads(names: &'static str, norm: &'static str) -> Rule {
    rule(names, Side::Reads(norm))
}

pub const fn writes(names: &'static str) -> Rule {
    rule(names, Side::Writes)
}

pub const fn norm(names: &'static str) -> Rule {
    rule(names, Side::Norm)
}

pub const fn blocks(names: &'static str) -> Rule {
    rule(names, Side::Blocks)
}

pub const fn apart(names: &'static str) -> Rule {
    rule(names, Side::Apart)
}

impl Rule {
    /// The same, with the stream along this axis.
    pub const fn along(self, axis: usize) -> Rule {
        Rule { axis: Some(axis), ..self }
    }

    /// The same of tensors that are no modules.
    pub const fn bare(self) -> Rule {
        Rule { bare: true, ..self }
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
pub enum Layout {
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
pub struct Values {
    pub layout: Layout,
    /// Makes the values.
    pub made_by: &'static str,
    /// Reads them, head by head.
    pub read_by: &'static str,
    /// Why they cannot be rotated, where they cannot.
    pub refused: Option<&'static str>,
}

/// How the predictor of further tokens is told from the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoreTokens {
    /// The family has none that we know.
    None,
    /// Everything under `mtp.`.
    Module,
    /// The layers after the last one.
    LayersBeyond,
}

/// A flag of the configuration that makes another model of the family.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    pub key: &'static str,
    /// What it must say.
    pub value: bool,
    /// What it says where it is absent.
    pub default: bool,
}

/// A family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name that reports give it.
    pub name: &'static str,
    /// `model_type` of the configurations that are of this family.
    pub model_types: &'static [&'static str],
    /// Where its names may begin, most usual first.
    pub prefixes: &'static [Prefix],
    /// The embedding of tokens.
    pub embedding: &'static str,
    /// The names a head can have; one that must be made gets the first.
    pub heads: &'static [Rule],
    /// The tables of the decoder's names, the first rule that fits counts.
    pub tables: &'static [&'static [Rule]],
    /// Rules for what stands outside the decoder, by whole names.
    pub outside: &'static [Rule],
    pub form: NormForm,
    /// Whether norms subtract the mean.
    pub centred: bool,
    /// Why no rotation of the stream is exact, where none is.
    pub refused: Option<&'static str>,
    pub values: Values,
    pub more_tokens: MoreTokens,
    pub needed: &'static [Needed],
}

pub const FIRST: &str = "layers.{layer}.input_layernorm";
pub const SECOND: &str = "layers.{layer}.post_attention_layernorm";
pub const LAST: &str = "norm";

/// Llama's stream without its layers.
pub const ENDS: &[Rule] = &[embeds("embed_tokens"), norm(LAST)];
/// Norms before the branches.
pub const NORMS: &[Rule] = &[norm(FIRST), norm(SECOND)];
pub const ATTENTION: &[Rule] =
    &[reads("layers.{layer}.self_attn.{q,k,v}_proj", FIRST), writes("layers.{layer}.self_attn.o_proj")];
/// A feed-forward part for every token.
pub const DENSE: &[Rule] =
    &[reads("layers.{layer}.mlp.{gate,up}_proj", SECOND), writes("layers.{layer}.mlp.down_proj")];
/// Norms of queries and keys, in the space of the heads.
pub const HEAD_NORMS: &[Rule] = &[apart("layers.{layer}.self_attn.{q,k}_norm")];

const PREFIXES: &[Prefix] = &[
    Prefix { decoder: "model.", head: "" },
    Prefix { decoder: "model.language_model.", head: "" },
    Prefix { decoder: "language_model.model.", head: "language_model." },
    Prefix { decoder: "", head: "" },
];

/// Llama: every other family says how it differs.
pub const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama"],
    prefixes: PREFIXES,
    embedding: "embed_tokens",
    heads: &[reads("lm_head", LAST)],
    tables: &[ENDS, NORMS, ATTENTION, DENSE],
    outside: &[],
    form: NormForm::Gain,
    centred: false,
    refused: None,
    values: Values {
        layout: Layout::Plain,
        made_by: "layers.{layer}.self_attn.v_proj",
        read_by: "layers.{layer}.self_attn.o_proj",
        refused: None,
    },
    more_tokens: MoreTokens::None,
    needed: &[],
};

/// The family of a `model_type`.
pub fn find(model_type: &str) -> Option<&'static Family> {
    all().find(|f| f.model_types.contains(&model_type))
}

/// Every family there is.
pub fn all() -> impl Iterator<Item = &'static Family> {
    [super::dense::FAMILIES, super::mixtures::FAMILIES, super::linear::FAMILIES]
        .into_iter()
        .chain([super::sandwich::FAMILIES, super::centred::FAMILIES])
        .flatten()
}
