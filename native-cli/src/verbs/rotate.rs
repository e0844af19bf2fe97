//! `rotate`: a rotated model in Hugging Face's layout with the types of its source, or a LoRA adapter rotated
//! like its model.

use super::convert::{
    self, ConversionObserver, ConversionRequest, ConversionResult, ConversionTask, permission, resources,
};
use crate::io::source::Source;
use crate::io::target::{OutputForm, target};
use crate::options::{AdapterOptions, RotateOptions};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{lora, replay, target as plan_target};
use quantoscope_core::recipe::rotation::{RotationOptions, SEED};
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::report::EquivalenceView;
use quantoscope_core::rotation::RULES;
use std::path::Path;
use std::time::Instant;

/// The rotation that is used if none is given.
const DEFAULT: &str = "quarot";

/// Rotates the input, or the adapter if there is one, and writes the output, or only plans it for a dry run.
///
/// # Errors
///
/// `unsupported_rotation` if the rules of the model's family do not cover it, or the rotated model records no
/// rotation; `rotation_off` if the rotated model does not compute what its source computes; otherwise as
/// [`quantize`](super::quantize::run).
pub fn run(options: &RotateOptions, observer: &dyn ConversionObserver) -> Result<ConversionResult> {
    let rotated = options.adapter.as_ref().and_then(|a| a.rotated.as_deref());
    let rotated = rotated.map(Source::open).transpose()?;
    let rotation = match &rotated {
        Some(rotated) => recorded(options, rotated)?,
        None => {
            let default = || RotationOptions::parse(DEFAULT, SEED);
            let rotation = options.rotation.map_or_else(default, Ok)?;
            RotationOptions { seed: options.seed.unwrap_or(SEED), ..rotation }
        }
    };
    let recipe = Recipe {
        rotate: Some(rotation),
        allow_nonfinite: options.allow_nonfinite,
        ..Recipe::new(TargetName::HfFolder, options.dtype)
    };
    plan_target::check(&recipe)?;
    if let Some(adapter) = &options.adapter {
        return rotate_adapter(options, adapter, rotated.as_ref(), &recipe, observer);
    }
    let request = ConversionRequest {
        input: &options.input,
        output: &options.output,
        recipe: &recipe,
        imatrix: None,
        measure: false,
        equivalence: &options.equivalence,
        resources: &options.resources,
    };
    convert::run(&request, observer)
}

/// The rotation that the rotated model records. A rotation or seed in the options must be equal to it.
fn recorded(options: &RotateOptions, rotated: &Source) -> Result<RotationOptions> {
    let path = &rotated.path;
    lora::check_rotated(&Source::open_model(&options.input)?.checkpoint, &rotated.checkpoint)?;
    let found = replay::recorded(&rotated.checkpoint).and_then(|r| r.rotate);
    let found = found.ok_or_else(|| {
        let message = format!("{} records no rotation: it is not known which one it had", path.display());
        Error::new(Code::UnsupportedRotation, message)
    })?;
    let differs = |option: &str| {
        let message = format!("--{option} is not what {} was rotated with, as it records", path.display());
        Err(Error::new(Code::Usage, message))
    };
    match (options.rotation, options.seed) {
        (Some(given), _) if (RotationOptions { seed: found.seed, rules: found.rules, ..given }) != found => {
            differs("rotate")
        }
        (_, Some(given)) if given != found.seed => differs("seed"),
        // The rules of the model do not bind the adapter, whose matrices are made now.
        _ => Ok(RotationOptions { rules: RULES, ..found }),
    }
}

/// Rotates an adapter like the model it belongs to.
fn rotate_adapter(
    options: &RotateOptions,
    adapter: &AdapterOptions,
    rotated: Option<&Source>,
    recipe: &Recipe,
    observer: &dyn ConversionObserver,
) -> Result<ConversionResult> {
    let started = Instant::now();
    let resources = resources(&options.resources, recipe)?;
    let (base, source) = (Source::open_model(&options.input)?, Source::open(&adapter.path)?);
    let config = config(&source, &adapter.path)?;
    let output = &options.output;
    let mut others = source.checkpoint.companions.clone();
    others.extend(source.side_files()?);
    let mut plan = lora::plan(&base.checkpoint, &source.checkpoint, &config, recipe, &others)?;
    source.fill_copies(&mut plan, !output.dry_run)?;
    let inputs: Vec<&Source> = [&source, &base].into_iter().chain(rotated).collect();
    let out = target(&inputs, &output.path, &OutputForm::Directory, permission(output))?;
    let elements = plan.conversion.as_ref().and_then(|c| c.rotation.as_ref()).map_or(0, |r| r.elements);
    let unprobed = EquivalenceView::unprobed(elements, "an adapter alone computes nothing".into());
    let (sources, quiet) = (vec![source, base], !options.resources.progress);
    let task = ConversionTask { output, sources, plan, out, resources, quiet, started, observer };
    task.execute(|_, _| Ok(Some(unprobed)))
}

/// The configuration of an adapter.
fn config(adapter: &Source, path: &Path) -> Result<Vec<u8>> {
    let none = || Error::new(Code::NotFound, format!("there is no {} in {}", lora::CONFIG, path.display()));
    adapter.read_beside(lora::CONFIG)?.ok_or_else(none)
}
