//! `plan`: what `quantize` would write. The recipe that was typed is understood here, for both.

use crate::args::{PlanArgs, RecipeArgs, TargetArg};
use crate::io::source::Source;
use crate::render;
use crate::render::quantized::{Document, write_text};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Container;
use quantoscope_core::plan::{convert, target};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::report::converted;
use std::path::Path;
use std::process::ExitCode;

pub fn run(args: &PlanArgs) -> Result<ExitCode> {
    let recipe = recipe(&args.recipe, None)?;
    let source = Source::open(&args.input)?.weighted(args.recipe.weights.path.as_deref())?;
    let plan = convert::plan(&source.checkpoint, &recipe, source.imatrix(), false)?;
    let report = converted(&source.checkpoint, &plan, None);
    match report {
        Some(report) if args.json => render::json(&Document::new(&report, None, true))?,
        Some(report) => {
            render::warn(&plan.warnings);
            render::stream(|out| write_text(out, &report, None, None))?;
        }
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The recipe that was typed, with the container that the output's name says.
pub fn recipe(args: &RecipeArgs, output: Option<&Path>) -> Result<Recipe> {
    let extension = output.map(|o| o.extension().and_then(|e| e.to_str()).unwrap_or(""));
    let to = match (args.to, extension) {
        (Some(TargetArg::Gguf), _) | (None, None) => Container::Gguf,
        (Some(TargetArg::Q4), _) => Container::LatticeQ4,
        (Some(TargetArg::Safetensors), _) => Container::Safetensors,
        (None, Some(e)) if e.eq_ignore_ascii_case("gguf") => Container::Gguf,
        (None, Some(e)) if e.eq_ignore_ascii_case("safetensors") => Container::Safetensors,
        (None, Some(_)) => {
            let message = "the output's name does not say its container; give --to gguf, q4 or safetensors";
            return Err(Error::new(Code::Usage, message));
        }
    };
    let mut recipe = Recipe::new(to, args.dtype);
    recipe.preset = args.recipe;
    recipe.overrides.clone_from(&args.overrides);
    recipe.output_type = args.output_tensor_type;
    recipe.embedding_type = args.token_embedding_type;
    recipe.leave_output = args.leave_output_tensor;
    recipe.q4_scheme = args.q4_scheme.into();
    recipe.pure = args.pure;
    recipe.allow_requantize = args.allow_requantize;
    recipe.allow_nonfinite = args.allow_nonfinite;
    recipe.rotate =
        args.rotation.what.as_ref().map(|w| RotationOptions::parse(w, args.rotation.seed)).transpose()?;
    target::check(&recipe)?;
    Ok(recipe)
}
