//! `sensitivity`: what quantizing each tensor alone does to the output of a model.

use super::damage::{self, SensitivityWork, calibration};
use crate::io::source::Source;
use crate::options::SensitivityOptions;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::sensitivity::report::{SensitivityReport, VERSION};
use quantoscope_core::sensitivity::units::free_types;

/// Measures the errors of all types on each tensor, and the divergence of the model's output with each tensor alone at the base
/// type.
///
/// # Errors
///
/// `unsupported_architecture` if there is no forward pass for the model, `requantize` if it is quantized already, those of opening
/// and reading the model and the tokens, and `memory_budget` if the tokens do not fit.
pub fn run(options: &SensitivityOptions) -> Result<SensitivityReport> {
    let recipe = Recipe { allow_requantize: options.allow_requantize, ..Recipe::new(TargetName::Gguf, None) };
    let model = damage::open(&options.input)?;
    let source = Source::open_for(&options.input, &recipe)?;
    check_same(&source, &model.source)?;
    let free = free_types(&source.checkpoint, &recipe, None, &options.types, options.calibration.base)?;
    let calibration = calibration(&options.calibration, &model)?;
    let work = SensitivityWork {
        source: &source,
        free: &free,
        journal: options.journal.as_deref(),
        resources: &options.resources,
    };
    let grouping = options.calibration.grouping;
    let (rows, grouped) = work.measure(&model.source, &model.tensors, &calibration.window, grouping)?;
    source.check_unchanged()?;
    Ok(SensitivityReport {
        sensitivity_version: VERSION,
        model: options.input.to_string_lossy().into_owned(),
        architecture: model.tensors.config.model_type.clone(),
        base: options.calibration.base,
        tokens: calibration.window.targets.len() as u64,
        tokens_from: calibration.from.into(),
        grouped,
        precision: "f32".into(),
        tensors: rows,
    })
}

/// Refuses a model that changed between the two times it was opened.
pub(super) fn check_same(a: &Source, b: &Source) -> Result<()> {
    let names = |s: &Source| s.checkpoint.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    if names(a) == names(b) {
        return Ok(());
    }
    Err(Error::new(Code::Io, "the model was changed while it was read"))
}
