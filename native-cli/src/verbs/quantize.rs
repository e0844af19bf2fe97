//! `quantize`: a checkpoint in other types, in another container, or both.

use super::convert::{self, ConversionObserver, ConversionRequest, ConversionResult, permission};
use super::target_size::{ChosenRecipe, chosen, decide};
use crate::io::output::check_scratch;
use crate::io::scratch::parent;
use crate::options::{OutputOptions, QuantizeOptions};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::target;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::report::RotationChoiceView;

/// Converts the input by its recipe and writes the output, or only plans it for a dry run. `()` is an
/// observer that ignores everything.
///
/// # Errors
///
/// `usage` for a recipe that contradicts itself; those of opening and reading the input; `exists`,
/// `partial_exists`, `same_file`, `no_space` and `io` for the output; `non_finite` and the like for values
/// that their type cannot hold; `rotation_off` if a rotated model does not compute what its source computes.
pub fn run(options: &QuantizeOptions, observer: &dyn ConversionObserver) -> Result<ConversionResult> {
    if options.target.is_some() || options.auto_rotation.is_some() {
        check_output(&options.output)?;
    }
    let (fitted, rotation_choice) = recipe(options)?;
    let request = ConversionRequest {
        input: &options.input,
        output: &options.output,
        recipe: &fitted.recipe,
        imatrix: options.imatrix.as_deref(),
        measure: options.measure,
        equivalence: &options.equivalence,
        resources: &options.resources,
    };
    let mut result = convert::run(&request, observer)?;
    (result.target, result.rotation_choice) = (fitted.target, rotation_choice);
    Ok(result)
}

/// Refuses before a measurement what the conversion would refuse after it.
fn check_output(output: &OutputOptions) -> Result<()> {
    let path = &output.path;
    if output.dry_run {
        return Ok(());
    }
    if !parent(path).is_dir() {
        let message =
            format!("{} cannot be written: there is no directory {}", path.display(), parent(path).display());
        return Err(Error::new(Code::NotFound, message));
    }
    if path.symlink_metadata().is_ok() && !output.force && !output.resume {
        return Err(Error::new(Code::Exists, format!("{} exists; --force replaces it", path.display())));
    }
    check_scratch(path, permission(output))
}

/// The recipe, with types for the target size and the rotation that the model's output decides.
fn recipe(options: &QuantizeOptions) -> Result<(ChosenRecipe, Option<RotationChoiceView>)> {
    let choose = |rotate: Option<RotationOptions>| {
        let recipe = Recipe { rotate, ..options.recipe.clone() };
        target::check(&recipe)?;
        chosen(&options.input, recipe, options.imatrix.as_deref(), options.target.as_ref())
    };
    let Some(auto) = &options.auto_rotation else { return Ok((choose(options.recipe.rotate)?, None)) };
    let (plain, rotated) = (choose(None)?, choose(Some(auto.rotation))?);
    let imatrix = options.imatrix.as_deref();
    let choice = decide(&options.input, imatrix, auto, &options.resources, &plain.recipe, &rotated.recipe)?;
    Ok((if choice.rotated { rotated } else { plain }, Some(choice)))
}
