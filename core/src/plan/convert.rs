//! Plans a conversion: every output tensor, its exact place, the header bytes of every file, every warning.
//!
//! Knows no target: [`super::target`] decides names, types and layout.

use super::gguf_mapping::{self, Composer, GgufMapping};
use super::rotate::{self, AppliedRotation, RotationPlanner};
use super::target::{self, Contents, Target};
use super::totals::UntiedHeadSize;
use super::{Conversion, ImportancePlanner, LeftOut, Output, Plan, Totals, Warning};
use super::{hf_folder, hf_mapping};
use crate::error::{Code, Error, Result};
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container};
use crate::model::stored_quantization::StoredQuantization;
use crate::recipe::presets::Preset;
use crate::recipe::select::{HeadCopy, OverrideUse, TypeChoice, TypeChoices, type_choices_of};
use crate::recipe::{Action, Decision, Reason, Recipe, TargetName};
use crate::tensor::TensorInfo;
use crate::tensor::packed::Packed;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
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
    checkpoint.packing.check()?;
    if checkpoint.tensors.is_empty() {
        return Err(Error::new(Code::Empty, "the input holds no tensors"));
    }
    recipe.filter()?.check(&[checkpoint])?;
    check_is_model(checkpoint)?;
    if cfg!(feature = "conversion") && hf_mapping::applies(checkpoint, recipe) {
        return hf_folder::plan(checkpoint, recipe, measure);
    }
    target::check_source(recipe, checkpoint)?;
    let (original, untied) = (checkpoint, untied(checkpoint, recipe, imatrix)?);
    let copy = untied.as_ref().and_then(|(_, copy)| *copy);
    let checkpoint = untied.as_ref().map_or(original, |(all, _)| all);
    let target = target::of(recipe.to);
    let mapping = GgufMapping::of(checkpoint, recipe)?;
    check_mapped_options(recipe, checkpoint.container, mapping.is_some())?;
    let named = mapping.as_ref().map_or(checkpoint, |m| &m.logical);
    let sources = mapping.as_ref().map_or(&[][..], |m| &m.sources);
    let copy = copy.and_then(|copy| mapping.as_ref().map_or(Some(copy), |m| m.head_copy(copy)));
    let choices = type_choices_of(recipe, named, sources, imatrix.is_some(), copy)?;
    let mut warnings = checkpoint.warnings.clone();
    warnings.extend(override_warnings(recipe, &choices)?);
    warnings.extend(choice_warnings(recipe, &choices, imatrix.is_some()));
    let importance = ImportancePlanner::new(imatrix, named);
    let stored = StoredQuantization::of(original);
    let left_out = activation_scales(checkpoint);
    let mut work = Work { target, checkpoint, original, recipe, measure, importance, stored, left_out };
    let (outputs, rotation) = match &mapping {
        _ if recipe.gguf.vocab_only => (Vec::new(), None),
        Some(mapping) if cfg!(feature = "conversion") => work.mapped(mapping, choices, &mut warnings)?,
        _ => work.renamed(choices, &mut warnings)?,
    };
    let Work { importance, stored, mut left_out, .. } = work;
    warnings.extend(stored.warnings().filter(|_| !recipe.gguf.verbatim));
    warnings.extend(importance.warnings());
    warnings.extend(mapping.as_ref().and_then(towers_left_out));
    let notes = mapping.iter().flat_map(|m| &m.tensors.notes);
    warnings.extend(notes.map(|note| Warning::new("no_effect", note.as_str())));
    let contents =
        Contents { checkpoint, recipe, imatrix, rotation: rotation.as_ref(), mapping: mapping.as_ref() };
    let mut outputs = target.assemble(&contents, outputs, &mut left_out)?;
    let head_name = copy.and_then(|copy| named.tensors.get(copy.head)).map(|t| t.name.as_str());
    let head = outputs.iter().find(|o| Some(o.name.as_str()) == head_name).map(UntiedHeadSize::of);
    let files = target.lay_out(&contents, &mut outputs, &mut warnings)?;
    let totals = Totals::of(checkpoint, &outputs, &files, head)?;
    if totals.planned_quantized == 0 && recipe.quantizes() {
        warnings.push(Warning::new("nothing_quantized", "no tensor is quantized by this plan"));
    }
    warnings.extend(growth_warning(recipe, checkpoint, &totals));
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

/// The parts of a conversion that its outputs depend on.
struct Work<'a> {
    target: &'static dyn Target,
    checkpoint: &'a Checkpoint,
    /// The checkpoint without the head that a rotation adds.
    original: &'a Checkpoint,
    recipe: &'a Recipe,
    measure: bool,
    importance: ImportancePlanner<'a>,
    stored: StoredQuantization<'a>,
    left_out: Vec<LeftOut>,
}

/// Outputs without a place, and the rotation that was applied to them.
type Outputs = (Vec<Output>, Option<AppliedRotation>);

impl Work<'_> {
    /// What happens to each of `tensors`; `None` for those that are left out.
    fn decisions(
        &mut self,
        tensors: &[TensorInfo],
        choices: TypeChoices,
        mapping: Option<&GgufMapping>,
    ) -> Result<Vec<Option<Decision>>> {
        let mut last = Arc::new(Reason { code: "", text: "".into() });
        let mut decide = |(tensor, choice): (&TensorInfo, TypeChoice)| {
            let choice = match mapping {
                Some(mapping) => gguf_mapping::choice(mapping.outtype, tensor, choice),
                None => choice,
            };
            if let TypeChoice::LeaveOut(reason) = choice {
                self.left_out.push(LeftOut { name: tensor.name.clone(), reason });
                return Ok(None);
            }
            let mut decision = self.target.decide(self.recipe, tensor, choice)?;
            if decision.reason == last {
                decision.reason = Arc::clone(&last);
            }
            last = Arc::clone(&decision.reason);
            Ok(Some(decision))
        };
        tensors.iter().zip(choices.choices).map(&mut decide).collect()
    }

    /// An output for each tensor, in the order of the checkpoint.
    fn renamed(&mut self, mut choices: TypeChoices, warnings: &mut Vec<Warning>) -> Result<Outputs> {
        let (checkpoint, target) = (self.checkpoint, self.target);
        for (tensor, choice) in checkpoint.tensors.iter().zip(&mut choices.choices) {
            if let Some(reason) = target.leaves_out(tensor) {
                *choice = TypeChoice::LeaveOut(reason);
            }
        }
        let all = checkpoint.tensors.iter().zip(&choices.choices);
        let written = all.filter(|(_, c)| !matches!(c, TypeChoice::LeaveOut(_))).map(|(t, _)| t);
        if !self.recipe.gguf.verbatim {
            written.clone().try_for_each(|t| self.stored.check(t))?;
        }
        check_fits(target, checkpoint, written)?;
        let decisions = self.decisions(&checkpoint.tensors, choices, None)?;
        let mut outputs = Vec::with_capacity(checkpoint.tensors.len());
        for ((index, tensor), decision) in checkpoint.tensors.iter().enumerate().zip(decisions) {
            let Some(decision) = decision else { continue };
            let mut output = Output::converted(index, tensor, decision, self.recipe, self.measure);
            output.name = target.tensor_name(tensor);
            self.importance.encode(tensor, &mut output)?;
            if target.container() == Container::Safetensors {
                self.in_plain_order(tensor, &mut output)?;
            }
            outputs.push(output);
        }
        let rotation = self.rotate(&mut outputs, warnings)?;
        Ok((outputs, rotation))
    }

    /// Transposes a packed stack of experts that models load transposed from plain tensors.
    fn in_plain_order(&self, tensor: &TensorInfo, output: &mut Output) -> Result<()> {
        if !tensor.packed.as_deref().is_some_and(Packed::is_transposed_stack) {
            return Ok(());
        }
        let refuse = |code, message: &str| Error::new(code, message).of_tensor(&tensor.name);
        if self.recipe.rotate.is_some() {
            let message = "stacks of experts in MXFP4 are rotated for GGUF only; give --to gguf";
            return Err(refuse(Code::UnsupportedRotation, message));
        }
        let misshapen = || refuse(Code::BadValue, "it is no stack of matrices");
        output.transpose_stack().ok_or_else(misshapen)
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
        self.stored.check_all()?;
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
            let Some(decision) = decision.filter(|_| !composer.is_left_out(tensor)) else { continue };
            let mut output = composer.output(tensor, logical, decision)?;
            self.importance.encode(logical, &mut output)?;
            outputs.push(output);
        }
        Ok((outputs, rotation))
    }

    /// The outputs of the checkpoint's tensors, each with the type of a GGUF tensor that it is a part of.
    fn sources(&self, mapping: &GgufMapping, decisions: &[Option<Decision>]) -> Vec<Output> {
        let mut of_source: Vec<Option<&Decision>> = alloc::vec![None; self.checkpoint.tensors.len()];
        let sourced = mapping.tensors.tensors.iter().filter(|t| !t.parts.is_empty());
        for (tensor, decision) in sourced.zip(decisions) {
            for part in &tensor.parts {
                if let Some(of) = of_source.get_mut(part.source) {
                    *of = decision.as_ref();
                }
            }
        }
        let kept =
            || Decision { action: Action::Copy, reason: Reason { code: "kept", text: "".into() }.into() };
        let one = |((index, tensor), decision): ((usize, &TensorInfo), Option<&Decision>)| {
            let decision = decision.cloned().unwrap_or_else(kept);
            Output::converted(index, tensor, decision, self.recipe, self.measure)
        };
        self.checkpoint.tensors.iter().enumerate().zip(of_source).map(one).collect()
    }
}

/// The scales of activations, which are not written.
fn activation_scales(checkpoint: &Checkpoint) -> Vec<LeftOut> {
    let text = "scale of activations: the weights do not need it";
    let reason = |name| LeftOut { name, reason: Reason { code: "activation_scale", text: text.into() } };
    checkpoint.packing.dropped.iter().map(|t| reason(t.name.clone())).collect()
}

/// Refuses options that need a Hugging Face checkpoint under GGUF names, which this is not, and the files of a source in
/// another container.
fn check_mapped_options(recipe: &Recipe, container: Container, mapped: bool) -> Result<()> {
    let option = recipe.gguf.needs_mapping().filter(|_| recipe.to == TargetName::Gguf && !mapped);
    let message = match option {
        Some(option) => format!(
            "{option} is for a Hugging Face folder whose tensors get GGUF names (--names gguf); for a GGUF, --override-kv \
             and `metadata set` change its keys"
        ),
        None if mapped && recipe.split.keep => {
            "--keep-split keeps the files of a GGUF split, or of shards that become shards; give --split-max-size or \
             --split-max-tensors"
                .into()
        }
        None if recipe.gguf.vocab_only && !mapped && container != Container::Gguf => {
            "--vocab-only needs a folder with a tokenizer and config.json, or a GGUF".into()
        }
        None => return Ok(()),
    };
    Err(Error::new(Code::Usage, message))
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

/// A warning where encoding a quantized model again makes its tensors larger, which cannot bring back what they lost.
fn growth_warning(recipe: &Recipe, checkpoint: &Checkpoint, totals: &Totals) -> Option<Warning> {
    let requantized = recipe.quantizes() && checkpoint.tensors.iter().any(TensorInfo::is_quantized);
    let (from, to) = (totals.total_bytes_in, totals.tensor_bytes_out);
    if !requantized || to <= from {
        return None;
    }
    let message = format!(
        "the tensors grow from {from} to {to} bytes, and none becomes more exact: the source is quantized already"
    );
    Some(Warning::new("larger_than_source", message))
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
