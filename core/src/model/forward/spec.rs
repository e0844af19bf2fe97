//! What a forward pass needs to know of an architecture. Data; knows no arithmetic.

use crate::model::arch::module::Module;
use crate::model::arch::{self, Arch};
use crate::model::config::Config;

/// What a family does its own way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForwardSpec {
    /// How vectors are normalised.
    pub norm: Norm,
    /// Where the branches of a layer have norms.
    pub norms: NormPlaces,
    /// How positions are mixed where nothing of the below does it.
    pub attention: Attention,
    /// How linear attention, where a layer has it, gets what it mixes.
    pub delta: Option<DeltaProjections>,
    /// Layers may mix by a short convolution.
    pub convolution: bool,
    /// Keys and values are made from one short vector.
    pub latent: bool,
    /// The feed-forward part of layers without experts.
    pub feed: FeedForward,
    /// The norm before attention; [`Module::AttnNorm`] where the checkpoint has no such tensor.
    pub attn_norm: Module,
    /// The norm before the feed-forward part.
    pub feed_norm: Module,
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
    /// Matrices of the layers are stored `[in, out]` (GPT-2).
    pub columns: bool,
    /// Rows of the table of positions before that of position 0.
    pub position_offset: usize,
}

/// How a vector is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// By its root mean square; this is added to every gain.
    Rms(f64),
    /// By its mean and variance.
    Mean,
    /// By its mean and variance; 1 is added to every gain.
    MeanPlusOne,
    /// By its mean and variance, without gains (OLMo).
    MeanWithoutGain,
}

/// Where the branches of a layer have norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlaces {
    /// On their inputs.
    Before,
    /// On their outputs.
    After,
    /// On both.
    Both,
}

impl NormPlaces {
    /// Whether inputs have norms.
    pub fn before(self) -> bool {
        self != NormPlaces::After
    }

    /// Whether outputs have norms.
    pub fn after(self) -> bool {
        self != NormPlaces::Before
    }
}

/// Attention over all positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// How queries, keys and values are made.
    pub inputs: QkvProjection,
    /// Queries and keys are normalised, head by head.
    pub head_norms: bool,
    /// Every head has gains of its own.
    pub own_gains: bool,
    /// Queries and keys are normalised over all heads together.
    pub joint_norms: bool,
    /// Queries and keys are normalised after the rotary embedding.
    pub norms_after_rotary: bool,
    /// Rotated queries and keys are divided by their root mean square, without gains, if the configuration says so; layers without
    /// a rotary embedding scale queries by their position; rotated layers attend within chunks (Llama 4).
    pub chunked: bool,
    /// Queries come with gates, head by head, that what was mixed is multiplied by.
    pub gated: bool,
    /// Every head has a score that takes its share and gives nothing.
    pub sinks: bool,
    /// How queries and keys are rotated.
    pub rotary: Rotary,
    /// Where some layers have a sliding window, the others are not rotated.
    pub unrotated_full: bool,
    /// Layers with a sliding window have rotary frequencies of their own, which are not stretched.
    pub local_rope: bool,
}

/// How queries, keys and values are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvProjection {
    /// By a matrix each.
    Separate,
    /// By one matrix: all queries, then all keys, then all values.
    Joined,
    /// By one matrix: query, key and value of the first head, those of the second, ...
    JoinedByHead,
    /// By one matrix: the queries, the key and the value of the first key head, those of the second, ...
    JoinedByGroup,
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
pub enum FeedForward {
    /// Gate, up, down.
    Gated,
    /// Gate and up in one, down.
    Joined,
    /// Up, down.
    Plain,
}

/// How a family has its experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoeSpec {
    /// An expert that every token uses.
    pub shared: Option<SharedExpert>,
    /// A gate on that one.
    pub shared_gate: bool,
    /// How scores become shares.
    pub shares: RouterScores,
    /// Added to the sum that shares are divided by.
    pub share_epsilon: f64,
    /// Checkpoints may lack the correction of scores.
    pub optional_correction: bool,
    /// In stacks, the columns of gate and up alternate, and both are clamped (GPT-OSS).
    pub interleaved_gate_up: bool,
    /// Matrices of stacks are stored `[in, out]`.
    pub columns: bool,
}

/// An expert that every token uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedExpert {
    /// Gate, up, down, in every layer with experts.
    Gated,
    /// Gate, up, down, where the checkpoint has them.
    GatedIfStored,
    /// Gate and up in one, and down, where the checkpoint has them.
    JoinedIfStored,
}

/// How the scores of experts become shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterScores {
    /// All together are 1.
    Softmax,
    /// All together are 1; a correction is added where they are chosen.
    SoftmaxCorrected,
    /// Each for itself; a correction is added where they are chosen, first by groups.
    Sigmoid,
    /// Each for itself, without a correction; the share multiplies what the expert reads (Llama 4).
    SigmoidOfInput,
}

/// Llama's attention.
pub const ATTENTION: Attention = Attention {
    inputs: QkvProjection::Separate,
    head_norms: false,
    own_gains: false,
    joint_norms: false,
    norms_after_rotary: false,
    chunked: false,
    gated: false,
    sinks: false,
    rotary: Rotary::Halves,
    unrotated_full: false,
    local_rope: false,
};

/// The same with normalised queries and keys.
pub const NORMED: Attention = Attention { head_norms: true, ..ATTENTION };

/// Llama's forward pass.
pub const PLAIN: ForwardSpec = ForwardSpec {
    norm: Norm::Rms(0.0),
    norms: NormPlaces::Before,
    attention: ATTENTION,
    delta: None,
    convolution: false,
    latent: false,
    feed: FeedForward::Gated,
    attn_norm: Module::AttnNorm,
    feed_norm: Module::FfnNorm,
    experts: None,
    scaled_embedding: false,
    parallel: false,
    configured_parallel: false,
    configured_head_norms: false,
    columns: false,
    position_offset: 0,
};

/// Experts under `mlp`.
pub const EXPERTS: MoeSpec = MoeSpec {
    shared: None,
    shared_gate: false,
    shares: RouterScores::Softmax,
    share_epsilon: 0.0,
    optional_correction: false,
    interleaved_gate_up: false,
    columns: false,
};

/// Experts under `mlp` beside one that every token uses.
pub const WITH_SHARED: MoeSpec = MoeSpec { shared: Some(SharedExpert::Gated), shared_gate: true, ..EXPERTS };

impl ForwardSpec {
    /// The forward pass of a configuration's architecture, where there is one.
    pub fn of(config: &Config) -> Option<(&'static Arch, ForwardSpec)> {
        let arch = arch::find(&config.model_type)?;
        let mut spec = arch.forward?;
        if spec.configured_parallel {
            spec.parallel = config.parallel;
        }
        spec.attention.head_norms |= spec.configured_head_norms && config.head_norms;
        Some((arch, spec))
    }
}
