//! One safetensors file: plain floats and what the format can copy, widest elements first. Writes no configuration.
//!
//! Spec: <https://huggingface.co/docs/safetensors>.

use super::{Contents, Target, check_has_type, layout_tensors, metadata_left_out, place_in_one_file, usage};
use crate::dtype::DType;
use crate::error::Result;
use crate::format::safetensors::layout_of;
use crate::format::{Checkpoint, Container};
use crate::plan::provenance::{self, RECIPE, ROTATION};
use crate::plan::{OutFile, Output, Warning};
use crate::recipe::Recipe;
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) struct Safetensors;

impl Target for Safetensors {
    fn container(&self) -> Container {
        Container::Safetensors
    }

    fn check(&self, recipe: &Recipe) -> Result<()> {
        // A rotation alone is a reason to write: every tensor keeps its precision.
        if recipe.rotate.is_none() {
            check_has_type(recipe)?;
        }
        check_types(recipe)
    }

    fn holds(&self, dtype: DType) -> bool {
        dtype.safetensors_name().is_some()
    }

    fn config_sets_dtype(&self) -> bool {
        true
    }

    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>> {
        // Widest elements first, so that every tensor is aligned to its element.
        outputs.sort_by_key(|o| core::cmp::Reverse(o.dtype.block_bytes()));
        let mut metadata = metadata(contents.checkpoint, contents.recipe);
        metadata.extend(contents.rotation.map(|r| (ROTATION.into(), provenance::rotation(r))));
        let layout = layout_of(&metadata, layout_tensors(outputs))?;
        warnings.extend(metadata_left_out(contents.checkpoint));
        Ok(place_in_one_file(outputs, layout))
    }
}

/// Refuses types that safetensors files do not hold.
pub(super) fn check_types(recipe: &Recipe) -> Result<()> {
    recipe.types().try_for_each(|dtype| match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok(()),
        t => Err(usage(format!("safetensors output takes f32, f16 or bf16, not {t}"))),
    })
}

/// The `__metadata__` of the file: that of a safetensors source, and the recipe.
fn metadata(checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<(String, String)> {
    let mut metadata: Vec<(String, String)> = Vec::new();
    if checkpoint.container == Container::Safetensors {
        for (key, value) in &checkpoint.metadata.0 {
            if let MetaValue::String(text) = value {
                metadata.push((key.clone(), text.clone()));
            }
        }
    }
    if !metadata.iter().any(|(k, _)| k == "format") {
        // Without it transformers refuses the file.
        metadata.push(("format".into(), "pt".into()));
    }
    metadata.retain(|(k, _)| k != RECIPE && k != ROTATION);
    metadata.push((RECIPE.into(), provenance::recipe(recipe)));
    metadata
}
