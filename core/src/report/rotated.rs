//! The report of rotations: every tensor as it is beside what it would be, each error in its own frame.
//!
//! A rotated tensor is held against itself before it was encoded, gains and all; nothing is divided by them. So are the figures of
//! the tensor as stored. A rotation keeps the norm, so where no gain is folded both are relative to the same norm.

use super::rotation_gain::{RotationSummary, summary};
use super::{
    EncodingRow, ErrorView, HistogramView, SCHEMA_VERSION, Sampled, StatsView, encoding_row, histogram_view,
};
use crate::dtype::DType;
use crate::error::Error;
use crate::metric::{Histogram, spread_over_gaussian};
use crate::plan::preview::{Frame, Preview};
use crate::plan::{Output, Warning};
use crate::quant::Encoding;
use crate::quant::gaussian_error::{gaussian_floor, span};
use crate::run::PlanMeasurements;
use crate::tensor::{Name, Shape};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// `sweep --rotate`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct RotationReport {
    pub schema_version: u32,
    /// The seed, as text: not every reader of JSON keeps 64 bits.
    pub seed: String,
    pub rotations: Vec<String>,
    pub tensors: Vec<RotatedTensor>,
    pub summary: RotationSummary,
    pub warnings: Vec<Warning>,
}

/// One tensor, as it is and under every rotation.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct RotatedTensor {
    pub name: Name,
    pub dtype: DType,
    pub shape: Shape,
    pub numel: u64,
    /// Which part was measured; absent where all of it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<StatsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<HistogramView>,
    /// One for each rotation.
    pub frames: Vec<FrameView>,
    pub encodings: Vec<RotatedEncoding>,
}

/// The tensor under one rotation.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct FrameView {
    pub rotation: String,
    #[serde(flatten)]
    pub frame: Frame,
    /// Weights that were measured, where not all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<StatsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<HistogramView>,
}

/// One encoding of a tensor: as it is, and under every rotation that there is for it.
#[derive(Clone, Debug, Serialize)]
pub struct RotatedEncoding {
    /// The tensor as stored.
    #[serde(flatten)]
    pub plain: EncodingRow,
    /// The relative error of Gaussian noise: where a full rotation tends to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// The relative error that the tensor's histogram alone lets expect of it as stored; of grids with equal steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// In the frames that exist.
    pub rotated: Vec<RotatedError>,
}

/// The error of an encoding in one frame, relative to that frame.
#[derive(Clone, Debug, Serialize)]
pub struct RotatedError {
    /// The rotation.
    pub rotation: String,
    /// What it makes.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
    /// How much more of the signal is kept than in the tensor as stored, in decibels; below 0 where less is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain_db: Option<f64>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Error>,
}

/// The report of a preview. `bins` is the number of histogram bins, 0 for none.
pub fn rotated(preview: &Preview, gathered: &PlanMeasurements, bins: usize) -> RotationReport {
    let plain = preview.plan.outputs.iter().zip(&preview.frames).enumerate();
    let tensors: Vec<RotatedTensor> = plain
        .filter_map(|(i, (output, frames))| tensor(preview, gathered, (i, output, frames), bins))
        .collect();
    RotationReport {
        schema_version: SCHEMA_VERSION,
        seed: format!("0x{:016x}", preview.seed),
        summary: summary(&preview.rotations, &tensors),
        rotations: preview.rotations.clone(),
        tensors,
        warnings: preview.plan.warnings.clone(),
    }
}

fn tensor(
    preview: &Preview,
    gathered: &PlanMeasurements,
    (index, output, frames): (usize, &Output, &Vec<Frame>),
    bins: usize,
) -> Option<RotatedTensor> {
    let got = gathered.output(index)?;
    let named = || preview.rotations.iter().zip(frames);
    let (stats, histogram) = values(gathered, index, bins);
    let counts = got.histogram();
    let (rows, of) = (output.grid.rows, output.shape.rows());
    let encoding = |(at, (encoding, result))| {
        let plain = encoding_row(output, encoding, result);
        let rotated = named().filter_map(|(name, f)| error(preview, gathered, name, f.output?, at, &plain));
        RotatedEncoding {
            floor: gaussian_floor(encoding).map(libm::sqrt),
            predicted: counts.as_ref().and_then(|h| predicted(h, encoding)),
            rotated: rotated.collect(),
            plain,
        }
    };
    let asked = output.metrics.encodings.iter().copied().zip(got.encodings());
    Some(RotatedTensor {
        name: output.name.clone(),
        dtype: output.dtype,
        shape: output.shape.clone(),
        numel: output.shape.numel(),
        sampled: (rows < of).then_some(Sampled { rows, of }),
        stats,
        histogram,
        frames: named().map(|(name, f)| frame(preview, gathered, name, f, bins)).collect(),
        encodings: asked.enumerate().map(encoding).collect(),
    })
}

fn values(
    gathered: &PlanMeasurements,
    index: usize,
    bins: usize,
) -> (Option<StatsView>, Option<HistogramView>) {
    let Some(got) = gathered.output(index) else { return (None, None) };
    let moments = got.moments();
    let counts = got.histogram().filter(|_| bins > 0);
    let histogram = moments.as_ref().zip(counts.as_ref()).and_then(|(m, h)| histogram_view(m, h, bins));
    (moments.map(StatsView::from), histogram)
}

fn frame(
    preview: &Preview,
    gathered: &PlanMeasurements,
    name: &str,
    frame: &Frame,
    bins: usize,
) -> FrameView {
    let output = frame.output.and_then(|at| preview.plan.outputs.get(at));
    let weights =
        output.map(|o| o.grid.rows.saturating_mul(o.grid.cols)).zip(output.map(|o| o.shape.numel()));
    let (stats, histogram) = frame.output.map_or((None, None), |at| values(gathered, at, bins));
    FrameView {
        rotation: name.into(),
        frame: frame.clone(),
        weights: weights.filter(|(some, all)| some < all).map(|(some, _)| some),
        stats,
        histogram,
    }
}

fn error(
    preview: &Preview,
    gathered: &PlanMeasurements,
    name: &str,
    index: usize,
    encoding: usize,
    plain: &EncodingRow,
) -> Option<RotatedError> {
    let output = preview.plan.outputs.get(index)?;
    let result = gathered.output(index)?.encodings().nth(encoding)?;
    let row = encoding_row(output, plain.encoding, result);
    let kept = |e: &Option<ErrorView>| e.as_ref().and_then(|e| e.sqnr_db);
    Some(RotatedError {
        rotation: name.into(),
        gain_db: kept(&row.error).zip(kept(&plain.error)).map(|(after, before)| after - before),
        error: row.error,
        refused: row.refused,
    })
}

/// The floor, made larger as blocks drawn from the histogram span more than those of Gaussian noise.
fn predicted(histogram: &Histogram, encoding: Encoding) -> Option<f64> {
    let span = span(encoding)?;
    let times = spread_over_gaussian(histogram, span.block, span.symmetric)?;
    Some(libm::sqrt(gaussian_floor(encoding)? * times))
}
