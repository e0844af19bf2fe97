//! The record of a conversion in its output: the recipe, and the rotation.

use super::rotate::AppliedRotation;
use crate::format::Checkpoint;
use crate::recipe::Recipe;
use alloc::string::String;

/// Metadata key of the recipe that an output was made by.
pub(super) const RECIPE: &str = "quantoscope.recipe";

/// Metadata key of the rotation of an output, and of the files that it was made from.
pub(super) const ROTATION: &str = "quantoscope.rotation";

/// The JSON of a recipe.
pub(super) fn recipe(recipe: &Recipe) -> String {
    // A plain struct always serialises.
    serde_json::to_string(recipe).unwrap_or_default()
}

/// The recipe that an output records.
pub(super) fn recorded_recipe(artefact: &Checkpoint) -> Option<Recipe> {
    serde_json::from_str(artefact.metadata.text(RECIPE)?).ok()
}

/// The JSON of a rotation.
pub(super) fn rotation(rotation: &AppliedRotation) -> String {
    // A plain struct always serialises.
    serde_json::to_string(rotation).unwrap_or_default()
}
