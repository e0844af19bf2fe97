//! `rotate`: a conversion that keeps the types, into a folder that loaders of Hugging Face's layout read; or an adapter
//! turned with its model.

use super::quantize::{QuantizeTask, make, permission, resources};
use crate::args::{ImatrixArgs, QuantizeArgs, RecipeArgs, RotateArgs, RotationArgs, SchemeArg};
use crate::io::source::Source;
use crate::io::target::target;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{lora, replay, target as plan_target};
use quantoscope_core::recipe::{self, Recipe, TargetName, rotation};
use quantoscope_core::report::EquivalenceView;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// What is rotated where nothing is typed.
const WHAT: &str = "quarot";

pub fn run(args: RotateArgs) -> Result<ExitCode> {
    let rotated = args.rotated.as_deref().map(Source::open).transpose()?;
    let wish = match &rotated {
        Some(rotated) => recorded(&args, rotated)?,
        None => recipe::rotation::RotationOptions::parse(
            args.what.as_deref().unwrap_or(WHAT),
            args.seed.unwrap_or(rotation::SEED),
        )?,
    };
    let recipe = Recipe {
        rotate: Some(wish),
        allow_nonfinite: args.allow_nonfinite,
        ..Recipe::new(TargetName::HfFolder, args.dtype)
    };
    plan_target::check(&recipe)?;
    match args.adapter.clone() {
        Some(path) => counter_rotate(&as_conversion(args), &path, rotated.as_ref(), &recipe),
        None => make(&as_conversion(args), &recipe),
    }
}

/// The rotation that a rotated model was made with, which must be what is typed, if anything is.
fn recorded(args: &RotateArgs, rotated: &Source) -> Result<rotation::RotationOptions> {
    let path = &rotated.path;
    lora::check_rotated(&Source::open(&args.input)?.checkpoint, &rotated.checkpoint)?;
    let found = replay::recorded(&rotated.checkpoint).and_then(|r| r.rotate);
    let found = found.ok_or_else(|| {
        let message = format!("{} records no rotation: it is not known which one it had", path.display());
        Error::new(Code::UnsupportedRotation, message)
    })?;
    let what =
        args.what.as_deref().map(|what| rotation::RotationOptions::parse(what, found.seed)).transpose()?;
    let differs = |option: &str| {
        let message = format!("--{option} is not what {} was rotated with, as it records", path.display());
        Err(Error::new(Code::Usage, message))
    };
    match (what, args.seed) {
        (Some(typed), _) if typed != found => differs("rotate"),
        (_, Some(typed)) if typed != found.seed => differs("seed"),
        _ => Ok(found),
    }
}

/// Turns the adapter at `path` with the model that `args` names.
fn counter_rotate(
    args: &QuantizeArgs,
    path: &Path,
    rotated: Option<&Source>,
    recipe: &Recipe,
) -> Result<ExitCode> {
    let started = Instant::now();
    let resources = resources(args, recipe)?;
    let (base, source) = (Source::open(&args.input)?, Source::open(path)?);
    let none = || Error::new(Code::NotFound, format!("there is no {} in {}", lora::CONFIG, path.display()));
    let config = source.read_beside(lora::CONFIG)?.ok_or_else(none)?;
    let mut others = source.checkpoint.companions.clone();
    others.extend(source.side_files()?);
    let mut plan = lora::plan(&base.checkpoint, &source.checkpoint, &config, recipe, &others)?;
    source.fill_copies(&mut plan, !args.dry_run)?;
    let sources = [&source, &base];
    let inputs: Vec<&Source> = sources.into_iter().chain(rotated).collect();
    let out = target(&inputs, &args.output, true, permission(args))?;
    let elements = plan.conversion.as_ref().and_then(|c| c.rotation.as_ref()).map_or(0, |r| r.elements);
    let gate = |_| Ok(Some(EquivalenceView::unprobed(elements, "an adapter alone computes nothing".into())));
    QuantizeTask { args, sources: &sources, plan: &plan, out: &out, resources, started }.execute(gate)
}

/// The same words as those of a conversion.
fn as_conversion(args: RotateArgs) -> QuantizeArgs {
    let recipe = RecipeArgs {
        to: None,
        dtype: args.dtype,
        recipe: None,
        overrides: Vec::new(),
        output_tensor_type: None,
        token_embedding_type: None,
        leave_output_tensor: false,
        weights: ImatrixArgs { path: None },
        q4_scheme: SchemeArg::Asym,
        pure: false,
        allow_requantize: false,
        allow_nonfinite: args.allow_nonfinite,
        rotation: RotationArgs { what: args.what, seed: args.seed.unwrap_or(rotation::SEED) },
    };
    QuantizeArgs {
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
