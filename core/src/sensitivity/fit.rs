//! A recipe whose output has at most a given size: types are allocated, and the bytes are those of a plan.

use super::report::{SensitivityRow, candidates};
use super::units::FreeTypes;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::plan::allocation::{Allocation, TooSmall, TypeCandidate, allocate};
use crate::plan::{Plan, convert};
use crate::recipe::{Override, Recipe};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// A size that an output must not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SizeLimit {
    /// Bytes of all files together.
    Bytes(u64),
    /// Stored bits of all tensors for each weight of the source, as reports count them.
    BitsPerWeight(f64),
}

/// A recipe that fits, and what it is predicted to cost.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The recipe: the given one with a type for each free tensor.
    pub recipe: Recipe,
    /// Bytes of all files together.
    pub bytes: u64,
    /// The sum of damage of all chosen types.
    pub damage: f64,
    /// The chosen type of each unit.
    pub types: Vec<DType>,
}

/// Plans that are made before the best one so far is taken: the text of the recipe, which the header holds, depends on the types.
const ATTEMPTS: usize = 8;

/// Bytes that a limit is about, of a plan.
fn counted(plan: &Plan, limit: SizeLimit) -> u64 {
    let totals = plan.conversion.as_ref().map(|c| &c.totals);
    match limit {
        SizeLimit::Bytes(_) => totals.map_or(u64::MAX, |t| t.total_bytes_out),
        SizeLimit::BitsPerWeight(_) => totals.map_or(u64::MAX, |t| t.tensor_bytes_out),
    }
}

impl SizeLimit {
    /// The limit in bytes; the plan tells the number of weights.
    fn bytes(self, plan: &Plan) -> u64 {
        match self {
            SizeLimit::Bytes(bytes) => bytes,
            SizeLimit::BitsPerWeight(bits) => {
                let totals = plan.conversion.as_ref().map(|c| &c.totals);
                let per = totals.and_then(|t| Some((t.tensor_bytes_out as f64, t.bits_per_weight?)));
                per.map_or(0, |(bytes, now)| (bytes / now * bits) as u64)
            }
        }
    }
}

/// Chooses a type for each unit, so that the output fits and the sum of predicted damage is least.
///
/// # Errors
///
/// `usage` if even the smallest types are too large, or a tensor cannot be named in a recipe; those of [`convert::plan`].
pub fn fit(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    free: &FreeTypes,
    rows: &[SensitivityRow],
    limit: SizeLimit,
) -> Result<Fitted> {
    let candidates = candidates(rows);
    if let Some(row) = rows.iter().find(|r| r.types.is_empty()) {
        let message = "no type can hold the values of this tensor";
        return Err(Error::new(Code::Usage, message).of_tensor(&row.name));
    }
    let most = limit.bytes(&free.plan);
    // The first guess is what the plan with one type holds beside the units. Less than nothing, where the limit does not count
    // the padding between tensors.
    let mut beside = difference(counted(&free.plan, limit), uniform_bytes(free));
    let mut best: Option<Fitted> = None;
    for _ in 0..ATTEMPTS {
        let allocation = match allocate(&candidates, budget(most, beside)) {
            Ok(allocation) => allocation,
            Err(TooSmall { .. }) if best.is_some() => break,
            // The header may be shorter than it was guessed: the smallest types are planned before they are refused.
            Err(TooSmall { least }) => match allocate(&candidates, least) {
                Ok(smallest) => smallest,
                Err(TooSmall { least }) => return Err(too_small(limit, &free.plan, most, least)),
            },
        };
        let (fitted, plan) = planned(checkpoint, recipe, imatrix, free, rows, &allocation)?;
        let bytes = counted(&plan, limit);
        let now = difference(bytes, allocation.bytes);
        if bytes > most && allocation.bytes == smallest(&candidates) {
            return Err(too_small(limit, &free.plan, most, bytes));
        }
        let better = best.as_ref().is_none_or(|b| fitted.damage < b.damage);
        if bytes <= most && better {
            best = Some(fitted);
        }
        if now == beside {
            break;
        }
        beside = now;
    }
    let least = u64::try_from(i128::from(smallest(&candidates)) + beside).unwrap_or(u64::MAX);
    best.ok_or_else(|| too_small(limit, &free.plan, most, least))
}

/// `a - b`.
fn difference(a: u64, b: u64) -> i128 {
    i128::from(a) - i128::from(b)
}

/// Bytes for the units, where a plan has `beside` bytes more than they.
fn budget(most: u64, beside: i128) -> u64 {
    u64::try_from((i128::from(most) - beside).max(0)).unwrap_or(u64::MAX)
}

/// Bytes of the smallest candidates.
fn smallest(candidates: &[Vec<TypeCandidate>]) -> u64 {
    let least = candidates.iter().map(|c| c.iter().map(|c| c.bytes).min().unwrap_or(0));
    least.fold(0, u64::saturating_add)
}

/// Bytes of the units in the plan with one type for all.
fn uniform_bytes(free: &FreeTypes) -> u64 {
    let outputs = free.units.iter().flat_map(|u| &u.outputs).filter_map(|i| free.plan.outputs.get(*i));
    let bytes =
        outputs.filter_map(|o| o.dtype.bytes_for(o.shape.numel())?.checked_next_multiple_of(free.alignment));
    bytes.fold(0, u64::saturating_add)
}

/// The refusal of a size: the least one is `needed`.
fn too_small(limit: SizeLimit, plan: &Plan, most: u64, needed: u64) -> Error {
    let message = match limit {
        SizeLimit::Bytes(_) => {
            format!(
                "a target of {most} bytes is too small: with the smallest types the output has {needed} bytes"
            )
        }
        SizeLimit::BitsPerWeight(bits) => {
            let per = limit.bytes(plan).max(1) as f64 / bits;
            // Rounded up, so that the figure is a target that is large enough.
            let least = libm::ceil(needed as f64 / per * 1e4) / 1e4;
            format!("a target of {bits} bits per weight is too small: the smallest types have {least:.4}")
        }
    };
    Error::new(Code::Usage, message)
}

/// The plan of an allocation.
fn planned(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    free: &FreeTypes,
    rows: &[SensitivityRow],
    allocation: &Allocation,
) -> Result<(Fitted, Plan)> {
    let chosen = rows.iter().zip(&allocation.chosen);
    let types: Vec<DType> = chosen.filter_map(|(r, i)| Some(r.types.get(*i)?.dtype)).collect();
    let recipe = with_types(recipe, free, &types);
    let plan = convert::plan(checkpoint, &recipe, imatrix, false)?;
    for (unit, dtype) in free.units.iter().zip(&types) {
        for index in &unit.outputs {
            if let Some(output) = plan.outputs.get(*index).filter(|o| o.dtype != *dtype) {
                let message = format!("this tensor cannot be given the type {dtype} by its name");
                return Err(Error::new(Code::Usage, message).of_tensor(&output.name));
            }
        }
    }
    let bytes = plan.conversion.as_ref().map_or(0, |c| c.totals.total_bytes_out);
    Ok((Fitted { recipe, bytes, damage: allocation.damage, types }, plan))
}

/// The recipe with a type for each unit. Types of the user come first, then those of longer names, which a shorter one could
/// match as a part.
fn with_types(recipe: &Recipe, free: &FreeTypes, types: &[DType]) -> Recipe {
    let mut weights: BTreeMap<DType, u64> = BTreeMap::new();
    let mut chosen: Vec<Override> = Vec::new();
    for (unit, &dtype) in free.units.iter().zip(types) {
        for output in unit.outputs.iter().filter_map(|i| free.plan.outputs.get(*i)) {
            let sum = weights.entry(dtype).or_default();
            *sum = sum.saturating_add(output.shape.numel());
            chosen.push(Override { pattern: String::from(&output.name), dtype });
        }
    }
    chosen.sort_by(|a, b| b.pattern.len().cmp(&a.pattern.len()).then_with(|| a.pattern.cmp(&b.pattern)));
    // The type of the file is that of most weights, if all other tensors may have it.
    let most = weights.into_iter().filter(|(d, _)| d.is_quantized()).max_by_key(|(_, n)| *n);
    let dtype = most.map_or(DType::Q8_0, |(d, _)| d);
    let overrides = recipe.overrides.iter().cloned().chain(chosen).collect();
    Recipe { dtype: Some(dtype), preset: None, overrides, ..recipe.clone() }
}

/// A point of the curve of size and damage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Stored bits of all tensors for each weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_weight: Option<f64>,
    /// The sum of predicted damage.
    pub predicted_kl: f64,
    /// The preset, or nothing for an allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
}

/// Sum of damage of the types that a plan gives to the units; `None` if one of them was not measured.
pub fn damage_of(free: &FreeTypes, rows: &[SensitivityRow], plan: &Plan) -> Option<f64> {
    let all: Vec<Vec<TypeCandidate>> = candidates(rows);
    let mut sum = 0.0;
    for ((unit, row), candidates) in free.units.iter().zip(rows).zip(&all) {
        let output = plan.outputs.get(*unit.outputs.first()?)?;
        let at = row.types.iter().position(|t| t.dtype == output.dtype)?;
        sum += candidates.get(at)?.damage;
    }
    Some(sum)
}
