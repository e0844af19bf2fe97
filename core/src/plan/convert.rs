//! Plans a conversion: every output tensor, its exact place, the header bytes of every file, every warning.
//!
//! Knows no target: [`super::target`] decides names, types and layout.

use super::gguf_mapping::{self, Composer, GgufMapping};
use super::rotate::{self, AppliedRotation, RotationPlanner};
use super::source_tensors::TensorNames;
use super::target::{self, Contents, Target};
use super::{Conversion, ImportancePlanner, Output, Plan, Totals, Warning};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::recipe::presets::Preset;
use crate::recipe::select::{TypeChoice, TypeChoices, type_choices_of};
use crate::recipe::{Action, Decision, Reason, Recipe, SharedText};
use crate::tensor::TensorInfo;
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
    let checkpoint = untied.as_ref().unwrap_or(original);
    let target = target::of(recipe.to);
    let mapping = GgufMapping::of(checkpoint, recipe)?;
    let named = mapping.as_ref().map_or(checkpoint, |m| &m.logical);
    let sources = mapping.as_ref().map_or(&[][..], |m| &m.sources);
    let choices = type_choices_of(recipe, named, sources, imatrix.is_some());
    let mut warnings = checkpoint.warnings.clone();
    warnings.extend(choice_warnings(recipe, &choices, imatrix.is_some()));
    let importance = ImportancePlanner::new(imatrix, named);
    let mut work = Work { target, checkpoint, original, recipe, measure, importance };
    let (mut outputs, rotation) = match &mapping {
        Some(mapping) => work.mapped(mapping, choices, &mut warnings)?,
        None => work.renamed(choices, &mut warnings)?,
    };
    let importance = work.importance;
    warnings.extend(importance.warnings());
    warnings.extend(mapping.as_ref().and_then(towers_left_out));
    let contents =
        Contents { checkpoint, recipe, imatrix, rotation: rotation.as_ref(), mapping: mapping.as_ref() };
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
        totals,
    };
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

/// The parts of a conversion that its outputs depend on.
struct Work<'a> {
    target: &'static dyn Target,
    checkpoint: &'a Checkpoint,
    /// The checkpoint without the head that a rotation adds.
    original: &'a Checkpoint,
    recipe: &'a Recipe,
    measure: bool,
    importance: ImportancePlanner<'a>,
}

/// Outputs without a place, and the rotation that was applied to them.
type Outputs = (Vec<Output>, Option<AppliedRotation>);

impl Work<'_> {
    /// What happens to each of `tensors`.
    fn decisions(
        &self,
        tensors: &[TensorInfo],
        choices: TypeChoices,
        mapping: Option<&GgufMapping>,
    ) -> Result<Vec<Decision>> {
        let mut last = SharedText::default();
        let decide = |(tensor, choice): (&TensorInfo, TypeChoice)| {
            let choice = match mapping {
                Some(mapping) => gguf_mapping::choice(mapping.outtype, tensor, choice),
                None => choice,
            };
            let mut decision = self.target.decide(self.recipe, tensor, choice)?;
            decision.reason.text = decision.reason.text.shared(&mut last);
            Ok(decision)
        };
        tensors.iter().zip(choices.choices).map(decide).collect()
    }

    /// Refuses a tensor whose scale is another tensor.
    fn check_scales(&self) -> Result<()> {
        let names = TensorNames::of(self.checkpoint);
        self.checkpoint.tensors.iter().try_for_each(|tensor| match names.missing_scale(tensor) {
            Some(message) => Err(Error::new(Code::UnsupportedDtype, message).of_tensor(&tensor.name)),
            None => Ok(()),
        })
    }

    /// An output for each tensor, in the order of the checkpoint.
    fn renamed(&mut self, choices: TypeChoices, warnings: &mut Vec<Warning>) -> Result<Outputs> {
        self.check_scales()?;
        let checkpoint = self.checkpoint;
        let decisions = self.decisions(&checkpoint.tensors, choices, None)?;
        let mut outputs = Vec::with_capacity(checkpoint.tensors.len());
        for ((index, tensor), decision) in checkpoint.tensors.iter().enumerate().zip(decisions) {
            let mut output = Output::converted(index, tensor, decision, self.recipe, self.measure);
            output.name = self.target.tensor_name(tensor);
            self.importance.encode(tensor, &mut output)?;
            outputs.push(output);
        }
        let rotation = self.rotate(&mut outputs, warnings)?;
        Ok((outputs, rotation))
    }

    /// Applies the rotation of the recipe to the outputs of the checkpoint's tensors.
    fn rotate(
        &self,
        outputs: &mut Vec<Output>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<AppliedRotation>> {
        let Some(options) = self.recipe.rotate else { return Ok(None) };
        let planner = RotationPlanner::new(self.checkpoint, self.original, options, self.recipe.dtype)?;
        planner.apply(self.original, outputs, warnings).map(Some)
    }

    /// An output for each tensor of a GGUF, in its order.
    fn mapped(
        &mut self,
        mapping: &GgufMapping,
        choices: TypeChoices,
        warnings: &mut Vec<Warning>,
    ) -> Result<Outputs> {
        self.check_scales()?;
        let (checkpoint, recipe) = (self.checkpoint, self.recipe);
        let decisions = self.decisions(&mapping.logical.tensors, choices, Some(mapping))?;
        let mut sources = Vec::new();
        let rotation = match recipe.rotate {
            Some(_) => {
                sources = self.sources(mapping, &decisions);
                self.rotate(&mut sources, warnings)?
            }
            None => None,
        };
        let rotated = sources.iter().map(|o| (o.name.as_str(), o)).collect();
        let composer = Composer { tensors: &checkpoint.tensors, recipe, rotated, measure: self.measure };
        let mut outputs = Vec::with_capacity(mapping.tensors.tensors.len());
        let mut decided = mapping.logical.tensors.iter().zip(decisions);
        for tensor in &mapping.tensors.tensors {
            if tensor.parts.is_empty() {
                outputs.push(gguf_mapping::generated(tensor)?);
                continue;
            }
            let Some((logical, decision)) = decided.next() else { break };
            if composer.is_left_out(tensor) {
                continue;
            }
            let mut output = composer.output(tensor, logical, decision)?;
            self.importance.encode(logical, &mut output)?;
            outputs.push(output);
        }
        Ok((outputs, rotation))
    }

    /// The outputs of the checkpoint's tensors, each with the type of a GGUF tensor that it is a part of.
    fn sources(&self, mapping: &GgufMapping, decisions: &[Decision]) -> Vec<Output> {
        let mut of_source: Vec<Option<&Decision>> = alloc::vec![None; self.checkpoint.tensors.len()];
        let sourced = mapping.tensors.tensors.iter().filter(|t| !t.parts.is_empty());
        for (tensor, decision) in sourced.zip(decisions) {
            for part in &tensor.parts {
                if let Some(of) = of_source.get_mut(part.source) {
                    *of = Some(decision);
                }
            }
        }
        let kept = || Decision { action: Action::Copy, reason: Reason { code: "kept", text: "".into() } };
        let one = |((index, tensor), decision): ((usize, &TensorInfo), Option<&Decision>)| {
            let decision = decision.cloned().unwrap_or_else(kept);
            Output::converted(index, tensor, decision, self.recipe, self.measure)
        };
        self.checkpoint.tensors.iter().enumerate().zip(of_source).map(one).collect()
    }
}

/// A warning about towers that a GGUF of the text model does not have.
fn towers_left_out(mapping: &GgufMapping) -> Option<Warning> {
    let towers = &mapping.tensors.towers;
    let first = towers.first()?;
    let message = format!(
        "{} tensors of vision or audio towers are left out (first: {first}); the text model is converted",
        towers.len()
    );
    Some(Warning::new("towers_left_out", message))
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
