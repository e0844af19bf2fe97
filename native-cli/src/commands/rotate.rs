//! `rotate`: a conversion that keeps the types, into a folder that loaders of Hugging Face's layout read.

use super::quantize::{Kind, make};
use crate::args::{Imatrix, Quantize, RecipeArgs, Rotate, Rotation, Scheme};
use quantoscope_core::error::Result;
use quantoscope_core::format::Container;
use quantoscope_core::recipe::{self, Recipe};
use std::process::ExitCode;

pub fn run(args: Rotate) -> Result<ExitCode> {
    let wish = recipe::rotate::Rotate::parse(&args.what, args.seed)?;
    let recipe = Recipe { rotate: Some(wish), ..Recipe::new(Container::Safetensors, args.dtype) };
    recipe.check()?;
    make(&as_conversion(args), &recipe, Kind::Folder)
}

/// The same words as those of a conversion.
fn as_conversion(args: Rotate) -> Quantize {
    let recipe = RecipeArgs {
        to: None,
        dtype: args.dtype,
        recipe: None,
        overrides: Vec::new(),
        output_tensor_type: None,
        token_embedding_type: None,
        leave_output_tensor: false,
        weights: Imatrix { path: None },
        q4_scheme: Scheme::Asym,
        pure: false,
        allow_requantize: false,
        rotation: Rotation { what: Some(args.what), seed: args.seed },
    };
    Quantize {
        input: args.input,
        output: args.output,
        recipe,
        dry_run: args.dry_run,
        no_measure: true,
        force: args.force,
        resume: args.resume,
        events: false,
        json: args.json,
        gate: args.gate,
        work: args.work,
    }
}
