//! `plan`: what `quantize` would write.

use super::target_size::{TargetWork, chosen};
use crate::io::source::Source;
use crate::options::PlanOptions;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::plan::{Plan, convert, target};
use quantoscope_core::report::{ConvertReport, TargetView, converted};
use quantoscope_core::sensitivity::fit::CurvePoint;

/// A plan and the headers that it was made from.
pub struct PlanResult {
    source: Source,
    plan: Plan,
    target: Option<TargetView>,
}

impl PlanResult {
    /// The report of the plan: a row per tensor, totals and warnings. Rows are computed when they are read.
    ///
    /// # Errors
    ///
    /// `io` if the plan is not one of a conversion.
    pub fn report(&self) -> Result<ConvertReport<'_>> {
        let none = || Error::new(Code::Io, "the plan is not one of a conversion");
        let mut report = converted(&self.source.checkpoint, &self.plan, None).ok_or_else(none)?;
        report.target.clone_from(&self.target);
        Ok(report)
    }
}

/// Plans the conversion of the input. Only headers are read.
///
/// # Errors
///
/// `usage` for a recipe that contradicts itself, and those of opening the input.
pub fn run(options: &PlanOptions) -> Result<PlanResult> {
    let imatrix = options.imatrix.as_deref();
    let chosen = chosen(&options.input, options.recipe.clone(), imatrix, options.target.as_ref())?;
    let source = Source::open_for(&options.input, &chosen.recipe)?.weighted(imatrix)?;
    let mut plan = convert::plan(&source.checkpoint, &chosen.recipe, source.imatrix(), false)?;
    // No output is named.
    target::name_files(&mut plan, "OUT")?;
    Ok(PlanResult { source, plan, target: chosen.target })
}

/// Sizes and predicted damage of types that are chosen for a size, and of presets.
///
/// # Errors
///
/// Those of [`run`] with a target.
pub fn curve(options: &PlanOptions) -> Result<Vec<CurvePoint>> {
    let none = || Error::new(Code::Usage, "a curve needs options of a target");
    let target = options.target.as_ref().ok_or_else(none)?;
    let imatrix = options.imatrix.as_deref();
    TargetWork { input: &options.input, recipe: &options.recipe, imatrix, target }.curve()
}
