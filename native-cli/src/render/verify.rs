//! The report of `verify`.

use super::clean;
use crate::verbs::verify::differing;
use quantoscope_core::error::Result;
use quantoscope_core::report::VerifyReport;

/// Prints the report, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print(report: &VerifyReport, json: bool) -> Result<()> {
    if json {
        return super::json(report);
    }
    super::warn(&report.warnings);
    super::print(&as_text(report))
}

fn as_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for t in differing(report) {
        let blocks = t
            .differing
            .map_or("the source has values that no encoding accepts".into(), |n| format!("{n} blocks"));
        let at = t.first_element.map(|e| format!(", the first at element {e}")).unwrap_or_default();
        text.push_str(&clean(&format!("differs  {} ({}): {blocks}{at}", t.tensor, t.dtype)));
        text.push('\n');
    }
    for f in &report.findings {
        let tensor = f.tensor.as_deref().unwrap_or("");
        text.push_str(&clean(&format!("finding  {} {tensor}: {}", f.kind, f.detail)));
        text.push('\n');
    }
    let (good, all) = (report.tensors.iter().filter(|t| t.identical).count(), report.tensors.len());
    text.push_str(&match &report.source {
        Some(source) => {
            format!("{good} of {all} tensors are identical to the encoding of {}\n", clean(source))
        }
        None => {
            format!("the structure is valid; {all} tensors decoded, {good} of them with finite values only\n")
        }
    });
    text
}
