//! Plans a conversion: every output tensor, its exact place, the header bytes of every file, every warning.
//!
//! Knows no target: [`super::target`] decides names, types and layout.

use super::rotate::{self, RotationPlanner};
use super::source_tensors::TensorNames;
use super::target::{self, Contents, Target};
use super::totals::UntiedHead;
use super::{Conversion, ImportancePlanner, Output, Plan, Totals, Warning};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::recipe::presets::Preset;
use crate::recipe::select::{HeadCopy, TypeChoices, untied_type_choices};
use crate::recipe::{Recipe, SharedText};
use alloc::format;
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
    let copy = untied.as_ref().and_then(|(_, copy)| *copy);
    let checkpoint = untied.as_ref().map_or(original, |(all, _)| all);
    let target = target::of(recipe.to);
    let choices = untied_type_choices(recipe, checkpoint, imatrix.is_some(), copy);
    let mut warnings = checkpoint.warnings.clone();
    warnings.extend(choice_warnings(recipe, &choices, imatrix.is_some()));
    let mut importance = ImportancePlanner::new(imatrix, checkpoint);
    let mut outputs = outputs(target, checkpoint, recipe, choices, measure, &mut importance)?;
    warnings.extend(importance.warnings());
    let rotation = match recipe.rotate {
        Some(options) => {
            let planner = RotationPlanner::new(checkpoint, original, options, recipe.dtype)?;
            Some(planner.apply(original, &mut outputs, &mut warnings)?)
        }
        None => None,
    };
    // The copy of the embedding is the last tensor.
    let head = copy.and_then(|_| outputs.last()).map(UntiedHead::of);
    let contents = Contents { checkpoint, recipe, imatrix, rotation: rotation.as_ref() };
    let files = target.lay_out(&contents, &mut outputs, &mut warnings)?;
    let totals = Totals::of(checkpoint, &outputs, &files, head)?;
    if totals.planned_quantized == 0 && recipe.quantizes() {
        warnings.push(Warning::new("nothing_quantized", "no tensor is quantized by this plan"));
    }
    let conversion = Conversion {
        recipe: recipe.clone(),
        container: target.container(),
        directory: target.is_directory(),
        importance: importance.importance(),
        rotation,
        totals,
    };
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

/// An output for each tensor, in the order of the checkpoint and without a place.
fn outputs(
    target: &dyn Target,
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    choices: TypeChoices,
    measure: bool,
    importance: &mut ImportancePlanner<'_>,
) -> Result<Vec<Output>> {
    let names = TensorNames::of(checkpoint);
    let (mut outputs, mut last) = (Vec::with_capacity(checkpoint.tensors.len()), SharedText::default());
    for ((index, tensor), choice) in checkpoint.tensors.iter().enumerate().zip(choices.choices) {
        if let Some(message) = names.missing_scale(tensor) {
            return Err(Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name));
        }
        let mut decision = target.decide(recipe, tensor, choice)?;
        decision.reason.text = decision.reason.text.shared(&mut last);
        let mut output = Output::converted(index, tensor, decision, recipe, measure);
        output.name = target.tensor_name(tensor);
        importance.encode(tensor, &mut output)?;
        outputs.push(output);
    }
    Ok(outputs)
}

/// The checkpoint with a head of its own, if a rotation needs one.
fn untied(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
) -> Result<Option<(Checkpoint, Option<HeadCopy>)>> {
    let Some(options) = &recipe.rotate else { return Ok(None) };
    if imatrix.is_some() {
        let message = "an importance matrix weighs the channels as they are, not as a rotation mixes them";
        return Err(Error::new(Code::Usage, message));
    }
    rotate::untied(checkpoint, options).map(Some)
}

/// The warnings about types that the recipe's choices lead to.
fn choice_warnings(recipe: &Recipe, choices: &TypeChoices, weighted: bool) -> Vec<Warning> {
    let unused = recipe.overrides.iter().zip(&choices.found).filter(|(_, n)| **n == 0);
    let unused = unused.map(|(o, _)| {
        Warning::new("unused_override", format!("--tensor-type {} finds no tensor", o.pattern))
    });
    let mut warnings: Vec<Warning> = unused.collect();
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
