//! What llama.cpp's converter does to the tensors of an architecture, beside renaming them: data of its `Arch` row.
//!
//! Source: `conversion/` of llama.cpp. Knows no checkpoint; [`gguf_tensors`](crate::model::gguf_tensors) applies it.

use super::module::Module as M;

/// What the converter does to the tensors of an architecture.
#[derive(Clone, Copy, Debug)]
pub struct GgufRules {
    /// Whether the rules below are complete, so that a checkpoint of the architecture can be converted.
    pub known: bool,
    /// Entries of `architectures` in `config.json` that decide for this row where `model_type` does not.
    pub classes: &'static [&'static str],
    /// What happens to the values of a module; modules that are not listed are copied.
    pub maps: &'static [(M, ValueMap)],
    /// The order in which a layer's stacks of experts appear.
    pub experts: [M; 3],
    /// Whether biases are dropped unless `attention_bias` is set: files have some that the model does not use.
    pub unused_biases: bool,
    /// Ends of names that are dropped beside those that every text model drops.
    pub dropped: &'static [&'static str],
    /// Tensors that are computed from the configuration.
    pub generated: Generated,
    /// Whether the output head is written.
    pub head: HeadRule,
    /// What happens to layers after the last one.
    pub beyond: BeyondRule,
}

/// What happens to the values of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueMap {
    /// Rows of each query head: halves are interleaved, of weights and biases.
    PermuteQ,
    /// The same for key heads.
    PermuteK,
    /// `[in, out]` becomes `[out, in]`; biases stay.
    Transpose,
    /// An axis of length 1 in the middle is removed.
    Squeeze,
    /// `-exp(x)`.
    NegExp,
    /// The same, one value for each V head.
    NegExpVHeads,
    /// `-exp(x)` as a column `[n, 1]`.
    NegExpColumn,
    /// A column `[n, 1]`.
    Column,
    /// A matrix with a row for each group of the state space.
    Groups,
    /// `[E, 2 I, H]` or `[2 I, H]` becomes a gate and an up tensor: the first and the second half of the rows.
    Halves,
    /// `[E, H, 2 I]` becomes `[E, I, H]` twice: columns of the first half, then of the second.
    HalvesTransposed,
    /// `[E, 2 I, H]` becomes `[E, I, H]` twice: even rows, then odd rows.
    EvenOdd,
    /// `[E, H, 2 I]` becomes `[E, I, H]` twice: even columns, then odd columns; biases `[E, 2 I]` likewise.
    EvenOddTransposed,
    /// `[E, I, H]` becomes `[E, H, I]`; biases stay.
    TransposeEach,
    /// `[heads * (nope + v), rank]` becomes keys `[heads, rank, nope]` and values `[heads, v, rank]`.
    LatentKv,
    /// Rows `[heads, 3, d]` become `[3, heads, d]`.
    QkvByHead,
    /// Rows `[kv, heads / kv + 2, d]` become all queries, all keys, all values.
    QkvByGroup,
    /// Rows are queries, keys, values and gates of each key head: all of each kind together, gates apart.
    Qkvz,
    /// The value rows are in the order of the GGUF's V heads.
    VHeadsOfQkv,
    /// Rows of V heads of `value_head_dim` each.
    VHeads,
    /// One row for each V head.
    VHeadScalars,
    /// Channels of a convolution: the value channels are in the order of the GGUF's V heads; squeezed.
    VHeadsOfConv,
    /// Columns of V heads.
    VHeadColumns,
    /// The first `pad_token_id + 1` rows are cut.
    CutPositions,
}

/// Tensors that are computed from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    /// None.
    None,
    /// `rope_freqs.weight`, where the rotary scaling is `llama3`; the factor if the configuration has none.
    RopeFreqs(u32),
    /// `rope_factors_long.weight` and `rope_factors_short.weight`, where the configuration lists them.
    RopeFactors,
    /// `rope_freqs.weight` of full-attention layers that rotate a part of a head.
    PartialRope,
}

/// Whether the output head is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRule {
    /// Where the checkpoint has one.
    Written,
    /// Never.
    Dropped,
    /// Where `tie_word_embeddings` is false.
    DroppedWhenTied,
}

/// What happens to layers after the last one, and to the tensors of a multi-token predictor (MTP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeyondRule {
    /// There must be none.
    Refused,
    /// They are left out.
    Dropped,
    /// They are written as further layers.
    Kept,
    /// `mtp.` becomes the layers after the last one.
    Mtp,
}

/// Stacks as Mixtral's converter writes them.
pub const GATE_DOWN_UP: [M; 3] = [M::FfnGateExps, M::FfnDownExps, M::FfnUpExps];
/// Stacks as most converters write them.
pub const DOWN_GATE_UP: [M; 3] = [M::FfnDownExps, M::FfnGateExps, M::FfnUpExps];
/// Stacks of ERNIE.
pub const GATE_UP_DOWN: [M; 3] = [M::FfnGateExps, M::FfnUpExps, M::FfnDownExps];

/// Not known: a checkpoint of the architecture is not converted.
pub const UNKNOWN: GgufRules = GgufRules { known: false, ..PLAIN };

/// Tensors are renamed, and experts stacked.
pub const PLAIN: GgufRules = GgufRules {
    known: true,
    classes: &[],
    maps: &[
        (M::FfnGateUpExps, ValueMap::Halves),
        (M::FfnGateUpShexp, ValueMap::Halves),
        (M::ShortConv, ValueMap::Squeeze),
    ],
    experts: DOWN_GATE_UP,
    unused_biases: false,
    dropped: &[],
    generated: Generated::None,
    head: HeadRule::Written,
    beyond: BeyondRule::Refused,
};

/// Llama's converter: query and key heads are interleaved, and the rotary frequencies may have factors.
pub const PERMUTED: GgufRules = GgufRules {
    maps: &[
        (M::AttnQ, ValueMap::PermuteQ),
        (M::AttnK, ValueMap::PermuteK),
        (M::FfnGateUpExps, ValueMap::Halves),
        (M::FfnGateUpShexp, ValueMap::Halves),
    ],
    generated: Generated::RopeFreqs(8),
    ..PLAIN
};

/// Llama and Mixtral.
pub const LLAMA: GgufRules = GgufRules { experts: GATE_DOWN_UP, ..PERMUTED };

/// A Mamba-2 mixer.
pub const MAMBA2: GgufRules = GgufRules {
    maps: &[
        (M::SsmConv1d, ValueMap::Squeeze),
        (M::SsmA, ValueMap::NegExpColumn),
        (M::SsmD, ValueMap::Column),
        (M::SsmNorm, ValueMap::Groups),
    ],
    ..PLAIN
};

/// Mamba-2 mixers beside attention with interleaved heads.
pub const GRANITE_HYBRID: GgufRules = GgufRules {
    maps: &[
        (M::AttnQ, ValueMap::PermuteQ),
        (M::AttnK, ValueMap::PermuteK),
        (M::FfnGateUpExps, ValueMap::Halves),
        (M::FfnGateUpShexp, ValueMap::Halves),
        (M::SsmConv1d, ValueMap::Squeeze),
        (M::SsmA, ValueMap::NegExpColumn),
        (M::SsmD, ValueMap::Column),
        (M::SsmNorm, ValueMap::Groups),
    ],
    ..PLAIN
};

/// Latent attention; predictors are dropped.
pub const LATENT: GgufRules = GgufRules {
    maps: &[(M::AttnKvB, ValueMap::LatentKv), (M::FfnGateUpExps, ValueMap::Halves)],
    head: HeadRule::DroppedWhenTied,
    beyond: BeyondRule::Dropped,
    ..PLAIN
};

/// Linear attention whose queries, keys, values and gates are one matrix.
pub const QWEN3_NEXT: GgufRules = GgufRules {
    maps: &[
        (M::FfnGateUpExps, ValueMap::Halves),
        (M::SsmConv1d, ValueMap::Squeeze),
        (M::SsmA, ValueMap::NegExp),
        (M::SsmQkvz, ValueMap::Qkvz),
    ],
    beyond: BeyondRule::Mtp,
    ..PLAIN
};

/// Linear attention with separate projections, whose V heads are reordered.
pub const QWEN3_5: GgufRules = GgufRules {
    maps: &[
        (M::FfnGateUpExps, ValueMap::Halves),
        (M::AttnQkv, ValueMap::VHeadsOfQkv),
        (M::AttnGate, ValueMap::VHeads),
        (M::SsmBeta, ValueMap::VHeadScalars),
        (M::SsmAlpha, ValueMap::VHeadScalars),
        (M::SsmDt, ValueMap::VHeadScalars),
        (M::SsmA, ValueMap::NegExpVHeads),
        (M::SsmConv1d, ValueMap::VHeadsOfConv),
        (M::SsmOut, ValueMap::VHeadColumns),
    ],
    beyond: BeyondRule::Mtp,
    ..PLAIN
};

/// GPT-2 stores matrices as `[in, out]`, and its mask.
pub const GPT2: GgufRules = GgufRules {
    maps: &[
        (M::AttnQkv, ValueMap::Transpose),
        (M::AttnOutput, ValueMap::Transpose),
        (M::FfnUp, ValueMap::Transpose),
        (M::FfnDown, ValueMap::Transpose),
    ],
    dropped: &[".attn.bias", ".attn.masked_bias"],
    ..PLAIN
};

/// Stacks `[E, in, out]` with gate and up columns in turns.
pub const GPT_OSS: GgufRules = GgufRules {
    maps: &[(M::FfnGateUpExps, ValueMap::EvenOddTransposed), (M::FfnDownExps, ValueMap::TransposeEach)],
    ..PLAIN
};

/// Stacks `[E, in, out]` with the gate's columns first.
pub const LLAMA4: GgufRules = GgufRules {
    maps: &[(M::FfnGateUpExps, ValueMap::HalvesTransposed), (M::FfnDownExps, ValueMap::TransposeEach)],
    generated: Generated::RopeFreqs(8),
    ..PLAIN
};

/// BERT and its kin: poolers and heads of the pre-training are dropped.
pub const BERT: GgufRules = GgufRules {
    dropped: &[
        "pooler.dense.weight",
        "pooler.dense.bias",
        "position_ids",
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ],
    ..PLAIN
};

/// RoBERTa and XLM-RoBERTa: rows of the positions that belong to padding are cut.
pub const ROBERTA: GgufRules = GgufRules { maps: &[(M::PosEmbd, ValueMap::CutPositions)], ..BERT };

/// Queries, keys and values of each head follow each other.
pub const GPT_NEOX: GgufRules =
    GgufRules { maps: &[(M::AttnQkv, ValueMap::QkvByHead)], dropped: &[".attention.masked_bias"], ..PLAIN };

/// The queries of a group, its key and its values follow each other.
pub const FALCON: GgufRules = GgufRules { maps: &[(M::AttnQkv, ValueMap::QkvByGroup)], ..PLAIN };
