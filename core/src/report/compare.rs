//! The report of `compare`: rows from the worst, findings, and the gate. Measures nothing.

use super::{Collector, ErrorView, SCHEMA_VERSION};
use crate::dtype::DType;
use crate::job::Identity;
use crate::metric::PairSums;
use crate::plan::pair::Finding;
use crate::plan::{Finish, Output, Plan};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// How good a pair is, by its cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least 0.999.
    Green,
    /// At least 0.99.
    Yellow,
    /// Less, or something is not finite.
    Red,
}

/// One row of `compare`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct CompareRow {
    pub tensor: String,
    /// The candidate's dtype.
    pub qtype: DType,
    pub numel: u64,
    /// Without numbers for integers, which are equal byte for byte or are not.
    #[serde(flatten)]
    pub error: ErrorView,
    pub verdict: Verdict,
    /// Whether this row alone trips the gate.
    pub below_threshold: bool,
}

/// `compare`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct CompareReport {
    pub schema_version: u32,
    pub reference: String,
    pub candidate: String,
    /// Absent with `--no-threshold`.
    pub threshold: Option<f64>,
    pub tensors: Vec<CompareRow>,
    pub findings: Vec<Finding>,
    pub any_below_threshold: bool,
}

impl CompareReport {
    /// Whether the gate holds: no row below the threshold and no finding.
    pub fn passes(&self) -> bool {
        self.threshold.is_none() || (!self.any_below_threshold && self.findings.is_empty())
    }
}

/// The report of a comparison, rows by rmse from the worst, then by name.
pub fn compared(
    names: (&str, &str),
    plan: &Plan,
    mut findings: Vec<Finding>,
    gathered: &Collector,
    threshold: Option<f64>,
) -> CompareReport {
    let mut rows = Vec::new();
    for (index, output) in plan.outputs.iter().enumerate() {
        let Some(got) = gathered.output(index) else { continue };
        if output.pieces.iter().any(|p| p.finish == Finish::Copy) {
            let bytes = got.bytes.unwrap_or_default();
            findings.extend(unequal_bytes(output, &bytes));
            rows.push(byte_row(output, &bytes));
            continue;
        }
        let Some(sums) = got.error() else { continue };
        findings.extend(non_finite(output, &sums));
        rows.push(compare_row(output, sums, threshold));
    }
    // Without a number: first where it is bad, last where there is nothing to worry about.
    let unknown = |v: Verdict| if v == Verdict::Red { f64::INFINITY } else { -1.0 };
    let rmse = |r: &CompareRow| r.error.rmse.unwrap_or(unknown(r.verdict));
    rows.sort_by(|a, b| rmse(b).total_cmp(&rmse(a)).then_with(|| a.tensor.cmp(&b.tensor)));
    findings.sort();
    CompareReport {
        schema_version: SCHEMA_VERSION,
        reference: names.0.to_string(),
        candidate: names.1.to_string(),
        threshold,
        any_below_threshold: rows.iter().any(|r| r.below_threshold),
        tensors: rows,
        findings,
    }
}

fn unequal_bytes(output: &Output, bytes: &Identity) -> Option<Finding> {
    let at = bytes.first?;
    let detail = alloc::format!("{} bytes differ, the first at byte {at} of the tensor", bytes.differing);
    Some(Finding { kind: "values_differ", tensor: Some(output.name.clone()), detail })
}

fn non_finite(output: &Output, sums: &PairSums) -> Option<Finding> {
    let (r, c) = (sums.nonfinite_reference, sums.nonfinite_candidate);
    let detail = alloc::format!("{r} NaN or infinities in the reference, {c} in the candidate");
    (r + c > 0).then(|| Finding { kind: "non_finite", tensor: Some(output.name.clone()), detail })
}

/// The row of what has no values to measure. A difference is a finding, which trips the gate by itself.
fn byte_row(output: &Output, bytes: &Identity) -> CompareRow {
    CompareRow {
        tensor: output.name.clone(),
        qtype: output.dtype,
        numel: output.shape.numel(),
        error: PairSums::default().into(),
        verdict: if bytes.differing == 0 { Verdict::Green } else { Verdict::Red },
        below_threshold: false,
    }
}

fn compare_row(output: &Output, sums: PairSums, threshold: Option<f64>) -> CompareRow {
    let cosine = sums.cosine();
    let clean = sums.nonfinite_reference + sums.nonfinite_candidate == 0;
    let verdict = match cosine {
        c if clean && c >= 0.999 => Verdict::Green,
        c if clean && c >= 0.99 => Verdict::Yellow,
        _ => Verdict::Red,
    };
    CompareRow {
        tensor: output.name.clone(),
        qtype: output.dtype,
        numel: output.shape.numel(),
        error: sums.into(),
        verdict,
        below_threshold: threshold.is_some_and(|t| !clean || cosine < t),
    }
}
