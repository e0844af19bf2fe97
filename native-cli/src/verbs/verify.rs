//! `verify`: the structure and values of an output, and its bytes against its source.

use super::measure::{MeasureOptions, measure};
use crate::io::source::Source;
use crate::options::VerifyOptions;
use crate::render::{self, clean, plural};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{measure as plan_measure, pair, replay};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::report::{VerifyReport, VerifyRow, checked, verified};

/// Decodes every value of the input, and with a source encodes that again and compares the bytes. Differences
/// are no error here: see [`check`].
///
/// # Errors
///
/// Those of opening and reading either side.
pub fn run(options: &VerifyOptions) -> Result<VerifyReport> {
    let made = Source::open_model(&options.input)?;
    let name = options.input.to_string_lossy();
    let Some(against) = &options.against else {
        let plan = plan_measure::moments(&made.checkpoint, &|_| true)?;
        let collected = measure(&plan, &[&made], &measuring(options))?;
        return Ok(checked(&name, &plan, &collected));
    };
    let rotated = replay::recorded(&made.checkpoint);
    let recipe = rotated.clone().or_else(|| replay::recorded_conversion(&made.checkpoint));
    let source = match &recipe {
        Some(recipe) => Source::open_for(&against.path, recipe)?,
        None => Source::open_model(&against.path)?,
    };
    let source = source.weighted(against.imatrix.as_deref())?;
    let is_folder = source.checkpoint.companion_files.iter().next().is_some();
    let made_with = made.checkpoint.metadata.text("quantize.imatrix.file");
    if let (Some(file), None) = (made_with, source.imatrix()) {
        render::note(&format!("warning: this model was made with --imatrix {}", clean(file)));
    }
    let again = |r: &Recipe| rotated.is_some() || is_folder || replay::is_mlx(&made.checkpoint, r);
    let pairing = match recipe.filter(again) {
        // Every tensor of a rotated or converted output is made again with the recipe that the output records.
        Some(recipe) => replay::verify(&source.checkpoint, &made.checkpoint, &recipe, source.imatrix())?,
        None => pair::verify(&source.checkpoint, &made.checkpoint, source.imatrix())?,
    };
    let collected = measure(&pairing.plan, &[&source, &made], &measuring(options))?;
    Ok(verified((&name, &against.path.to_string_lossy()), &pairing.plan, pairing.findings, &collected))
}

/// Fails if a tensor differs from what its source encodes to, or there is a finding.
///
/// # Errors
///
/// `difference`.
pub fn check(report: &VerifyReport) -> Result<()> {
    if report.verified {
        return Ok(());
    }
    let findings = plural(report.findings.len(), "finding");
    let message = match report.source {
        Some(_) => format!("{} not identical, {findings}", plural(differing(report).count(), "tensor")),
        None => findings,
    };
    Err(Error::new(Code::Difference, message))
}

/// Tensors that differ from what the source encodes to; none without a source, where bad values are findings.
pub(crate) fn differing(report: &VerifyReport) -> impl Iterator<Item = &VerifyRow> {
    let against = report.source.is_some();
    report.tensors.iter().filter(move |t| against && !t.identical)
}

fn measuring(options: &VerifyOptions) -> MeasureOptions<'_> {
    MeasureOptions { resources: &options.resources, journal: options.journal.as_deref(), verb: "Verifying" }
}
