//! `plan`: what `quantize` would write.

use crate::io::source::Source;
use crate::options::PlanOptions;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{Plan, convert, target};
use quantoscope_core::report::{ConvertReport, converted};

/// A plan and the headers that it was made from.
pub struct PlanResult {
    source: Source,
    plan: Plan,
}

impl PlanResult {
    /// The report of the plan: a row per tensor, totals and warnings. Rows are computed when they are read.
    ///
    /// # Errors
    ///
    /// `io` if the plan is not one of a conversion.
    pub fn report(&self) -> Result<ConvertReport<'_>> {
        let none = || Error::new(Code::Io, "the plan is not one of a conversion");
        converted(&self.source.checkpoint, &self.plan, None).ok_or_else(none)
    }
}

/// Plans the conversion of the input. Only headers are read.
///
/// # Errors
///
/// `usage` for a recipe that contradicts itself, and those of opening the input.
pub fn run(options: &PlanOptions) -> Result<PlanResult> {
    let source = Source::open_for(&options.input, &options.recipe)?.weighted(options.imatrix.as_deref())?;
    let mut plan = convert::plan(&source.checkpoint, &options.recipe, source.imatrix(), false)?;
    // No output is named.
    target::name_files(&mut plan, "OUT")?;
    Ok(PlanResult { source, plan })
}
