//! Absorbs what jobs measured, in any order, and says it: the same report always.
//!
//! `result` parts depend on input, recipe and version only. What depends on the run (engine, threads, time) is kept
//! apart in [`RunInfo`]. Nothing is invented: what is unknown or undefined is absent, and no number is NaN or infinite.

use crate::dtype::DType;
use crate::error::Error;
use crate::metric::{Histogram, Measurements, Moments, PairSums, Tally};
use crate::plan::{Output, Plan, Warning};
use crate::quant::Encoding;
use crate::run::PlanMeasurements;
use crate::tensor::{Name, Shape};
use alloc::vec::Vec;
use serde::Serialize;

mod compare;
mod converted;
mod rotated;
mod rotation_gain;
mod run;
mod target;
mod verify;

pub use compare::{
    CompareReport, CompareRow, CompareThreshold, CompareVerdict, FAIR, GOOD, ROW_LIMIT, RowView, VerdictRule,
    compared,
};
pub use converted::{
    ConvertReport, ConvertedTensor, ConvertedTensors, EquivalenceView, RoundingView, SplitFileView, action,
    bytes_in, converted,
};
pub use rotated::{FrameView, RotatedEncoding, RotatedError, RotatedTensor, RotationReport, rotated};
pub use rotation_gain::{RotationGain, RotationSummary, SymVsAsymRow, decibels};
pub use run::{DeviceView, RunInfo};
pub use target::{RotationChoiceView, RotationKlReport, RotationKlRow, TargetView};
pub use verify::{VerifyReport, VerifyRow, checked, verified};

/// Version of every report's JSON. Raised when a key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// NaN and infinities among the plain floats of `output` that were written; `None` where there are none.
pub fn nonfinite(measured: &Measurements, output: &Output) -> Option<Tally> {
    let Tally { count, first } = measured.nonfinite();
    (count > 0).then(|| Tally { count, first: first.map(|at| output.element(at)) })
}

/// A number that JSON can hold.
fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// The error of a pair, for people and machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorView {
    /// Root mean squared error, in units of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmse: Option<f64>,
    /// Mean squared error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mse: Option<f64>,
    /// Frobenius norm of the error over that of the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_error: Option<f64>,
    /// Signal to quantization noise ratio in decibels; absent when there is no noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqnr_db: Option<f64>,
    /// Cosine similarity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
    /// Largest absolute error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs: Option<f64>,
    /// NaN and infinities on the reference side; such elements are in none of the numbers.
    #[serde(skip_serializing_if = "is_zero")]
    pub nonfinite_reference: u64,
    /// NaN and infinities on the candidate side.
    #[serde(skip_serializing_if = "is_zero")]
    pub nonfinite_candidate: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl From<PairSums> for ErrorView {
    fn from(p: PairSums) -> ErrorView {
        // Without a single pair of numbers there is nothing to tell: a 0 or 1 would be made up.
        let known = |x: f64| finite(x).filter(|_| p.n > 0);
        ErrorView {
            rmse: known(p.rmse()),
            mse: known(p.mse()),
            relative_error: p.relative_error().and_then(finite),
            sqnr_db: p.sqnr_db().and_then(finite),
            cosine: known(p.cosine()),
            max_abs: known(p.max_abs),
            nonfinite_reference: p.nonfinite_reference,
            nonfinite_candidate: p.nonfinite_candidate,
        }
    }
}

/// What is known of a tensor's values.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct StatsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Population standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absmax: Option<f64>,
    /// Fourth standardised moment; 3 for a Gaussian.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kurtosis: Option<f64>,
    /// `mean(|row mean|) / absmax`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asymmetry: Option<f64>,
    /// Whether that reaches lattice's threshold of 5 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worth_asymmetric: Option<bool>,
    pub zeros: u64,
    pub nan: u64,
    pub inf: u64,
}

impl From<Moments> for StatsView {
    fn from(m: Moments) -> StatsView {
        let some = m.finite() > 0;
        let when = |x: f64| some.then_some(x).and_then(finite);
        let asymmetry = m.asymmetry().and_then(finite);
        StatsView {
            min: when(m.min),
            max: when(m.max),
            mean: m.mean().and_then(finite),
            std: m.std().and_then(finite),
            absmax: when(m.absmax),
            kurtosis: m.kurtosis().and_then(finite),
            asymmetry,
            worth_asymmetric: m.worth_asymmetric(),
            zeros: m.zeros,
            nan: m.nan,
            inf: m.inf,
        }
    }
}

/// Quantiles that stats show: bounds of logarithmic buckets, so within 3 % of the exact value.
const QUANTILES: [f64; 7] = [0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999];

/// One tensor of `inspect --stats`, or of the page's tensor view.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct StatsTensor {
    pub name: Name,
    pub dtype: DType,
    pub shape: Shape,
    pub numel: u64,
    /// Which part was measured; absent where all of it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<StatsView>,
    /// Pairs of probability and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<HistogramView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encodings: Vec<EncodingRow>,
}

/// How many rows of how many were measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Sampled {
    pub rows: u64,
    pub of: u64,
}

/// Equal bins from `lo` to `hi`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct HistogramView {
    pub lo: f64,
    pub hi: f64,
    pub counts: Vec<u64>,
}

/// What one encoding would do to one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct EncodingRow {
    /// The encoding.
    pub encoding: Encoding,
    /// Bits it stores for each element.
    pub bits_per_weight: f64,
    /// The error it makes; absent where it refuses the values.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
    /// Why it refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Error>,
}

/// `inspect --stats` and `sweep`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct StatsReport {
    pub schema_version: u32,
    pub tensors: Vec<StatsTensor>,
    pub warnings: Vec<Warning>,
}

/// The report of a statistics or sweep plan. `bins` is the number of histogram bins, 0 for none.
pub fn stats(plan: &Plan, gathered: &PlanMeasurements, bins: usize) -> StatsReport {
    let tensors = plan.outputs.iter().enumerate();
    let tensors = tensors.filter_map(|(i, o)| Some(stats_tensor(o, gathered.output(i)?, bins))).collect();
    StatsReport { schema_version: SCHEMA_VERSION, tensors, warnings: plan.warnings.clone() }
}

fn stats_tensor(output: &Output, got: &Measurements, bins: usize) -> StatsTensor {
    let moments = got.moments().filter(|_| output.metrics.moments);
    let quantile = |h: &Histogram, q: f64| Some((q, h.quantile(q)?));
    let counts = got.histogram();
    let quantiles = counts.as_ref().map(|h| QUANTILES.iter().filter_map(|&q| quantile(h, q)).collect());
    let histogram = moments.as_ref().zip(counts.as_ref()).and_then(|(m, h)| histogram_view(m, h, bins));
    let rows = output.metrics.encodings.iter().zip(got.encodings());
    let (rows_measured, of) = (output.grid.rows, output.shape.rows());
    StatsTensor {
        name: output.name.clone(),
        dtype: output.dtype,
        shape: output.shape.clone(),
        numel: output.shape.numel(),
        sampled: (rows_measured < of).then_some(Sampled { rows: rows_measured, of }),
        stats: moments.map(StatsView::from),
        quantiles: quantiles.unwrap_or_default(),
        histogram,
        encodings: rows.map(|(e, r)| encoding_row(output, *e, r)).collect(),
    }
}

fn histogram_view(m: &Moments, h: &Histogram, bins: usize) -> Option<HistogramView> {
    let (lo, hi) = (m.min, m.max);
    let drawable = bins > 0 && m.n > 0 && lo.is_finite() && hi.is_finite() && lo < hi;
    drawable.then(|| HistogramView { lo, hi, counts: h.linear(bins, lo, hi) })
}

fn encoding_row(
    output: &Output,
    encoding: Encoding,
    result: Result<Option<PairSums>, &Error>,
) -> EncodingRow {
    let (error, refused) = match result {
        Ok(sums) => (sums.map(ErrorView::from), None),
        // Jobs know the element of the grid.
        Err(e) => (None, Some(e.clone().map_element(|at| output.element(at)))),
    };
    EncodingRow { encoding, bits_per_weight: encoding.dtype().bits_per_weight(), error, refused }
}
