//! Absorbs what jobs measured, in any order, and says it: the same report always.
//!
//! `result` parts depend on input, recipe and version only. What depends on the run (engine, threads, time) is kept
//! apart in [`Run`]. Nothing is invented: what is unknown or undefined is absent, and no number is NaN or infinite.

use crate::dtype::DType;
use crate::error::Error;
use crate::format::Checkpoint;
use crate::job::{Identity, Job, Measured};
use crate::metric::{Forest, Histogram, Merge, Moments, Node, PairSums};
use crate::plan::pair::Finding;
use crate::plan::{Conversion, Finish, Output, Plan, Warning};
use crate::quant::Encoding;
use crate::recipe::Reason;
use crate::tensor::Shape;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// Version of every report's JSON. Raised when a key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// What was measured of one output.
#[derive(Debug)]
pub struct Gathered {
    moments: Forest<Moments>,
    histogram: Option<Histogram>,
    error: Forest<PairSums>,
    encodings: Vec<Result<Forest<PairSums>, Error>>,
    identity: Vec<Identity>,
    bytes: Option<Identity>,
}

/// Gathers what jobs measured.
#[derive(Debug)]
pub struct Collector {
    outputs: Vec<Gathered>,
}

impl Collector {
    /// A collector for the jobs of `plan`.
    pub fn new(plan: &Plan) -> Collector {
        Collector { outputs: plan.outputs.iter().map(Gathered::new).collect() }
    }

    /// Takes in what `job` measured.
    pub fn absorb(&mut self, job: &Job, measured: Measured) {
        if let Some(slot) = self.outputs.get_mut(job.output as usize) {
            slot.absorb(measured);
        }
    }

    /// Takes in what a job of an earlier run measured of `output`.
    pub fn absorb_output(&mut self, output: u32, measured: Measured) {
        if let Some(slot) = self.outputs.get_mut(output as usize) {
            slot.absorb(measured);
        }
    }

    /// What was gathered of output `index`.
    pub fn output(&self, index: usize) -> Option<&Gathered> {
        self.outputs.get(index)
    }
}

fn insert_all<M: Merge>(forest: &mut Forest<M>, nodes: Vec<Node<M>>) {
    for node in nodes {
        forest.insert(node);
    }
}

/// The earlier element wins, so that the order of windows does not show.
fn earlier(a: Error, b: Error) -> Error {
    if b.detail().element < a.detail().element { b } else { a }
}

impl Gathered {
    fn new(output: &Output) -> Gathered {
        let forest = || Forest::new(output.grid.rows, output.grid.cols);
        Gathered {
            moments: Forest::new(output.grid.rows, output.grid.cols),
            histogram: output.ask.histogram.then(Histogram::default),
            error: forest(),
            encodings: output.ask.encodings.iter().map(|_| Ok(forest())).collect(),
            identity: alloc::vec![Identity::default(); output.ask.identity.len()],
            bytes: None,
        }
    }

    fn absorb(&mut self, m: Measured) {
        insert_all(&mut self.moments, m.moments);
        insert_all(&mut self.error, m.error);
        if let (Some(all), Some(part)) = (&mut self.histogram, &m.histogram) {
            all.merge(part);
        }
        for (slot, part) in self.encodings.iter_mut().zip(m.encodings) {
            match (&mut *slot, part) {
                (Ok(forest), Ok(nodes)) => insert_all(forest, nodes),
                (Ok(_), Err(e)) => *slot = Err(e),
                (Err(_), Ok(_)) => {}
                (Err(old), Err(new)) => *old = earlier(old.clone(), new),
            }
        }
        self.identity.iter_mut().zip(&m.identity).for_each(|(a, b)| a.merge(b));
        if let Some(part) = m.bytes {
            self.bytes.get_or_insert_default().merge(&part);
        }
    }

    /// Moments of the source, once every window arrived and they were asked for.
    pub fn moments(&self) -> Option<Moments> {
        self.moments.total()
    }

    /// Error of the result or candidate.
    pub fn error(&self) -> Option<PairSums> {
        self.error.total()
    }

    /// Error of each asked encoding, or why it refuses the values.
    pub fn encodings(&self) -> impl Iterator<Item = Result<Option<PairSums>, &Error>> {
        self.encodings.iter().map(|f| f.as_ref().map(Forest::total))
    }

    /// The histogram, if asked for.
    pub fn histogram(&self) -> Option<&Histogram> {
        self.histogram.as_ref()
    }
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
        ErrorView {
            rmse: finite(p.rmse()),
            mse: finite(p.mse()),
            relative_error: p.relative_error().and_then(finite),
            sqnr_db: p.sqnr_db().and_then(finite),
            cosine: finite(p.cosine()),
            max_abs: finite(p.max_abs),
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
        let some = m.n > 0;
        let when = |x: f64| some.then_some(x).and_then(finite);
        let asymmetry = m.asymmetry().and_then(finite);
        StatsView {
            min: when(m.min),
            max: when(m.max),
            mean: when(m.mean),
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

/// One tensor of a conversion.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ConvertedTensor {
    pub name: String,
    pub action: &'static str,
    pub dtype_in: DType,
    pub dtype_out: DType,
    pub shape: Shape,
    pub numel: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
}

/// What a conversion makes, planned or done.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ConvertReport {
    pub schema_version: u32,
    #[serde(flatten)]
    pub conversion: Conversion,
    pub tensors: Vec<ConvertedTensor>,
    pub warnings: Vec<Warning>,
}

/// The report of a conversion; without `gathered`, that of its plan.
pub fn converted(
    checkpoint: &Checkpoint,
    plan: &Plan,
    gathered: Option<&Collector>,
) -> Option<ConvertReport> {
    let tensor = |(index, o): (usize, &Output)| {
        let source = checkpoint.tensors.get(o.pieces.first()?.from.tensor as usize)?;
        let error = gathered.filter(|_| o.ask.error).and_then(|c| c.output(index)?.error());
        Some(ConvertedTensor {
            name: o.name.clone(),
            action: action(o),
            dtype_in: source.dtype,
            dtype_out: o.dtype,
            shape: o.shape.clone(),
            numel: o.shape.numel(),
            bytes_in: source.bytes.len(),
            bytes_out: o.place?.bytes,
            reason: o.reason.clone(),
            error: error.map(ErrorView::from),
        })
    };
    Some(ConvertReport {
        schema_version: SCHEMA_VERSION,
        conversion: plan.conversion.clone()?,
        tensors: plan.outputs.iter().enumerate().filter_map(tensor).collect(),
        warnings: plan.warnings.clone(),
    })
}

/// The word for what happens to an output.
pub fn action(output: &Output) -> &'static str {
    match output.pieces.first().map(|p| p.finish) {
        Some(Finish::Transcode(_)) => "transcode",
        Some(Finish::Encode(_)) if output.dtype.is_quantized() => "quantize",
        Some(Finish::Encode(_)) => "convert",
        Some(Finish::Copy | Finish::Measure) | None => "keep",
    }
}

/// Quantiles that stats show: bounds of logarithmic buckets, so within 3 % of the exact value.
const QUANTILES: [f64; 7] = [0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999];

/// One tensor of `inspect --stats`, or of the page's tensor view.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct StatsTensor {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
    pub numel: u64,
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
pub fn stats(plan: &Plan, gathered: &Collector, bins: usize) -> StatsReport {
    let tensors = plan.outputs.iter().enumerate();
    let tensors = tensors.filter_map(|(i, o)| Some(stats_tensor(o, gathered.output(i)?, bins))).collect();
    StatsReport { schema_version: SCHEMA_VERSION, tensors, warnings: plan.warnings.clone() }
}

fn stats_tensor(output: &Output, got: &Gathered, bins: usize) -> StatsTensor {
    let moments = got.moments().filter(|_| output.ask.moments);
    let quantile = |h: &Histogram, q: f64| Some((q, h.quantile(q)?));
    let quantiles = got.histogram().map(|h| QUANTILES.iter().filter_map(|&q| quantile(h, q)).collect());
    let histogram = moments.as_ref().zip(got.histogram()).and_then(|(m, h)| histogram_view(m, h, bins));
    let rows = output.ask.encodings.iter().zip(got.encodings());
    StatsTensor {
        name: output.name.clone(),
        dtype: output.dtype,
        shape: output.shape.clone(),
        numel: output.shape.numel(),
        stats: moments.map(StatsView::from),
        quantiles: quantiles.unwrap_or_default(),
        histogram,
        encodings: rows.map(|(e, r)| encoding_row(*e, r)).collect(),
    }
}

fn histogram_view(m: &Moments, h: &Histogram, bins: usize) -> Option<HistogramView> {
    let (lo, hi) = (m.min, m.max);
    let drawable = bins > 0 && m.n > 0 && lo.is_finite() && hi.is_finite() && lo < hi;
    drawable.then(|| HistogramView { lo, hi, counts: h.linear(bins, lo, hi) })
}

fn encoding_row(encoding: Encoding, result: Result<Option<PairSums>, &Error>) -> EncodingRow {
    let (error, refused) = match result {
        Ok(sums) => (sums.map(ErrorView::from), None),
        Err(e) => (None, Some(e.clone())),
    };
    EncodingRow { encoding, bits_per_weight: encoding.dtype().bits_per_weight(), error, refused }
}

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
        if let Some(bytes) = &got.bytes {
            findings.extend(unequal_bytes(output, bytes));
            continue;
        }
        let Some(sums) = got.error() else { continue };
        findings.extend(non_finite(output, &sums));
        rows.push(compare_row(output, sums, threshold));
    }
    let rmse = |r: &CompareRow| r.error.rmse.unwrap_or(f64::INFINITY);
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

/// One tensor of `verify --against`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct VerifyRow {
    pub tensor: String,
    pub dtype: DType,
    pub identical: bool,
    /// The encoding that gives exactly these bytes; absent for copies and differences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Blocks (for copies bytes) that differ, under the encoding that comes closest.
    #[serde(skip_serializing_if = "is_zero")]
    pub differing: u64,
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
    gathered: &Collector,
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

fn verify_row(output: &Output, got: &Gathered) -> VerifyRow {
    let tried = output.ask.identity.iter().zip(&got.identity).filter(|(_, i)| !i.refused);
    let best = tried.min_by_key(|(_, i)| i.differing).map(|(e, i)| (Some(*e), *i));
    let (encoding, found) = match (got.bytes, best) {
        (Some(bytes), _) => (None, Some(bytes)),
        (None, Some((e, i))) => (e, Some(i)),
        (None, None) if output.shape.numel() == 0 => (None, Some(Identity::default())),
        (None, None) => (None, None),
    };
    let found = found.filter(|f| !f.refused);
    let differing = found.map_or(output.shape.numel(), |f| f.differing);
    VerifyRow {
        tensor: output.name.clone(),
        dtype: output.dtype,
        identical: differing == 0,
        encoding: encoding.filter(|_| differing == 0),
        differing,
        first_element: found.and_then(|f| f.first),
        error: got.error().filter(|_| differing != 0 && output.ask.error).map(ErrorView::from),
    }
}

/// The report of `verify` alone: the structure was checked by reading it, the values by decoding them.
pub fn checked(artefact: &str, plan: &Plan, gathered: &Collector) -> VerifyReport {
    let mut findings: Vec<Finding> = Vec::new();
    let mut tensors = Vec::new();
    for (index, output) in plan.outputs.iter().enumerate() {
        let moments = gathered.output(index).and_then(Gathered::moments);
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
            differing: 0,
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

/// What depends on the run and not on the work.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Name and version of this program.
    pub version: &'static str,
    /// The engine that did the work.
    pub engine: &'static str,
    /// Worker threads.
    pub threads: u32,
    /// Wall-clock seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Windows that an earlier, interrupted run had finished.
    #[serde(skip_serializing_if = "is_zero")]
    pub resumed_windows: u64,
}
