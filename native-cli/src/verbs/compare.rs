//! `compare`: the error of a candidate against its reference, tensor by tensor.

use super::measure::{MeasureOptions, measure};
use crate::io::source::Source;
use crate::options::CompareOptions;
use crate::render::plural;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::pair;
use quantoscope_core::report::{CompareReport, compared};

/// Measures every tensor of the candidate against the reference. A report that does not pass is no error
/// here: see [`check`].
///
/// # Errors
///
/// Those of opening and reading either side.
pub fn run(options: &CompareOptions) -> Result<CompareReport> {
    let reference = Source::open_model(&options.reference)?;
    let candidate = Source::open_model(&options.candidate)?;
    let pairing = pair::compare(&reference.checkpoint, &candidate.checkpoint, &options.filter)?;
    let collected = measure(&pairing.plan, &[&reference, &candidate], &measuring(options))?;
    let names = (&*options.reference.to_string_lossy(), &*options.candidate.to_string_lossy());
    Ok(compared(names, &pairing.plan, pairing.findings, &collected, options.threshold))
}

/// Fails if a figure of the report is below its threshold, or there is a finding.
///
/// # Errors
///
/// `below_threshold`.
pub fn check(report: &CompareReport) -> Result<()> {
    if report.passes() {
        return Ok(());
    }
    let below = report.tensors.iter().filter(|r| r.below_threshold).count();
    let message = format!(
        "{} below the threshold, {}",
        plural(below, "tensor"),
        plural(report.findings.len(), "finding")
    );
    Err(Error::new(Code::BelowThreshold, message))
}

fn measuring(options: &CompareOptions) -> MeasureOptions<'_> {
    MeasureOptions { resources: &options.resources, journal: options.journal.as_deref(), verb: "Comparing" }
}
