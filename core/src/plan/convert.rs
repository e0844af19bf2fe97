//! Plans a conversion: every output tensor, its exact place, the header bytes of every file, every warning.
//!
//! Knows no target: [`super::target`] decides names, types and layout.

use super::rotate::{self, RotationPlanner};
use super::target::{self, Contents, Target};
use super::{Conversion, ImportancePlanner, LeftOut, Output, Plan, Totals, Warning};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::model::stored_quantization::StoredQuantization;
use crate::recipe::presets::Preset;
use crate::recipe::select::{OverrideUse, TypeChoice, TypeChoices, type_choices};
use crate::recipe::{Recipe, SharedText};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Plans the conversion of `checkpoint` by `recipe`. `imatrix` weights the scale searches; with `measure`, the error of
/// every encoded tensor is measured.
///
/// # Errors
///
/// `usage` if the recipe contradicts itself or its target, `empty` if there are no tensors, `unsupported_dtype`,
/// `requantize` or `needs_importance` if a tensor cannot be encoded so, `unsupported_rotation` if the rotation is not
/// exact, and the errors of the target's layout.
pub fn plan(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    measure: bool,
) -> Result<Plan> {
    target::check(recipe)?;
    if checkpoint.tensors.is_empty() {
        return Err(Error::new(Code::Empty, "the input holds no tensors"));
    }
    let (original, untied) = (checkpoint, untied(checkpoint, recipe, imatrix)?);
    let checkpoint = untied.as_ref().unwrap_or(original);
    let target = target::of(recipe.to);
    let choices = type_choices(recipe, checkpoint, imatrix.is_some())?;
    let mut warnings = checkpoint.warnings.clone();
    warnings.extend(override_warnings(recipe, &choices)?);
    warnings.extend(choice_warnings(recipe, &choices, imatrix.is_some()));
    let mut importance = ImportancePlanner::new(imatrix, checkpoint);
    let stored = StoredQuantization::of(original);
    let Outputs { mut outputs, left_out } =
        outputs(target, checkpoint, recipe, choices, measure, &stored, &mut importance)?;
    warnings.extend(stored.warnings());
    warnings.extend(importance.warnings());
    let rotation = match recipe.rotate {
        Some(options) => {
            let planner = RotationPlanner::new(checkpoint, original, options, recipe.dtype)?;
            Some(planner.apply(original, &mut outputs, &mut warnings)?)
        }
        None => None,
    };
    let contents = Contents { checkpoint, recipe, imatrix, rotation: rotation.as_ref() };
    let files = target.lay_out(&contents, &mut outputs, &mut warnings)?;
    let totals = Totals::of(checkpoint, &outputs, &files)?;
    if totals.planned_quantized == 0 && recipe.quantizes() {
        warnings.push(Warning::new("nothing_quantized", "no tensor is quantized by this plan"));
    }
    let conversion = Conversion {
        recipe: recipe.clone(),
        container: target.container(),
        directory: target.is_directory(),
        importance: importance.importance(),
        rotation,
        left_out,
        totals,
    };
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

/// What becomes of the tensors of a source.
struct Outputs {
    outputs: Vec<Output>,
    left_out: Vec<LeftOut>,
}

/// An output for each tensor that is written, in the order of the checkpoint and without a place.
fn outputs(
    target: &dyn Target,
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    choices: TypeChoices,
    measure: bool,
    stored: &StoredQuantization<'_>,
    importance: &mut ImportancePlanner<'_>,
) -> Result<Outputs> {
    let is_written = |t: &TensorInfo, choice: &TypeChoice| {
        !matches!(choice, TypeChoice::LeaveOut(_)) && target.leaves_out(t).is_none()
    };
    let written = || checkpoint.tensors.iter().zip(&choices.choices).filter(|(t, c)| is_written(t, c));
    written().try_for_each(|(t, _)| stored.check(t))?;
    check_is_model(checkpoint)?;
    check_fits(target, checkpoint, written().map(|(t, _)| t))?;
    let (mut outputs, mut left_out) = (Vec::with_capacity(checkpoint.tensors.len()), Vec::new());
    let mut last = SharedText::default();
    for ((index, tensor), choice) in checkpoint.tensors.iter().enumerate().zip(choices.choices) {
        let choice = match target.leaves_out(tensor) {
            Some(why) => TypeChoice::LeaveOut(why),
            None => choice,
        };
        if let TypeChoice::LeaveOut(why) = choice {
            left_out.push(LeftOut { name: tensor.name.clone(), reason: why });
            continue;
        }
        let mut decision = target.decide(recipe, tensor, choice)?;
        decision.reason.text = decision.reason.text.shared(&mut last);
        let mut output = Output::converted(index, tensor, decision, recipe, measure);
        output.name = target.tensor_name(tensor);
        importance.encode(tensor, &mut output)?;
        outputs.push(output);
    }
    Ok(Outputs { outputs, left_out })
}

/// Refuses a LoRA adapter: alone it is no model.
fn check_is_model(checkpoint: &Checkpoint) -> Result<()> {
    const PARTS: [&str; 4] = [".lora_A.", ".lora_embedding_A", ".lora_down.", ".lora_magnitude_vector"];
    match checkpoint.tensors.iter().find(|t| PARTS.iter().any(|part| t.name.contains(part))) {
        Some(t) => {
            let message = "a LoRA adapter, not a model: merge it into its model first, and convert that";
            Err(Error::new(Code::UnsupportedContainer, message).of_tensor(&t.name))
        }
        None => Ok(()),
    }
}

/// Tensors that an error about unfit tensors names.
const SHOWN_MISFITS: usize = 5;

/// Refuses tensors that the target cannot store, all of them at once.
fn check_fits<'a>(
    target: &dyn Target,
    checkpoint: &Checkpoint,
    tensors: impl Iterator<Item = &'a TensorInfo>,
) -> Result<()> {
    let misfits: Vec<(&TensorInfo, String)> = tensors.filter_map(|t| Some((t, target.misfit(t)?))).collect();
    let Some((first, why)) = misfits.first() else { return Ok(()) };
    let shown = misfits.iter().take(SHOWN_MISFITS).map(|(t, why)| format!("{:?}: {why}", t.name));
    let shown = shown.collect::<Vec<_>>().join("; ");
    let more = misfits.len().saturating_sub(SHOWN_MISFITS);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let names: Vec<&str> = misfits.iter().map(|(t, _)| t.name.as_str()).collect();
    let whole = pattern_of(&names, checkpoint);
    let name = target.container().name();
    let message = match misfits.len() {
        1 => format!("{name} cannot hold it: {why}; leave it out with --exclude '{whole}'"),
        n => format!(
            "{name} cannot hold {n} tensors ({shown}{more}); leave them out, as with --exclude '{whole}'"
        ),
    };
    let code = if target.holds(first.dtype) { Code::UnsupportedContainer } else { Code::UnsupportedDtype };
    Err(Error::new(code, message).of_tensor(&first.name))
}

/// A pattern that matches the tensors `names`: the part of the model that has only them, or else the first name.
fn pattern_of(names: &[&str], checkpoint: &Checkpoint) -> String {
    let first = names.first().copied().unwrap_or_default();
    let parts = first.match_indices('.').map(|(at, _)| first.get(..=at).unwrap_or_default()).rev();
    let is_part = |part: &&str| names.iter().all(|n| n.starts_with(part));
    let shared = parts.into_iter().find(is_part).filter(|_| names.len() > 1);
    let others =
        |part: &&str| checkpoint.tensors.iter().filter(|t| t.name.starts_with(part)).count() > names.len();
    match shared.filter(|part| !others(part)) {
        Some(part) => format!("{part}*"),
        None => first.into(),
    }
}

/// The checkpoint with a head of its own, if a rotation needs one.
fn untied(checkpoint: &Checkpoint, recipe: &Recipe, imatrix: Option<&Imatrix>) -> Result<Option<Checkpoint>> {
    let Some(options) = &recipe.rotate else { return Ok(None) };
    if imatrix.is_some() {
        let message = "an importance matrix weighs the channels as they are, not as a rotation mixes them";
        return Err(Error::new(Code::Usage, message));
    }
    rotate::untied(checkpoint, options).map(Some)
}

/// The warnings about overrides that do not do what they say; errors unless the recipe is lenient.
fn override_warnings(recipe: &Recipe, choices: &TypeChoices) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for (o, usage) in recipe.overrides.iter().zip(&choices.overrides) {
        let option = format!("--tensor-type {}={}", o.pattern, o.dtype.name().to_ascii_lowercase());
        let message = match usage {
            OverrideUse { matched: 0, .. } => format!("{option} matches no tensor"),
            OverrideUse { applied: 0, .. } => {
                format!(
                    "{option} matches only tensors that keep their precision, or that another option decides"
                )
            }
            OverrideUse { unfit: Some(name), .. } => {
                format!(
                    "{option} does not fit {name:?}: its rows are no whole blocks of {}",
                    o.dtype.block_len()
                )
            }
            _ => continue,
        };
        if !recipe.lenient {
            let error = Error::new(Code::Usage, message);
            return Err(usage.unfit.as_ref().map_or(error.clone(), |name| error.of_tensor(name)));
        }
        warnings.push(Warning::new("unused_override", message));
    }
    Ok(warnings)
}

/// The warnings about types that the recipe's choices lead to.
fn choice_warnings(recipe: &Recipe, choices: &TypeChoices, weighted: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let (Some(dtype), n @ 1..) = (recipe.dtype, choices.not_divisible) {
        let advice = Preset::nearest(dtype).map(|p| format!("; --recipe {p} gives them another type"));
        let tensors = if n == 1 { "1 matrix keeps its type" } else { "matrices keep their type" };
        let count = if n == 1 { String::new() } else { format!("{n} ") };
        let message = format!(
            "{count}{tensors}: rows are no whole blocks of {} ({dtype}){}",
            dtype.block_len(),
            advice.unwrap_or_default()
        );
        warnings.push(Warning::new("row_not_divisible", message));
    }
    if recipe.preset == Some(Preset::Q2_K_S) && !weighted {
        let message =
            "q2_k_s serves badly without an importance matrix (--imatrix); llama-quantize refuses it";
        warnings.push(Warning::new("importance_wanted", message));
    }
    if choices.fallbacks > 0 {
        let message = format!(
            "{} of {} tensors have rows that do not divide by the block of their type, and get another one",
            choices.fallbacks,
            choices.choices.len()
        );
        warnings.push(Warning::new("fallback", message));
    }
    warnings
}
