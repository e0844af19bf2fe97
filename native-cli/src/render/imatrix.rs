//! The report of `imatrix`.

use super::{clean, count, plural};
use quantoscope_core::error::Result;
use quantoscope_core::eval::ImatrixReport;

/// Prints the report, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &ImatrixReport, json: bool) -> Result<()> {
    if json {
        return super::json(report);
    }
    super::print(&as_text(report))?;
    super::warn(&report.warnings);
    Ok(())
}

fn as_text(report: &ImatrixReport) -> String {
    let mut text = format!(
        "{} ({})\n{}: sums of {} from {} of {} tokens\n",
        clean(&report.model),
        clean(&report.architecture),
        clean(&report.output),
        plural(report.entries as usize, "tensor"),
        plural(report.chunks as usize, "chunk"),
        count(report.chunk_size),
    );
    if !report.unreached.is_empty() {
        text.push_str("\nexperts that no token reached, whose columns all count equally:\n");
        for stack in &report.unreached {
            text.push_str(&format!("  {}: {} of {}\n", clean(&stack.tensor), stack.experts, stack.of));
        }
    }
    if report.tokens > 0 {
        text.push_str(&super::speed_line(&super::PassSpeed {
            verb: "collected",
            engine: report.engine,
            threads: report.threads,
            precision: report.precision,
            seconds: report.seconds,
            tokens_per_second: report.tokens_per_second,
        }));
    }
    text
}
