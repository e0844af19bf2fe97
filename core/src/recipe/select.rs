//! What a recipe wants of every tensor of a model, seen together: presets count tensors and look at their neighbours.
//!
//! Tensors are gone through by layer, then by GGUF name, whatever the order of the files: the same model has the same
//! types as safetensors, as GGUF, and split.

use super::pattern::Pattern;
use super::preset_rules::{PresetRule, RuleInput, TensorCategory, When, fallback};
use super::presets::Preset;
use super::{Reason, Recipe, SharedText, TargetName, mlx};
use crate::dtype::{DType, DTypeKind};
use crate::error::Result;
use crate::format::Checkpoint;
use crate::model::arch;
use crate::model::config::hparams::{Hparams, stack};
use crate::model::tensor_id::{GgufName, gguf_layer as layer};
use crate::model::tensor_role::{TensorRole, kept_in_mixes, role};
use crate::tensor::{Name, TensorInfo};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// What a recipe wants of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeChoice {
    /// To stay what it is.
    Keep(Reason),
    /// To become this type.
    To(DType, Reason),
    /// Not to be written.
    LeaveOut(Reason),
}

impl TypeChoice {
    /// The same, with the text of the last one where it is equal.
    fn sharing(mut self, last: &mut SharedText) -> TypeChoice {
        let (TypeChoice::Keep(why) | TypeChoice::To(_, why) | TypeChoice::LeaveOut(why)) = &mut self;
        why.text = core::mem::take(&mut why.text).shared(last);
        self
    }
}

/// What a recipe wants of a whole model.
#[derive(Clone, Debug)]
pub struct TypeChoices {
    /// For each tensor, in the order of the checkpoint.
    pub choices: Vec<TypeChoice>,
    /// For each of the recipe's overrides, what became of it.
    pub overrides: Vec<OverrideUse>,
    /// Matrices that keep their precision because their rows do not divide by the block of the type.
    pub not_divisible: u64,
    /// Tensors whose rows suit another type than the one meant for them.
    pub fallbacks: u64,
}

/// What became of an override.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverrideUse {
    /// Tensors that the pattern matched.
    pub matched: u64,
    /// Tensors that got the type.
    pub applied: u64,
    /// The first tensor whose rows do not divide by the block of the type.
    pub unfit: Option<Name>,
}

pub(super) fn reason(code: &'static str, text: impl Into<SharedText>) -> Reason {
    Reason { code, text: text.into() }
}

/// A tensor and the GGUF tensor it is or becomes.
pub(super) struct TensorEntry<'a> {
    pub(super) tensor: &'a TensorInfo,
    gguf: GgufName,
    pub(super) role: TensorRole,
    /// The first of the recipe's overrides that matches one of its names: its number, and the type.
    overridden: Option<(usize, DType)>,
    /// Whether the recipe's filter selects it.
    selected: bool,
}

/// A head that a rotation makes of a tied embedding: indices of both among the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadCopy {
    /// The head.
    pub head: usize,
    /// The embedding that its values are read from.
    pub embedding: usize,
}

/// The choices of `recipe` for `checkpoint`; `weights` says whether there is an importance matrix.
///
/// # Errors
///
/// `usage` if a pattern is malformed.
pub fn type_choices(recipe: &Recipe, checkpoint: &Checkpoint, weights: bool) -> Result<TypeChoices> {
    type_choices_of(recipe, checkpoint, &[], weights, None)
}

/// The same for renamed tensors, whose sources have the names `sources`: a pattern finds a tensor by any of its names. A
/// `copy` of the tied embedding as its head and the embedding get the type that the tied tensor would have; an option that
/// names the head goes before.
///
/// # Errors
///
/// As [`type_choices`].
pub fn type_choices_of(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    sources: &[Name],
    weights: bool,
    copy: Option<HeadCopy>,
) -> Result<TypeChoices> {
    let entries = tensor_entries(recipe, checkpoint, sources)?;
    let overrides = vec![OverrideUse::default(); recipe.overrides.len()];
    let mut all = TypeChoices { choices: Vec::new(), overrides, not_divisible: 0, fallbacks: 0 };
    let mut last = SharedText::default();
    let mut wanted = match recipe.preset {
        _ if recipe.to == TargetName::Mlx => mlx::choices(recipe, checkpoint, &entries)?,
        Some(preset) => preset_choices(recipe, preset, checkpoint, &entries, weights, copy.is_some()),
        None => entries.iter().map(|s| uniform(recipe, s).sharing(&mut last)).collect(),
    };
    share_type(recipe, &entries, copy, &mut wanted);
    for (entry, aim) in entries.iter().zip(wanted) {
        let aim = if entry.selected { all.fitting(recipe, entry, aim) } else { excluded() };
        all.choices.push(aim.sharing(&mut last));
    }
    mlx::set_floats(recipe, checkpoint, &mut all);
    Ok(all)
}

fn excluded() -> TypeChoice {
    TypeChoice::LeaveOut(reason("excluded", "left out by --include and --exclude"))
}

/// Gives the copy of a tied embedding the choice of the embedding, unless an option names the copy.
fn share_type(
    recipe: &Recipe,
    entries: &[TensorEntry<'_>],
    copy: Option<HeadCopy>,
    choices: &mut [TypeChoice],
) {
    let Some(HeadCopy { head, embedding }) = copy else { return };
    // A mixed recipe of MLX gives a head more bits than an embedding.
    if recipe.mixed.is_some() {
        return;
    }
    if entries.get(head).is_none_or(|entry| asked(recipe, entry).is_some()) {
        return;
    }
    let shared = choices.get(embedding).cloned();
    if let (Some(slot), Some(choice)) = (choices.get_mut(head), shared) {
        *slot = choice;
    }
}

fn tensor_entries<'a>(
    recipe: &Recipe,
    checkpoint: &'a Checkpoint,
    sources: &[Name],
) -> Result<Vec<TensorEntry<'a>>> {
    let arch = arch::of_model(&checkpoint.metadata, checkpoint.config.as_deref());
    let filter = recipe.filter()?;
    let selection = filter.in_checkpoint(checkpoint);
    let patterns: Vec<Pattern> =
        recipe.overrides.iter().map(|o| Pattern::new(&o.pattern)).collect::<Result<_>>()?;
    let entry = |(index, tensor): (usize, &'a TensorInfo)| {
        let source = sources.get(index).map_or(tensor.name.as_str(), |name| name.as_str());
        let unknown = || GgufName { name: (&tensor.name).into(), expert: None };
        let gguf = arch.gguf_name(&tensor.name).unwrap_or_else(unknown);
        let matches = |p: &Pattern| [&tensor.name, &*gguf.name, source].into_iter().any(|n| p.finds(n));
        let mut all = patterns.iter().zip(&recipe.overrides).enumerate();
        let overridden = all.find(|(_, (p, _))| matches(p)).map(|(at, (_, o))| (at, o.dtype));
        let selected = selection.contains_any(&[&tensor.name, source]);
        TensorEntry { tensor, gguf, role: role(&tensor.name, &tensor.shape), overridden, selected }
    };
    Ok(checkpoint.tensors.iter().enumerate().map(entry).collect())
}

impl TypeChoices {
    /// A type that the rows of `entry` divide by, and the record of the override that chose it.
    fn fitting(&mut self, recipe: &Recipe, entry: &TensorEntry<'_>, aim: TypeChoice) -> TypeChoice {
        let usage = entry.overridden.and_then(|(at, dtype)| Some((self.overrides.get_mut(at)?, dtype)));
        let cols = entry.tensor.shape.cols();
        if let Some((usage, dtype)) = usage {
            usage.matched += 1;
            if matches!(&aim, TypeChoice::To(to, why) if *to == dtype && why.code == "asked") {
                usage.applied += 1;
                if !cols.is_multiple_of(dtype.block_len()) {
                    usage.unfit.get_or_insert_with(|| entry.tensor.name.clone());
                }
            }
        }
        match aim {
            TypeChoice::To(dtype, why) if recipe.preset.is_some() => {
                fall_back(entry.tensor, dtype, why, &mut self.fallbacks)
            }
            TypeChoice::To(dtype, _) if !cols.is_multiple_of(dtype.block_len()) => {
                self.not_divisible += 1;
                let text = format!("a row of {cols} does not divide by the block of {}", dtype.block_len());
                TypeChoice::Keep(reason("row_not_divisible", text))
            }
            aim => aim,
        }
    }
}

/// Why a tensor is never quantized, if it is not.
pub(super) fn untouched(entry: &TensorEntry<'_>) -> Option<Reason> {
    let (code, text) = match entry.role {
        _ if entry.tensor.dtype.kind() == DTypeKind::Integer => ("integer", "holds no weights"),
        TensorRole::Norm => ("norm", "normalisation keeps its precision"),
        TensorRole::Bias => ("bias", "bias keeps its precision"),
        TensorRole::Vector => ("vector", "one axis or none: keeps its precision"),
        TensorRole::Router => ("router", "router keeps its precision"),
        TensorRole::Positional => ("positional", "positional table keeps its precision"),
        TensorRole::Conv => ("conv", "convolution kernel keeps its precision"),
        TensorRole::Other => ("not_a_weight", "not named as a weight: keeps its precision"),
        TensorRole::Weight | TensorRole::Embedding | TensorRole::Output => return None,
    };
    Some(reason(code, text))
}

/// What the user said of this very tensor.
pub(super) fn asked(recipe: &Recipe, entry: &TensorEntry<'_>) -> Option<TypeChoice> {
    let part = TensorCategory::of(&entry.gguf.name);
    let (embedding, output) = match recipe.preset {
        Some(_) => (part == TensorCategory::Embedding, part == TensorCategory::Output),
        None => (entry.role == TensorRole::Embedding, entry.role == TensorRole::Output),
    };
    match (recipe.embedding_type, recipe.output_type) {
        _ if output && recipe.leave_output => Some(TypeChoice::Keep(reason(
            "output",
            "output head keeps its precision (--leave-output-tensor)",
        ))),
        (Some(dtype), _) if embedding => {
            Some(TypeChoice::To(dtype, reason("asked", "as --token-embedding-type says")))
        }
        (_, Some(dtype)) if output => {
            Some(TypeChoice::To(dtype, reason("asked", "as --output-tensor-type says")))
        }
        _ => entry.overridden.map(|(at, dtype)| {
            let pattern = recipe.overrides.get(at).map_or("", |o| o.pattern.as_str());
            TypeChoice::To(dtype, reason("asked", format!("as --tensor-type {pattern} says")))
        }),
    }
}

/// One type for all: what is eligible, and why the rest is not.
pub(super) fn uniform(recipe: &Recipe, entry: &TensorEntry<'_>) -> TypeChoice {
    let tensor = entry.tensor;
    if let Some(why) = untouched(entry).or_else(|| unquantized(entry)) {
        return TypeChoice::Keep(why);
    }
    asked(recipe, entry).unwrap_or_else(|| {
        let wanted = recipe.dtype.unwrap_or(tensor.dtype);
        let (code, text) = match entry.role {
            TensorRole::Embedding if wanted.is_quantized() && !recipe.pure => {
                ("embedding", "token embedding stays as it is (--pure quantizes it too)")
            }
            TensorRole::Output if wanted.is_quantized() && !recipe.pure => {
                ("output", "output head stays as it is (--pure quantizes it too)")
            }
            _ => return TypeChoice::To(wanted, weight(tensor)),
        };
        TypeChoice::Keep(reason(code, text))
    })
}

fn weight(tensor: &TensorInfo) -> Reason {
    reason("weight", format!("weight matrix, {} per row", tensor.shape.cols()))
}

/// How many of each part have come by.
#[derive(Default)]
struct CategoryCounts {
    attn_v: u64,
    ffn_down: u64,
    ffn_gate: u64,
    ffn_up: u64,
}

impl CategoryCounts {
    fn of(&mut self, part: TensorCategory) -> Option<&mut u64> {
        match part {
            TensorCategory::AttnV => Some(&mut self.attn_v),
            TensorCategory::FfnDown => Some(&mut self.ffn_down),
            TensorCategory::FfnGate => Some(&mut self.ffn_gate),
            TensorCategory::FfnUp => Some(&mut self.ffn_up),
            _ => None,
        }
    }
}

/// What a preset says of the whole model.
struct PresetContext<'a> {
    recipe: &'a Recipe,
    preset: Preset,
    traits: Hparams,
    weights: bool,
    /// No output head stands beside the embeddings, or only a copy of them: they are both.
    tied: bool,
    /// Tensors of attention values.
    values: u64,
}

fn preset_choices(
    recipe: &Recipe,
    preset: Preset,
    checkpoint: &Checkpoint,
    entries: &[TensorEntry<'_>],
    weights: bool,
    untied: bool,
) -> Vec<TypeChoice> {
    // The tensors of a GGUF, in the order of the work: experts of one stack are one.
    let place = |(index, entry): (usize, _)| {
        let TensorEntry { gguf, .. }: &TensorEntry<'_> = entry;
        (layer(&gguf.name), gguf.name.as_str(), index)
    };
    let selected = entries.iter().enumerate().filter(|(_, entry)| entry.selected);
    let mut order: Vec<(i64, &str, usize)> = selected.map(place).collect();
    order.sort_unstable();
    let stacks = || order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
    let parts = stacks().filter_map(|s| s.first()).map(|(_, name, _)| TensorCategory::of(name));
    let model = PresetContext {
        recipe,
        preset,
        traits: Hparams::of(
            &checkpoint.metadata,
            checkpoint.config.as_deref(),
            entries.iter().filter(|s| s.selected).map(|s| (&s.gguf, &s.tensor.shape)),
        ),
        weights,
        tied: untied || !parts.clone().any(|p| p == TensorCategory::Output),
        values: parts.filter(|p| *p == TensorCategory::AttnV).count() as u64,
    };
    let mut counts = CategoryCounts::default();
    let (mut choices, mut last) = (vec![None; entries.len()], SharedText::default());
    for stack in stacks() {
        // Whichever of them is asked, experts of a stack are alike; the name decides, not the order of the files.
        let members = stack.iter().filter_map(|&(_, name, i)| Some((name, entries.get(i)?)));
        let Some((name, first)) = members.min_by_key(|(_, s)| &s.tensor.name) else { continue };
        let aim = model.aim(first, name, stack.len() as u64, &mut counts).sharing(&mut last);
        for &(_, _, i) in stack {
            choices.iter_mut().skip(i).take(1).for_each(|a| *a = Some(aim.clone()));
        }
    }
    // Every selected tensor is in one stack.
    choices.into_iter().map(|choice| choice.unwrap_or_else(excluded)).collect()
}

impl PresetContext<'_> {
    fn aim(
        &self,
        entry: &TensorEntry<'_>,
        name: &str,
        members: u64,
        counts: &mut CategoryCounts,
    ) -> TypeChoice {
        if let Some(why) = untouched(entry).or_else(|| unquantized(entry)) {
            return TypeChoice::Keep(why);
        }
        if let Some(aim) = asked(self.recipe, entry) {
            return aim;
        }
        let base = self.preset.base();
        if self.recipe.pure || !base.is_quantized() {
            return TypeChoice::To(base, weight(entry.tensor));
        }
        self.choose(entry, name, members, counts)
    }

    fn choose(
        &self,
        entry: &TensorEntry<'_>,
        name: &str,
        members: u64,
        counts: &mut CategoryCounts,
    ) -> TypeChoice {
        let part = match TensorCategory::of(name) {
            TensorCategory::Embedding if self.tied => TensorCategory::Output,
            part => part,
        };
        if let (TensorCategory::Output, Some(dtype)) = (part, self.recipe.output_type) {
            return TypeChoice::To(
                dtype,
                reason("asked", "is the output head too: as --output-tensor-type says"),
            );
        }
        let counter = counts.of(part);
        let count = counter.as_deref().copied().unwrap_or(0);
        if let Some(n) = counter {
            *n += 1;
        }
        // Experts need not come layer by layer, so that their place is that of their layer.
        let at = match u64::try_from(layer(name)) {
            Ok(layer) if self.traits.experts > 1 && part != TensorCategory::AttnV => layer,
            _ => count,
        };
        let case = RuleInput {
            traits: &self.traits,
            weights: self.weights,
            part,
            count,
            place: at,
            places: if part == TensorCategory::AttnV { self.values } else { self.traits.layers },
            whole_rows: entry.tensor.shape.cols().is_multiple_of(self.preset.base().block_len()),
            stacked: members > 1 || stack(&entry.tensor.shape) > 1,
        };
        let (dtype, rule) = case.choose(self.preset);
        TypeChoice::To(dtype, self.reason(part, dtype, rule))
    }

    fn reason(&self, part: TensorCategory, dtype: DType, rule: Option<&PresetRule>) -> Reason {
        let base = self.preset.base();
        let Some(rule) = rule.filter(|_| dtype != base) else {
            return reason("mix", format!("default of {}", self.preset.name().to_ascii_uppercase()));
        };
        let more = match dtype.bits_per_weight().total_cmp(&base.bits_per_weight()) {
            core::cmp::Ordering::Greater => "more bits for",
            core::cmp::Ordering::Less => "fewer bits for",
            core::cmp::Ordering::Equal => "another type for",
        };
        let here = if rule.when.iter().any(|w| When::is_place(*w)) { " in this layer" } else { "" };
        reason("mix", format!("{more} {}{here}", part.words()))
    }
}

/// Why llama-quantize leaves a matrix alone that is a weight by its name.
pub(super) fn unquantized(entry: &TensorEntry<'_>) -> Option<Reason> {
    if entry.tensor.shape.rows() == 1 {
        return Some(reason("vector", "one row: keeps its precision"));
    }
    let kept = kept_in_mixes(&entry.gguf.name) || kept_in_mixes(&entry.tensor.name);
    kept.then(|| reason("small", "small and sensitive: keeps its precision"))
}

/// Another type where rows do not divide by the block.
fn fall_back(tensor: &TensorInfo, dtype: DType, why: Reason, count: &mut u64) -> TypeChoice {
    let cols = tensor.shape.cols();
    let small = fallback(dtype, cols);
    if small == dtype {
        return TypeChoice::To(dtype, why);
    }
    *count += 1;
    let text =
        format!("{small} in place of {dtype}: rows of {cols} are no whole blocks of {}", dtype.block_len());
    TypeChoice::To(small, reason("fallback", text))
}
