//! What a forward pass needs to know of an architecture. Data; knows no arithmetic.

use crate::model::arch;
use crate::model::config::Config;

/// What a family does its own way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForwardSpec {
    /// How its tensors are called.
    pub names: WeightNames,
    /// How vectors are normalised.
    pub norm: Norm,
    /// How positions are mixed where nothing of the below does it.
    pub attention: Attention,
    /// How linear attention, where a layer has it, gets what it mixes.
    pub delta: Option<DeltaProjections>,
    /// Layers may mix by a short convolution.
    pub convolution: bool,
    /// Keys and values are made from one short vector.
    pub latent: bool,
    /// The feed-forward part of layers without experts.
    pub feed: FeedForward<'static>,
    /// The experts of layers that have some.
    pub experts: Option<MoeSpec>,
    /// The embedding is multiplied by the root of the stream's length.
    pub scaled_embedding: bool,
    /// Both branches of a layer read the same stream.
    pub parallel: bool,
    /// Whether they do is in the configuration.
    pub configured_parallel: bool,
    /// Whether queries and keys are normalised is in the configuration.
    pub configured_head_norms: bool,
    /// Matrices of the layers have a row for every value that is read, not for every one that is made.
    pub columns: bool,
}

/// How a family's tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightNames {
    /// The embedding.
    pub embedding: &'static str,
    /// A vector for every position, which is added to the embedding.
    pub positions: Option<&'static str>,
    /// What comes before the number of a layer.
    pub layers: &'static str,
    /// The norms before the two branches of a layer.
    pub norms: [&'static str; 2],
    /// The norm before the head.
    pub last_norm: &'static str,
    /// The head, where it is not the embedding.
    pub head: &'static str,
}

/// How a vector is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// By its root mean square; this is added to every gain.
    Rms(f64),
    /// By its mean and variance.
    Mean,
}

/// Attention over all positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// How queries, keys and values are made.
    pub inputs: QkvProjection,
    /// What makes the branch.
    pub output: &'static str,
    /// The norms of queries and keys, head by head.
    pub head_norms: Option<[&'static str; 2]>,
    /// Every head has gains of its own.
    pub own_gains: bool,
    /// Queries come with gates, head by head, that what was mixed is multiplied by.
    pub gated: bool,
    /// Every head has a score that takes its share and gives nothing.
    pub sinks: bool,
    /// How queries and keys are rotated.
    pub rotary: Rotary,
}

/// How queries, keys and values are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvProjection {
    /// By a matrix each.
    Separate([&'static str; 3]),
    /// By one matrix: all queries, then all keys, then all values.
    Joined(&'static str),
    /// By one matrix: query, key and value of the first head, those of the second, ...
    JoinedByHead(&'static str),
}

/// Which values of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotary {
    /// None.
    None,
    /// Value `i` with value `i + half`.
    Halves,
    /// Neighbours.
    Pairs,
}

/// How the gated delta rule gets its queries, keys, values, gates, strengths and decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaProjections {
    /// By two matrices, in which a head of keys has its heads of values beside it.
    Joined,
    /// By four.
    Separate,
}

/// A feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward<'a> {
    /// Gate, up, down.
    Gated([&'a str; 3]),
    /// Gate and up in one, down.
    Joined([&'a str; 2]),
    /// Up, down.
    Plain([&'a str; 2]),
}

/// How a family has its experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoeSpec {
    /// What gives them their scores.
    pub router: &'static str,
    /// What comes before the number of an expert, or the names of stacks.
    pub folder: &'static str,
    /// Gate, up, down.
    pub parts: [&'static str; 3],
    /// What every token uses: gate, up, down.
    pub shared: Option<[&'static str; 3]>,
    /// What weighs that.
    pub shared_gate: Option<&'static str>,
    /// How scores become shares.
    pub shares: RouterScores,
    /// In stacks, gate and up take turns and are clamped, and matrices have a row for every value that is read.
    pub turns: bool,
}

/// How the scores of experts become shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterScores {
    /// All together are 1.
    Softmax,
    /// Each for itself; a correction is added where they are chosen, first by groups.
    Sigmoid,
}

/// Llama's names.
pub const WEIGHT_NAMES: WeightNames = WeightNames {
    embedding: "embed_tokens.weight",
    positions: None,
    layers: "layers",
    norms: ["input_layernorm", "post_attention_layernorm"],
    last_norm: "norm",
    head: "lm_head.weight",
};

/// Llama's attention.
pub const ATTENTION: Attention = Attention {
    inputs: QkvProjection::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    output: "self_attn.o_proj",
    head_norms: None,
    own_gains: false,
    gated: false,
    sinks: false,
    rotary: Rotary::Halves,
};

/// The same with normalised queries and keys.
pub const NORMED: Attention =
    Attention { head_norms: Some(["self_attn.q_norm.weight", "self_attn.k_norm.weight"]), ..ATTENTION };

/// Llama's forward pass.
pub const PLAIN: ForwardSpec = ForwardSpec {
    names: WEIGHT_NAMES,
    norm: Norm::Rms(0.0),
    attention: ATTENTION,
    delta: None,
    convolution: false,
    latent: false,
    feed: FeedForward::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
    experts: None,
    scaled_embedding: false,
    parallel: false,
    configured_parallel: false,
    configured_head_norms: false,
    columns: false,
};

/// Experts under `mlp`.
pub const EXPERTS: MoeSpec = MoeSpec {
    router: "mlp.gate",
    folder: "mlp.experts",
    parts: ["gate_proj", "up_proj", "down_proj"],
    shared: None,
    shared_gate: None,
    shares: RouterScores::Softmax,
    turns: false,
};

/// Mixtral's experts.
pub const BLOCK_SPARSE: MoeSpec = MoeSpec {
    router: "block_sparse_moe.gate",
    folder: "block_sparse_moe.experts",
    parts: ["w1", "w3", "w2"],
    ..EXPERTS
};

/// Experts under `mlp` beside one that every token uses.
pub const WITH_SHARED: MoeSpec = MoeSpec {
    shared: Some(["mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj"]),
    shared_gate: Some("mlp.shared_expert_gate"),
    ..EXPERTS
};

impl ForwardSpec {
    /// The forward pass of a configuration's architecture, where there is one.
    pub fn of(config: &Config) -> Option<ForwardSpec> {
        let mut spec = arch::find(&config.model_type)?.forward?;
        if spec.configured_parallel {
            spec.parallel = config.parallel;
        }
        if spec.configured_head_norms && config.head_norms {
            spec.attention.head_norms = NORMED.head_norms;
        }
        Some(spec)
    }
}
