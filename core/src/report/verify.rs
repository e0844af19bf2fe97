//! The report of `verify`: whose bytes are exactly what the source makes. Measures nothing.

use super::{ErrorView, SCHEMA_VERSION};
use crate::dtype::DType;
use crate::metric::ByteComparison;
use crate::metric::Measurements;
use crate::plan::pair::Finding;
use crate::plan::{Output, Plan, Warning};
use crate::quant::Encoding;
use crate::run::PlanMeasurements;
use crate::tensor::Name;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// One tensor of `verify --against`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct VerifyRow {
    pub tensor: Name,
    pub dtype: DType,
    pub identical: bool,
    /// The encoding that gives exactly these bytes; absent for copies and differences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Blocks (for copies bytes) that differ, under the encoding that comes closest; absent where there are none, and
    /// where no encoding takes the source's values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differing: Option<u64>,
    /// Element at which the first differing block starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_element: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
}

/// `verify`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct VerifyReport {
    pub schema_version: u32,
    pub artefact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub tensors: Vec<VerifyRow>,
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub warnings: Vec<Warning>,
    pub verified: bool,
}

/// The report of `verify --against`.
pub fn verified(
    names: (&str, &str),
    plan: &Plan,
    mut findings: Vec<Finding>,
    gathered: &PlanMeasurements,
) -> VerifyReport {
    let rows = plan.outputs.iter().enumerate();
    let tensors: Vec<VerifyRow> =
        rows.filter_map(|(i, o)| Some(verify_row(o, gathered.output(i)?))).collect();
    findings.sort();
    VerifyReport {
        schema_version: SCHEMA_VERSION,
        artefact: names.0.to_string(),
        source: Some(names.1.to_string()),
        verified: findings.is_empty() && tensors.iter().all(|t| t.identical),
        tensors,
        findings,
        warnings: plan.warnings.clone(),
    }
}

fn verify_row(output: &Output, got: &Measurements) -> VerifyRow {
    // A copy or transcode first, so that it wins where an encoding gives the same bytes.
    let whole = got.bytes.map(|b| (None, b));
    let encoded = output.metrics.identity.iter().zip(&got.identity).map(|(e, i)| (Some(*e), *i));
    let none = (output.shape.numel() == 0).then(|| (None, ByteComparison::default()));
    let tried = none.into_iter().chain(whole).chain(encoded).filter(|(_, i)| !i.refused);
    let best = tried.min_by_key(|(_, i)| i.differing);
    let identical = best.is_some_and(|(_, i)| i.differing == 0);
    VerifyRow {
        tensor: output.name.clone(),
        dtype: output.dtype,
        identical,
        encoding: best.and_then(|(e, _)| e).filter(|_| identical),
        differing: best.map(|(_, i)| i.differing).filter(|_| !identical),
        first_element: best.and_then(|(_, i)| i.first),
        error: got.error().filter(|_| !identical && output.metrics.error).map(ErrorView::from),
    }
}

/// The report of `verify` alone: the structure was checked by reading it, the values by decoding them.
pub fn checked(artefact: &str, plan: &Plan, gathered: &PlanMeasurements) -> VerifyReport {
    let mut findings: Vec<Finding> = Vec::new();
    let mut tensors = Vec::new();
    for (index, output) in plan.outputs.iter().enumerate() {
        let moments = gathered.output(index).and_then(Measurements::moments);
        let bad = moments.map_or(0, |m| m.nan + m.inf);
        if bad > 0 {
            let detail = alloc::format!("{bad} values are NaN or infinite");
            findings.push(Finding { kind: "non_finite", tensor: Some(output.name.clone()), detail });
        }
        tensors.push(VerifyRow {
            tensor: output.name.clone(),
            dtype: output.dtype,
            identical: bad == 0,
            encoding: None,
            differing: None,
            first_element: None,
            error: None,
        });
    }
    findings.sort();
    let verified = findings.is_empty();
    VerifyReport {
        schema_version: SCHEMA_VERSION,
        artefact: artefact.to_string(),
        source: None,
        tensors,
        findings,
        warnings: plan.warnings.clone(),
        verified,
    }
}
