//! Targets of a conversion, one file each: the recipes that a target accepts, its tensor names and types, the layout of its
//! files, and the files beside the weights.
//!
//! A new target is a type that implements `Target`, a name in [`TargetName`], and a line in `of`. Knows no source
//! format beyond what a [`Checkpoint`] holds.

mod config_json;
mod gguf;
mod hf_folder;
mod lattice;
mod mlx;
mod safetensors;
mod split;

use super::gguf_mapping::GgufMapping;
use super::rotate::AppliedRotation;
use super::{FileRange, LeftOut, OutFile, Output, Plan, Warning};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container, FileLayout, LayoutTensor};
use crate::quant::Encoding;
use crate::recipe::pattern::Pattern;
use crate::recipe::select::TypeChoice;
use crate::recipe::{Action, Decision, Reason, Recipe, TargetName, unsupported};
use crate::tensor::{Name, TensorInfo};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub(super) use gguf::gguf_metadata;
pub(super) use hf_folder::{lay_out_files, lay_out_folder};

/// The contents of the files to lay out.
pub(super) struct Contents<'a> {
    /// The source; a tied model that is rotated has its own head here.
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) recipe: &'a Recipe,
    /// The importance matrix of the scale searches.
    pub(super) imatrix: Option<&'a Imatrix>,
    /// The rotation of the outputs.
    pub(super) rotation: Option<&'a AppliedRotation>,
    /// The source's tensors as those of a GGUF, where they are renamed.
    pub(super) mapping: Option<&'a GgufMapping>,
}

/// A way to write a model.
pub(super) trait Target: Sync {
    /// The container of the weights.
    fn container(&self) -> Container;

    /// Whether the output is a directory of files.
    fn is_directory(&self) -> bool {
        false
    }

    /// Refuses a recipe that this target cannot follow, whatever the source.
    fn check(&self, recipe: &Recipe) -> Result<()>;

    /// Refuses a source of which this target cannot be made, before anything is planned.
    fn check_source(&self, _checkpoint: &Checkpoint) -> Result<()> {
        Ok(())
    }

    /// Whether a tensor of this type can be stored unchanged.
    fn holds(&self, dtype: DType) -> bool;

    /// The name of a source's tensor in the output.
    fn tensor_name(&self, tensor: &TensorInfo) -> Name {
        tensor.name.clone()
    }

    /// Why `tensor` is not written, if it is left out.
    fn leaves_out(&self, _tensor: &TensorInfo) -> Option<Reason> {
        None
    }

    /// Why `tensor` cannot be stored in this target by its name, shape or type, whatever the recipe.
    fn misfit(&self, _tensor: &TensorInfo) -> Option<String> {
        None
    }

    /// What happens to `tensor`, for which the recipe chose `choice`.
    fn decide(&self, recipe: &Recipe, tensor: &TensorInfo, choice: TypeChoice) -> Result<Decision> {
        match choice {
            TypeChoice::Keep(reason) | TypeChoice::LeaveOut(reason) => self.keep(recipe, tensor, reason),
            TypeChoice::To(dtype, why) if dtype == tensor.dtype && !self.holds(dtype) => {
                self.keep(recipe, tensor, why)
            }
            TypeChoice::To(dtype, why) => {
                let decision = recipe.take(tensor, Encoding::Type(dtype))?;
                Ok(Decision { reason: combined(why, &decision.reason).into(), ..decision })
            }
        }
    }

    /// Keeps the precision of `tensor`, widened if this target does not have its type.
    fn keep(&self, recipe: &Recipe, tensor: &TensorInfo, reason: Reason) -> Result<Decision> {
        if self.holds(tensor.dtype) {
            return Ok(Decision { action: Action::Copy, reason: reason.into() });
        }
        match tensor.dtype {
            // Both 8-bit floats fit bfloat16 exactly, subnormals included.
            DType::F8_E4M3 | DType::F8_E5M2 => {
                let text = format!("{}; stored as BF16, exactly", reason.text);
                let action = Action::Encode(Encoding::Type(DType::BF16));
                Ok(Decision { action, reason: Reason { text: text.into(), ..reason }.into() })
            }
            d if d.is_quantized() => recipe.take(tensor, Encoding::Type(recipe.dtype.unwrap_or(DType::F32))),
            d => Err(unsupported(tensor, format!("{} cannot hold {d}", self.container().name()))),
        }
    }

    /// The encodings that may have made a stored tensor of this type.
    fn encodings(&self, dtype: DType) -> Vec<Encoding> {
        vec![Encoding::Type(dtype)]
    }

    /// Whether loaders bring all tensors to the type that `config.json` names.
    fn config_sets_dtype(&self) -> bool {
        false
    }

    /// The outputs under the names of the target, with those that it stores together as one, and their streams. Outputs that
    /// it has no place for are moved to `left_out`.
    fn assemble(
        &self,
        _contents: &Contents<'_>,
        outputs: Vec<Output>,
        _left_out: &mut Vec<LeftOut>,
    ) -> Result<Vec<Output>> {
        Ok(outputs)
    }

    /// Sorts `outputs`, gives each its place, and returns the files with their headers.
    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>>;
}

/// The target of this name.
pub(super) fn of(name: TargetName) -> &'static dyn Target {
    match name {
        TargetName::Safetensors => &safetensors::Safetensors,
        TargetName::HfFolder => &hf_folder::HfFolder,
        TargetName::Mlx => &mlx::Mlx,
        TargetName::Gguf => &gguf::Gguf,
        TargetName::Lattice => &lattice::Lattice,
    }
}

/// Checks a recipe before any file is read.
///
/// # Errors
///
/// `usage` if the recipe contradicts itself or its target, `unsupported_dtype` if a type cannot be written yet.
pub fn check(recipe: &Recipe) -> Result<()> {
    if recipe.dtype.is_some() && recipe.preset.is_some() {
        return Err(usage("a recipe has one type or one preset, not both"));
    }
    if let Some(mixed) = recipe.mixed.filter(|_| recipe.to != TargetName::Mlx) {
        return Err(usage(format!("{} is a recipe of mlx-lm; give --to mlx", mixed.name())));
    }
    recipe.overrides.iter().try_for_each(|o| Pattern::new(&o.pattern).map(|_| ()))?;
    recipe.split.check()?;
    check_gguf_options(recipe)?;
    of(recipe.to).check(recipe)
}

/// Puts `stem` before the names of the files of a split that is no directory: see [`Plan::is_file_set`].
///
/// # Errors
///
/// `bad_json` if a name cannot be written.
pub fn name_files(plan: &mut Plan, stem: &str) -> Result<()> {
    if !plan.is_file_set() {
        return Ok(());
    }
    if plan.conversion.as_ref().is_some_and(|c| c.container == Container::Safetensors) {
        safetensors::name_shards(&mut plan.files, &plan.outputs, stem)?;
    } else {
        plan.files.iter_mut().for_each(|file| file.name.insert_str(0, stem));
    }
    if let Some(conversion) = &mut plan.conversion {
        conversion.totals.total_bytes_out = plan.files.iter().fold(0, |sum, f| f.len.saturating_add(sum));
    }
    Ok(())
}

/// Refuses options of a GGUF for another target, and values that cannot be read.
fn check_gguf_options(recipe: &Recipe) -> Result<()> {
    let options = &recipe.gguf;
    options.metadata_override()?;
    options.overridden()?;
    let lattice = recipe.to == TargetName::Lattice && !recipe.split.is_none();
    if lattice {
        return Err(usage("a lattice directory has one file for each tensor; it cannot be split"));
    }
    if recipe.to == TargetName::Gguf {
        let split = options.vocab_only && !recipe.split.is_none();
        return if split { Err(usage("a vocabulary cannot be split")) } else { Ok(()) };
    }
    let only = match () {
        () if options.vocab_only => Some("--vocab-only"),
        () if !options.override_kv.is_empty() => Some("--override-kv"),
        () if recipe.split.no_tensor_first => Some("--no-tensor-first-split"),
        () => options.needs_mapping(),
    };
    match only {
        Some(option) => Err(usage(format!("{option} is an option of GGUF output"))),
        None => Ok(()),
    }
}

/// Whether a rotation or other files alone are a reason to write: every tensor keeps its precision.
fn writes_without_type(recipe: &Recipe) -> bool {
    recipe.rotate.is_some() || recipe.gguf.verbatim || !recipe.split.is_none()
}

/// Refuses a recipe without a type for a source that does not have one for its tensors.
pub(super) fn check_source(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<()> {
    of(recipe.to).check_source(checkpoint)?;
    match recipe.to {
        TargetName::HfFolder if !writes_without_type(recipe) => check_has_type(recipe),
        _ => Ok(()),
    }
}

/// `config.json` as it belongs beside the output of `plan`; `None` if the source has none.
///
/// # Errors
///
/// `bad_json` if a rotation changes the configuration and it cannot be parsed.
pub fn config(checkpoint: &Checkpoint, plan: &Plan) -> Result<Option<Vec<u8>>> {
    match &plan.conversion {
        Some(conversion) => config_json::config(checkpoint, &conversion.recipe),
        None => Ok(checkpoint.config.clone()),
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Code::Usage, message)
}

/// Refuses a recipe without any type.
fn check_has_type(recipe: &Recipe) -> Result<()> {
    match (recipe.dtype, recipe.preset) {
        (None, None) => Err(usage("a type is needed, for example q4_0, or a recipe, for example q4_k_m")),
        _ => Ok(()),
    }
}

/// The reason for a type, the action that leads to it, or both, if either says more than that it is a weight.
fn combined(why: Reason, how: &Reason) -> Reason {
    match (why.code, how.code) {
        (_, "weight") => why,
        ("weight", _) => how.clone(),
        _ => Reason { code: how.code, text: format!("{}; {}", why.text, how.text).into() },
    }
}

fn layout_tensors(outputs: &[Output]) -> impl ExactSizeIterator<Item = LayoutTensor<'_>> + Clone {
    outputs.iter().map(|o| LayoutTensor { name: &o.name, dtype: o.dtype, shape: &o.shape })
}

/// Gives every output its range in the only file.
fn place_in_one_file(outputs: &mut [Output], layout: FileLayout) -> Vec<OutFile> {
    for ((output, &at), &bytes) in outputs.iter_mut().zip(&layout.offsets).zip(&layout.sizes) {
        output.place = Some(FileRange { file: 0, at, bytes });
    }
    vec![OutFile { len: layout.file_len, ..OutFile::literal("", layout.header) }]
}

/// GGUF holds configuration and tokenizer as metadata, for which other containers have no place.
fn metadata_left_out(checkpoint: &Checkpoint) -> Option<Warning> {
    let n = checkpoint.metadata.0.len();
    let message = format!("{n} metadata values of the GGUF (configuration, tokenizer) are not carried over");
    let lost = checkpoint.container == Container::Gguf && n > 0;
    lost.then(|| Warning::new("metadata_left_out", message))
}
