//! Which tensor gets which type in a preset: llama-quantize's choices for Llama-like models, as a table.
//!
//! Rules are read from the top; the first one that fits a tensor decides, and where none does it gets the preset's base
//! type. Facts: `llama-quant.cpp` of llama.cpp; the vectors `recipes/` hold what it chose.

use super::presets::Preset;
use crate::dtype::DType;
use crate::model::arch::module::Module;
use crate::model::config::hparams::Hparams;
use crate::model::tensor_id::{TensorId, TensorPart};
use Preset::{IQ1_M, IQ1_S, IQ2_M, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_M, IQ3_S, IQ3_XS, IQ3_XXS, IQ4_NL, IQ4_XS};
use Preset::{MXFP4_MOE, Q2_K, Q2_K_S, Q3_K_L, Q3_K_M, Q3_K_S, Q4_K_M, Q4_K_S, Q5_K_M, TQ1_0, TQ2_0};
use TensorCategory::{AttnK, AttnOutput, AttnQ, AttnV, Embedding, FfnDown, FfnGate, FfnUp, Output};
use When::{
    CountedEarly, Early, Experts8, Falcon, First, Gqa4, GqaOrExperts4, MiddleLayers, MoreBits, NoWeights,
    NotExperts8, NotFalcon, RowsNotWhole, Stacked, Weights,
};

/// What a tensor does, as far as a preset cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorCategory {
    /// The output head; with tied embeddings the embedding, which is both.
    Output,
    /// Token embeddings.
    Embedding,
    /// Attention values, also fused with queries and keys.
    AttnV,
    /// Attention keys.
    AttnK,
    /// Attention queries.
    AttnQ,
    /// What leads back from attention.
    AttnOutput,
    /// Up into the feed-forward part.
    FfnUp,
    /// Its gate.
    FfnGate,
    /// Down, out of it.
    FfnDown,
    /// Anything else.
    Other,
}

impl TensorCategory {
    /// The category of a tensor by its GGUF name.
    pub fn of(gguf: &str) -> TensorCategory {
        TensorId::parse_gguf(gguf).map_or_else(|| TensorCategory::by_words(gguf), TensorCategory::of_id)
    }

    /// The category of a tensor. Biases count with their weights in the feed-forward part only, as in llama-quantize.
    fn of_id(id: TensorId) -> TensorCategory {
        use Module as M;
        match id.module {
            M::FfnUp | M::FfnUpExps | M::FfnUpShexp | M::EncFfnUp | M::DecFfnUp => FfnUp,
            M::FfnGate | M::FfnGateExps | M::FfnGateShexp | M::FfnGateInp | M::FfnGateInpShexp => FfnGate,
            M::EncFfnGate | M::DecFfnGate => FfnGate,
            M::FfnDown | M::FfnDownExps | M::FfnDownShexp | M::EncFfnDown | M::DecFfnDown => FfnDown,
            _ if id.part != TensorPart::Weight => TensorCategory::Other,
            M::Output => Output,
            M::TokenEmbd | M::PerLayerTokenEmbd => Embedding,
            M::AttnV | M::AttnQkv | M::AttnKvB | M::EncAttnV | M::DecAttnV | M::DecCrossAttnV => AttnV,
            M::AttnK | M::EncAttnK | M::DecAttnK | M::DecCrossAttnK => AttnK,
            M::AttnQ | M::EncAttnQ | M::DecAttnQ | M::DecCrossAttnQ => AttnQ,
            M::AttnOutput => AttnOutput,
            _ => TensorCategory::Other,
        }
    }

    /// The category of a name that no GGUF of a known architecture has, by the words that llama-quantize looks for.
    fn by_words(gguf: &str) -> TensorCategory {
        const NAMES: &[(&str, TensorCategory)] = &[
            ("attn_qkv.weight", AttnV),
            ("attn_kv_b.weight", AttnV),
            ("attn_v.weight", AttnV),
            ("attn_k.weight", AttnK),
            ("attn_q.weight", AttnQ),
            ("attn_output.weight", AttnOutput),
            ("ffn_up", FfnUp),
            ("ffn_gate", FfnGate),
            ("ffn_down", FfnDown),
        ];
        NAMES.iter().find(|(n, _)| gguf.contains(n)).map_or(TensorCategory::Other, |(_, part)| *part)
    }

    /// The part in words.
    pub const fn words(self) -> &'static str {
        match self {
            Output => "the output head",
            Embedding => "token embeddings",
            AttnV => "attention values",
            AttnK => "attention keys",
            AttnQ => "attention queries",
            AttnOutput => "attention output",
            FfnUp => "feed-forward up",
            FfnGate => "feed-forward gate",
            FfnDown => "feed-forward down",
            TensorCategory::Other => "other weights",
        }
    }
}

/// A condition of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In the first `1/n` of the layers.
    Early(u64),
    /// Among the first `1/n` of its part, counted as they come.
    CountedEarly(u64),
    /// Among the first so many of its part.
    First(u64),
    /// In the first and the last eighth of the layers, and in every third between.
    MoreBits,
    /// In neither the first nor the last eighth of the layers.
    MiddleLayers,
    /// Four query heads or more share a key-value head.
    Gqa4,
    /// The same, or four experts or more.
    GqaOrExperts4,
    /// Eight experts exactly.
    Experts8,
    /// Any other number of experts.
    NotExperts8,
    /// The architecture is Falcon.
    Falcon,
    /// It is another.
    NotFalcon,
    /// There is an importance matrix.
    Weights,
    /// There is none.
    NoWeights,
    /// A row is no whole number of the base type's blocks.
    RowsNotWhole,
    /// The tensor is a stack of matrices.
    Stacked,
}

impl When {
    /// Whether it speaks of a place among the layers.
    pub const fn is_place(self) -> bool {
        matches!(self, Early(_) | CountedEarly(_) | First(_) | MoreBits | MiddleLayers)
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct PresetRule {
    /// The presets it belongs to; none means every preset.
    presets: &'static [Preset],
    /// The parts it speaks of; none means every part.
    parts: &'static [TensorCategory],
    /// What must hold, all of it.
    pub when: &'static [When],
    /// The type it gives.
    pub to: DType,
}

const fn rule(
    presets: &'static [Preset],
    parts: &'static [TensorCategory],
    when: &'static [When],
    to: DType,
) -> PresetRule {
    PresetRule { presets, parts, when, to }
}

const ALL: &[Preset] = &[];
/// The presets of two bits and less, which have rules of their own.
const LOW: &[Preset] = &[IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ2_M];
/// The larger ones of them.
const LOW_LARGE: &[Preset] = &[IQ2_S, IQ2_M];
/// Those that give eight experts a better way back from attention.
const EXPERT_OUTPUT: &[Preset] =
    &[Q2_K, IQ3_XS, IQ3_XXS, Q3_K_S, Q3_K_M, IQ4_NL, Q4_K_S, Q4_K_M, IQ3_S, IQ3_M, IQ4_XS];

const RULES: &[PresetRule] = &[
    // The output head.
    rule(&[MXFP4_MOE], &[Output], &[], DType::Q8_0),
    rule(ALL, &[Output], &[Falcon], DType::Q8_0),
    rule(ALL, &[Output], &[RowsNotWhole], DType::Q8_0),
    rule(&[IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ2_M, IQ3_XXS], &[Output], &[], DType::Q5_K),
    rule(&[Preset::Q8_0], &[Output], &[], DType::Q8_0),
    rule(ALL, &[Output], &[], DType::Q6_K),
    // Experts as 4-bit floats, the rest at 8 bits.
    rule(&[MXFP4_MOE], &[], &[Stacked], DType::MXFP4),
    rule(&[MXFP4_MOE], &[], &[], DType::Q8_0),
    // Token embeddings.
    rule(&[IQ2_XXS, IQ2_XS, IQ1_S, IQ1_M], &[Embedding], &[], DType::Q2_K),
    rule(&[IQ2_S, IQ2_M, IQ3_XXS], &[Embedding], &[], DType::IQ3_S),
    rule(&[TQ1_0, TQ2_0, Preset::Q2_0], &[Embedding], &[], DType::Q4_K),
    // Two bits and less.
    rule(LOW, &[AttnV], &[GqaOrExperts4], DType::Q4_K),
    rule(LOW_LARGE, &[AttnV], &[], DType::IQ3_S),
    rule(LOW, &[AttnV], &[], DType::Q2_K),
    rule(LOW, &[AttnK], &[Experts8], DType::Q4_K),
    rule(LOW_LARGE, &[FfnDown], &[CountedEarly(8)], DType::IQ3_S),
    rule(LOW, &[FfnDown], &[CountedEarly(8)], DType::Q2_K),
    rule(LOW, &[AttnOutput], &[Experts8], DType::Q5_K),
    rule(&[IQ1_S, IQ1_M], &[AttnOutput], &[], DType::IQ2_XXS),
    rule(LOW_LARGE, &[AttnOutput], &[], DType::IQ3_S),
    // Attention values.
    rule(ALL, &[AttnV], &[Experts8], DType::Q8_0),
    rule(&[Q2_K, Q2_K_S, IQ3_XXS, IQ3_XS, IQ3_S], &[AttnV], &[Gqa4], DType::Q4_K),
    rule(&[Q2_K], &[AttnV], &[], DType::Q3_K),
    rule(&[IQ3_XXS], &[AttnV], &[NoWeights], DType::IQ3_S),
    rule(&[IQ3_M], &[AttnV], &[], DType::Q4_K),
    rule(&[Q3_K_M], &[AttnV], &[First(2)], DType::Q5_K),
    rule(&[Q3_K_M], &[AttnV], &[], DType::Q4_K),
    rule(&[Q3_K_L], &[AttnV], &[], DType::Q5_K),
    rule(&[IQ4_NL, IQ4_XS], &[AttnV], &[Gqa4], DType::Q5_K),
    rule(&[Q4_K_M, Q5_K_M], &[AttnV], &[MoreBits], DType::Q6_K),
    rule(&[Q4_K_S], &[AttnV], &[First(4)], DType::Q5_K),
    // Attention keys and queries.
    rule(ALL, &[AttnK], &[Experts8], DType::Q8_0),
    rule(&[IQ3_XS], &[AttnK, AttnQ], &[], DType::IQ3_XXS),
    rule(&[IQ3_XXS], &[AttnK, AttnQ], &[], DType::IQ2_S),
    // Out of the feed-forward part.
    rule(&[Q2_K], &[FfnDown], &[], DType::Q3_K),
    rule(&[Q2_K_S], &[FfnDown], &[Early(8)], DType::Q4_K),
    rule(&[IQ3_XXS], &[FfnDown], &[NoWeights, Early(8)], DType::Q4_K),
    rule(&[IQ3_XXS], &[FfnDown], &[NoWeights], DType::Q3_K),
    rule(&[Q3_K_M], &[FfnDown], &[Early(16)], DType::Q5_K),
    rule(&[Q3_K_M], &[FfnDown], &[NotFalcon], DType::Q4_K),
    rule(&[Q3_K_M], &[FfnDown], &[MoreBits], DType::Q4_K),
    rule(&[IQ3_M], &[FfnDown], &[Early(8)], DType::Q4_K),
    rule(&[IQ3_M], &[FfnDown], &[Experts8, MoreBits], DType::Q4_K),
    rule(&[Q3_K_L], &[FfnDown], &[Falcon], DType::Q4_K),
    rule(&[Q3_K_L], &[FfnDown], &[], DType::Q5_K),
    rule(&[Q4_K_M], &[FfnDown], &[Falcon, Early(16)], DType::Q6_K),
    rule(&[Q4_K_M], &[FfnDown], &[Falcon, MoreBits], DType::Q5_K),
    rule(&[Q4_K_M], &[FfnDown], &[NotFalcon, MoreBits], DType::Q6_K),
    rule(&[Q5_K_M], &[FfnDown], &[MoreBits], DType::Q6_K),
    rule(&[Q4_K_S], &[FfnDown], &[NotFalcon, Early(8)], DType::Q5_K),
    rule(&[IQ4_NL, IQ4_XS], &[FfnDown], &[NoWeights, Early(8)], DType::Q5_K),
    rule(&[Preset::Q4_0], &[FfnDown], &[Weights, Early(8)], DType::Q4_1),
    rule(&[Preset::Q5_0], &[FfnDown], &[Weights, Early(8)], DType::Q5_1),
    // Back from attention.
    rule(EXPERT_OUTPUT, &[AttnOutput], &[NotFalcon, Experts8], DType::Q5_K),
    rule(&[Q2_K], &[AttnOutput], &[NotFalcon, NotExperts8], DType::Q3_K),
    rule(&[IQ3_XXS], &[AttnOutput], &[NotFalcon, NotExperts8], DType::IQ3_S),
    rule(&[Q3_K_M, IQ3_M], &[AttnOutput], &[NotFalcon, NotExperts8], DType::Q4_K),
    rule(&[Q3_K_L], &[AttnOutput], &[NotFalcon, NotExperts8], DType::Q5_K),
    rule(&[Q3_K_L], &[AttnOutput], &[Falcon], DType::Q4_K),
    // Into the feed-forward part.
    rule(&[IQ3_XS], &[FfnGate, FfnUp], &[MiddleLayers], DType::IQ3_XXS),
];

/// A tensor, as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct RuleInput<'a> {
    /// The model.
    pub traits: &'a Hparams,
    /// Whether there is an importance matrix.
    pub weights: bool,
    /// What the tensor does.
    pub part: TensorCategory,
    /// How many of its part came before it.
    pub count: u64,
    /// Its place among `places`: its layer, or how many of its part came before it.
    pub place: u64,
    /// The layers, or tensors of its part, that there are.
    pub places: u64,
    /// Whether a row is a whole number of the base type's blocks.
    pub whole_rows: bool,
    /// Whether it is a stack of matrices.
    pub stacked: bool,
}

impl RuleInput<'_> {
    fn holds(&self, when: When) -> bool {
        let (i, n, experts) = (self.place, self.places, self.traits.experts);
        let eighth = n / 8;
        match when {
            Early(share) => i < n / share,
            CountedEarly(share) => self.count < n / share,
            First(some) => self.count < some,
            MoreBits => i < eighth || i >= n.saturating_mul(7) / 8 || (i - eighth) % 3 == 2,
            MiddleLayers => i >= eighth && i < n.saturating_mul(7) / 8,
            Gqa4 => self.traits.gqa >= 4,
            GqaOrExperts4 => self.traits.gqa >= 4 || experts >= 4,
            Experts8 => experts == 8,
            NotExperts8 => experts != 8,
            Falcon => self.traits.facts.falcon,
            NotFalcon => !self.traits.facts.falcon,
            Weights => self.weights,
            NoWeights => !self.weights,
            RowsNotWhole => !self.whole_rows,
            Stacked => self.stacked,
        }
    }

    /// The first rule of `preset` that fits.
    pub fn rule(&self, preset: Preset) -> Option<&'static PresetRule> {
        RULES.iter().find(|r| {
            (r.presets.is_empty() || r.presets.contains(&preset))
                && (r.parts.is_empty() || r.parts.contains(&self.part))
                && r.when.iter().all(|&w| self.holds(w))
        })
    }

    /// The type that `preset` gives, and the rule that says so.
    pub fn choose(&self, preset: Preset) -> (DType, Option<&'static PresetRule>) {
        let rule = self.rule(preset);
        let to = rule.map_or(preset.base(), |r| r.to);
        let few = self.part == AttnV && !LOW.contains(&preset) && is_70b(self.traits);
        match to {
            DType::Q3_K | DType::Q4_K if few => (DType::Q5_K, rule),
            to => (to, rule),
        }
    }
}

/// Large models whose many heads share few values, so that these can have more bits at no cost.
fn is_70b(traits: &Hparams) -> bool {
    let shared = traits.facts.shared_values;
    shared.is_some_and(|s| traits.layers == s.layers && (traits.grouped || !s.grouped))
}

/// The type for rows that are no whole number of `dtype`'s blocks.
pub fn fallback(dtype: DType, cols: u64) -> DType {
    use DType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_XS, Q2_0, TQ1_0, TQ2_0};
    let small = match dtype {
        d if cols.is_multiple_of(d.block_len()) => return d,
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => DType::IQ4_NL,
        Q2_0 | DType::Q2_K | DType::Q3_K | TQ1_0 | TQ2_0 => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        _ => DType::F16,
    };
    if cols.is_multiple_of(small.block_len()) { small } else { DType::F16 }
}
