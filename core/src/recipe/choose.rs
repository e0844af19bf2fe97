//! What a recipe wants of every tensor of a model, seen together: mixes count tensors and look at their neighbours.
//!
//! Tensors are gone through by layer, then by GGUF name, whatever the order of the files: the same model has the same
//! types as safetensors, as GGUF, and split.

use super::mix::Mix;
use super::pattern;
use super::rules::{Case, Part, Rule, When, fallback};
use super::{Reason, Recipe, Text};
use crate::dtype::{DType, Kind};
use crate::format::Checkpoint;
use crate::model::role::{Role, kept_in_mixes, role};
use crate::model::traits::{Traits, stack};
use crate::model::twin::{Twin, layer, twin};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::vec::Vec;

/// What a recipe wants of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// To stay what it is.
    Keep(Reason),
    /// To become this type.
    To(DType, Reason),
}

impl Aim {
    /// The same, with the text of the last one where it is equal.
    fn sharing(mut self, last: &mut Text) -> Aim {
        let (Aim::Keep(why) | Aim::To(_, why)) = &mut self;
        why.text = core::mem::take(&mut why.text).shared(last);
        self
    }
}

/// What a recipe wants of a whole model.
#[derive(Clone, Debug)]
pub struct Aims {
    /// For each tensor, in the order of the checkpoint.
    pub aims: Vec<Aim>,
    /// For each of the recipe's overrides, how many tensors it found.
    pub found: Vec<u64>,
    /// Tensors whose rows suit another type than the one meant for them.
    pub fallbacks: u64,
}

fn reason(code: &'static str, text: impl Into<Text>) -> Reason {
    Reason { code, text: text.into() }
}

/// A tensor and the GGUF tensor it is or becomes.
struct Seat<'a> {
    tensor: &'a TensorInfo,
    twin: Twin,
    role: Role,
}

/// The aims of `recipe` for `checkpoint`; `weights` says whether there is an importance matrix.
pub fn aims(recipe: &Recipe, checkpoint: &Checkpoint, weights: bool) -> Aims {
    let seats: Vec<Seat<'_>> = checkpoint.tensors.iter().map(seat).collect();
    let mut all = Aims { aims: Vec::new(), found: alloc::vec![0; recipe.overrides.len()], fallbacks: 0 };
    let mut last = Text::default();
    let wanted = match recipe.mix {
        Some(mix) => mixed(recipe, mix, checkpoint, &seats, weights),
        None => seats.iter().map(|s| uniform(recipe, s).sharing(&mut last)).collect(),
    };
    for (seat, aim) in seats.iter().zip(wanted) {
        if let Some((at, _)) = overridden(recipe, seat) {
            all.found.iter_mut().skip(at).take(1).for_each(|n| *n += 1);
        }
        let aim = match aim {
            Aim::To(dtype, why) if recipe.mix.is_some() => {
                fall_back(seat.tensor, dtype, why, &mut all.fallbacks)
            }
            aim => aim,
        };
        all.aims.push(aim.sharing(&mut last));
    }
    all
}

fn seat(tensor: &TensorInfo) -> Seat<'_> {
    let unknown = || Twin { name: (&tensor.name).into(), expert: None };
    let twin = twin(&tensor.name).unwrap_or_else(unknown);
    Seat { tensor, twin, role: role(&tensor.name, &tensor.shape) }
}

/// The override that finds a tensor by either of its names: its number, and the type.
fn overridden(recipe: &Recipe, seat: &Seat<'_>) -> Option<(usize, DType)> {
    let names = [seat.tensor.name.as_str(), seat.twin.name.as_str()];
    let mut all = recipe.overrides.iter().enumerate();
    let (at, found) = all.find(|(_, o)| names.iter().any(|n| pattern::finds(&o.pattern, n)))?;
    Some((at, found.dtype))
}

/// Why a tensor is never quantized, if it is not.
fn untouched(seat: &Seat<'_>) -> Option<Reason> {
    let (code, text) = match seat.role {
        _ if seat.tensor.dtype.kind() == Kind::Integer => ("integer", "holds no weights"),
        Role::Norm => ("norm", "normalisation keeps its precision"),
        Role::Bias => ("bias", "bias keeps its precision"),
        Role::Vector => ("vector", "one axis or none: keeps its precision"),
        Role::Router => ("router", "router keeps its precision"),
        Role::Positional => ("positional", "positional table keeps its precision"),
        Role::Conv => ("conv", "convolution kernel keeps its precision"),
        Role::Other => ("not_a_weight", "not named as a weight: keeps its precision"),
        Role::Weight | Role::Embedding | Role::Output => return None,
    };
    Some(reason(code, text))
}

/// What the user said of this very tensor.
fn asked(recipe: &Recipe, seat: &Seat<'_>) -> Option<Aim> {
    let part = Part::of(&seat.twin.name);
    let (embedding, output) = match recipe.mix {
        Some(_) => (part == Part::Embedding, part == Part::Output),
        None => (seat.role == Role::Embedding, seat.role == Role::Output),
    };
    match (recipe.embedding_type, recipe.output_type) {
        _ if output && recipe.leave_output => {
            Some(Aim::Keep(reason("output", "output head keeps its precision (--leave-output-tensor)")))
        }
        (Some(dtype), _) if embedding => {
            Some(Aim::To(dtype, reason("asked", "as --token-embedding-type says")))
        }
        (_, Some(dtype)) if output => Some(Aim::To(dtype, reason("asked", "as --output-tensor-type says"))),
        _ => overridden(recipe, seat).map(|(at, dtype)| {
            let pattern = recipe.overrides.get(at).map_or("", |o| o.pattern.as_str());
            Aim::To(dtype, reason("asked", format!("as --tensor-type {pattern} says")))
        }),
    }
}

/// One type for all: what is eligible, and why the rest is not.
fn uniform(recipe: &Recipe, seat: &Seat<'_>) -> Aim {
    let tensor = seat.tensor;
    if let Some(why) = untouched(seat) {
        return Aim::Keep(why);
    }
    let aim = asked(recipe, seat).unwrap_or_else(|| {
        let wanted = recipe.dtype.unwrap_or(tensor.dtype);
        let (code, text) = match seat.role {
            Role::Embedding if wanted.is_quantized() && !recipe.pure => {
                ("embedding", "embedding keeps its precision (--pure takes it too)")
            }
            Role::Output if wanted.is_quantized() && !recipe.pure => {
                ("output", "output head keeps its precision (--pure takes it too)")
            }
            _ => return Aim::To(wanted, weight(tensor)),
        };
        Aim::Keep(reason(code, text))
    });
    let cols = tensor.shape.cols();
    match aim {
        Aim::To(dtype, _) if !cols.is_multiple_of(dtype.block_len()) => {
            let text = format!("a row of {cols} does not divide by the block of {}", dtype.block_len());
            Aim::Keep(reason("row_not_divisible", text))
        }
        aim => aim,
    }
}

fn weight(tensor: &TensorInfo) -> Reason {
    reason("weight", format!("weight with rows of {}", tensor.shape.cols()))
}

/// How many of each part have come by.
#[derive(Default)]
struct Counts {
    attn_v: u64,
    ffn_down: u64,
    ffn_gate: u64,
    ffn_up: u64,
}

impl Counts {
    fn of(&mut self, part: Part) -> Option<&mut u64> {
        match part {
            Part::AttnV => Some(&mut self.attn_v),
            Part::FfnDown => Some(&mut self.ffn_down),
            Part::FfnGate => Some(&mut self.ffn_gate),
            Part::FfnUp => Some(&mut self.ffn_up),
            _ => None,
        }
    }
}

/// What a mix says of the whole model.
struct Model<'a> {
    recipe: &'a Recipe,
    mix: Mix,
    traits: Traits,
    weights: bool,
    /// No output head stands beside the embeddings: they are both.
    tied: bool,
    /// Tensors of attention values.
    values: u64,
}

fn mixed(recipe: &Recipe, mix: Mix, checkpoint: &Checkpoint, seats: &[Seat<'_>], weights: bool) -> Vec<Aim> {
    // The tensors of a GGUF, in the order of the work: experts of one stack are one.
    let place = |(index, seat): (usize, _)| {
        let Seat { twin, .. }: &Seat<'_> = seat;
        (layer(&twin.name), twin.name.as_str(), index)
    };
    let mut order: Vec<(i64, &str, usize)> = seats.iter().enumerate().map(place).collect();
    order.sort_unstable();
    let stacks = || order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
    let parts = stacks().filter_map(|s| s.first()).map(|(_, name, _)| Part::of(name));
    let model = Model {
        recipe,
        mix,
        traits: Traits::of(
            &checkpoint.metadata,
            checkpoint.config.as_deref(),
            seats.iter().map(|s| (&s.twin, &s.tensor.shape)),
        ),
        weights,
        tied: !parts.clone().any(|p| p == Part::Output),
        values: parts.filter(|p| *p == Part::AttnV).count() as u64,
    };
    let mut counts = Counts::default();
    let (mut aims, mut last) = (alloc::vec![None; seats.len()], Text::default());
    for stack in stacks() {
        // Whichever of them is asked, experts of a stack are alike; the name decides, not the order of the files.
        let members = stack.iter().filter_map(|&(_, name, i)| Some((name, seats.get(i)?)));
        let Some((name, first)) = members.min_by_key(|(_, s)| &s.tensor.name) else { continue };
        let aim = model.aim(first, name, stack.len() as u64, &mut counts).sharing(&mut last);
        for &(_, _, i) in stack {
            aims.iter_mut().skip(i).take(1).for_each(|a| *a = Some(aim.clone()));
        }
    }
    // Every tensor is in one stack.
    aims.into_iter().flatten().collect()
}

impl Model<'_> {
    fn aim(&self, seat: &Seat<'_>, name: &str, members: u64, counts: &mut Counts) -> Aim {
        if let Some(why) = untouched(seat).or_else(|| unquantized(seat, name)) {
            return Aim::Keep(why);
        }
        if let Some(aim) = asked(self.recipe, seat) {
            return aim;
        }
        let base = self.mix.base();
        if self.recipe.pure || !base.is_quantized() {
            return Aim::To(base, weight(seat.tensor));
        }
        self.choose(seat, name, members, counts)
    }

    fn choose(&self, seat: &Seat<'_>, name: &str, members: u64, counts: &mut Counts) -> Aim {
        let part = match Part::of(name) {
            Part::Embedding if self.tied => Part::Output,
            part => part,
        };
        if let (Part::Output, Some(dtype)) = (part, self.recipe.output_type) {
            return Aim::To(dtype, reason("asked", "is the output head too: as --output-tensor-type says"));
        }
        let counter = counts.of(part);
        let count = counter.as_deref().copied().unwrap_or(0);
        if let Some(n) = counter {
            *n += 1;
        }
        // Experts need not come layer by layer, so that their place is that of their layer.
        let at = match u64::try_from(layer(name)) {
            Ok(layer) if self.traits.experts > 1 && part != Part::AttnV => layer,
            _ => count,
        };
        let case = Case {
            traits: &self.traits,
            weights: self.weights,
            part,
            count,
            place: at,
            places: if part == Part::AttnV { self.values } else { self.traits.layers },
            whole_rows: seat.tensor.shape.cols().is_multiple_of(self.mix.base().block_len()),
            stacked: members > 1 || stack(&seat.tensor.shape) > 1,
        };
        let (dtype, rule) = case.choose(self.mix);
        Aim::To(dtype, self.reason(part, dtype, rule))
    }

    fn reason(&self, part: Part, dtype: DType, rule: Option<&Rule>) -> Reason {
        let base = self.mix.base();
        let Some(rule) = rule.filter(|_| dtype != base) else {
            return reason("mix", format!("base type of {}", self.mix));
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
fn unquantized(seat: &Seat<'_>, name: &str) -> Option<Reason> {
    if seat.tensor.shape.rows() == 1 {
        return Some(reason("vector", "one row: keeps its precision"));
    }
    kept_in_mixes(name).then(|| reason("small", "small and sensitive: keeps its precision"))
}

/// Another type where rows do not divide by the block.
fn fall_back(tensor: &TensorInfo, dtype: DType, why: Reason, count: &mut u64) -> Aim {
    let cols = tensor.shape.cols();
    let small = fallback(dtype, cols);
    if small == dtype {
        return Aim::To(dtype, why);
    }
    *count += 1;
    let text =
        format!("{small} in place of {dtype}: rows of {cols} are no whole blocks of {}", dtype.block_len());
    Aim::To(small, reason("fallback", text))
}
