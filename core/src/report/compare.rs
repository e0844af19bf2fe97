//! The report of `compare`: rows from the worst, findings, and the gate. Measures nothing.
//!
//! The first definition of a verdict is the cosine alone. It is blind to scale: a model at twice its size has a cosine of 1 with the
//! original, and so has one whose norms are off by a constant. Hence [`VerdictRule::Strict`], which is what is asked for unless
//! [`VerdictRule::Cosine`] is: the figure is the smaller of the cosine and `1 - relative_error^2 / 2` (equal where the error is unbiased, as
//! that of rounding is); every row has its own figure, and one below [`ROW_LIMIT`] is a finding, because few rows that are swapped,
//! zeroed or negated hardly show in the figure of a tensor; and plain floats on both sides must agree within the rounding of the
//! coarser type.

use super::{ErrorView, SCHEMA_VERSION};
use crate::dtype::DType;
use crate::metric::Measurements;
use crate::metric::{ByteComparison, Tally};
use crate::metric::{PairSums, WorstRow};
use crate::plan::pair::Finding;
use crate::plan::{Output, OutputOp, Plan};
use crate::run::PlanMeasurements;
use crate::tensor::Name;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// A row with a figure below this is a finding.
pub const ROW_LIMIT: f64 = 0.5;

/// What decides how good a pair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictRule {
    /// The smaller of the cosine and `1 - relative_error^2 / 2`, the worst row, and the rounding of plain floats.
    #[default]
    Strict,
    /// The cosine alone.
    Cosine,
}

impl VerdictRule {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_strict(&self) -> bool {
        *self == VerdictRule::Strict
    }
}

/// What trips the gate of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompareThreshold {
    /// The least figure (or cosine) that passes; `None`: whatever is found passes.
    pub threshold: Option<f64>,
    /// What is held against it.
    pub by: VerdictRule,
}

impl From<Option<f64>> for CompareThreshold {
    fn from(threshold: Option<f64>) -> CompareThreshold {
        CompareThreshold { threshold, by: VerdictRule::Strict }
    }
}

/// The least figure of [`CompareVerdict::Green`].
pub const GOOD: f64 = 0.999;
/// The least figure of [`CompareVerdict::Yellow`].
pub const FAIR: f64 = 0.99;

/// How good a pair is, by its figure or its cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareVerdict {
    /// At least [`GOOD`].
    Green,
    /// At least [`FAIR`].
    Yellow,
    /// Less, or something is not finite.
    Red,
}

/// One row of `compare`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct CompareRow {
    pub tensor: Name,
    /// The candidate's dtype.
    pub qtype: DType,
    pub numel: u64,
    /// Without numbers for integers, which are equal byte for byte or are not.
    #[serde(flatten)]
    pub error: ErrorView,
    /// The smaller of the cosine and `1 - relative_error^2 / 2`, at least -1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figure: Option<f64>,
    /// The row with the least figure of its own; a vector is one row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst_row: Option<RowView>,
    pub verdict: CompareVerdict,
    /// Whether this row alone trips the gate.
    pub below_threshold: bool,
}

/// A row of a tensor and its figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RowView {
    /// Which row, from 0.
    pub row: u64,
    /// The smaller of its cosine and `1 - relative_error^2 / 2`, at least -1; 1 where both sides are zeros, or differ by no more
    /// than the scales of the types can hold.
    pub figure: f64,
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
    /// What decides; absent where that is [`VerdictRule::Strict`].
    #[serde(skip_serializing_if = "VerdictRule::is_strict")]
    pub verdict_by: VerdictRule,
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
    gathered: &PlanMeasurements,
    gate: impl Into<CompareThreshold>,
) -> CompareReport {
    let gate = gate.into();
    let mut rows = Vec::new();
    for (index, output) in plan.outputs.iter().enumerate() {
        let Some(got) = gathered.output(index) else { continue };
        if output.segments.iter().any(|p| p.op == OutputOp::Copy) {
            let bytes = got.bytes.unwrap_or_default();
            findings.extend(unequal_bytes(output, &bytes));
            rows.push(byte_row(output, &bytes));
            continue;
        }
        let Some(sums) = got.error() else { continue };
        findings.extend(non_finite(output, &sums));
        if gate.by == VerdictRule::Strict {
            findings.extend(row_differs(output, &sums));
            findings.extend(beyond_rounding(output, got));
        }
        rows.push(compare_row(output, sums, gate));
    }
    // Without a number: first where it is bad, last where there is nothing to worry about.
    let unknown = |v: CompareVerdict| if v == CompareVerdict::Red { f64::INFINITY } else { -1.0 };
    let rmse = |r: &CompareRow| r.error.rmse.unwrap_or(unknown(r.verdict));
    rows.sort_by(|a, b| rmse(b).total_cmp(&rmse(a)).then_with(|| a.tensor.cmp(&b.tensor)));
    findings.sort();
    CompareReport {
        schema_version: SCHEMA_VERSION,
        reference: names.0.to_string(),
        candidate: names.1.to_string(),
        threshold: gate.threshold,
        verdict_by: gate.by,
        any_below_threshold: rows.iter().any(|r| r.below_threshold),
        tensors: rows,
        findings,
    }
}

fn unequal_bytes(output: &Output, bytes: &ByteComparison) -> Option<Finding> {
    let at = bytes.first?;
    let detail = alloc::format!("{} bytes differ, the first at byte {at} of the tensor", bytes.differing);
    Some(Finding { kind: "values_differ", tensor: Some(output.name.clone()), detail })
}

fn non_finite(output: &Output, sums: &PairSums) -> Option<Finding> {
    let (r, c) = (sums.nonfinite_reference, sums.nonfinite_candidate);
    let detail = alloc::format!("{r} NaN or infinities in the reference, {c} in the candidate");
    (r + c > 0).then(|| Finding { kind: "non_finite", tensor: Some(output.name.clone()), detail })
}

/// A row that is another one, or none.
fn row_differs(output: &Output, sums: &PairSums) -> Option<Finding> {
    let WorstRow { row, figure } = sums.worst.filter(|w| w.figure < ROW_LIMIT)?;
    let detail = alloc::format!("row {row} has a figure of {figure:.3}, below {ROW_LIMIT}");
    Some(Finding { kind: "row_differs", tensor: Some(output.name.clone()), detail })
}

/// Plain floats on both sides that are not each other's rounding.
fn beyond_rounding(output: &Output, got: &Measurements) -> Option<Finding> {
    let Tally { count, first } = got.beyond_rounding;
    let at = output.element(first?);
    let detail = alloc::format!(
        "{count} of {} elements differ by more than the rounding of the coarser type, the first at element {at}",
        output.shape.numel()
    );
    Some(Finding { kind: "beyond_rounding", tensor: Some(output.name.clone()), detail })
}

/// The row of what has no values to measure. A difference is a finding, which trips the gate by itself.
fn byte_row(output: &Output, bytes: &ByteComparison) -> CompareRow {
    CompareRow {
        tensor: output.name.clone(),
        qtype: output.dtype,
        numel: output.shape.numel(),
        error: PairSums::default().into(),
        figure: None,
        worst_row: None,
        verdict: if bytes.differing == 0 { CompareVerdict::Green } else { CompareVerdict::Red },
        below_threshold: false,
    }
}

fn compare_row(output: &Output, sums: PairSums, gate: CompareThreshold) -> CompareRow {
    let figure = match gate.by {
        VerdictRule::Strict => sums.figure(),
        VerdictRule::Cosine => sums.cosine(),
    };
    let clean = sums.nonfinite_reference + sums.nonfinite_candidate == 0;
    let verdict = match figure {
        c if clean && c >= GOOD => CompareVerdict::Green,
        c if clean && c >= FAIR => CompareVerdict::Yellow,
        _ => CompareVerdict::Red,
    };
    CompareRow {
        tensor: output.name.clone(),
        qtype: output.dtype,
        numel: output.shape.numel(),
        error: sums.into(),
        figure: (sums.n > 0).then(|| sums.figure()),
        worst_row: sums.worst.map(|w| RowView { row: w.row, figure: w.figure }),
        verdict,
        below_threshold: gate.threshold.is_some_and(|t| !clean || figure < t),
    }
}
