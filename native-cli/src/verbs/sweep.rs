//! `sweep`: the error of every type on every tensor, as stored or rotated.

use super::measure::{MeasureOptions, measure};
use crate::io::source::Source;
use crate::options::SweepOptions;
use quantoscope_core::error::Result;
use quantoscope_core::plan::measure::{every_encoding, sweep, sweep_encodings};
use quantoscope_core::plan::preview::preview;
use quantoscope_core::plan::sample;
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::rotation::RotationOptions;
use quantoscope_core::recipe::tensor_filter::Selection;
use quantoscope_core::report::{RotationReport, StatsReport, rotated, stats};
use quantoscope_core::tensor::TensorInfo;

/// Measures the error of every type on every selected tensor.
///
/// # Errors
///
/// `no_such_tensor` if the filter selects nothing, and those of opening and reading the input.
pub fn run(options: &SweepOptions) -> Result<StatsReport> {
    let (source, types) = open(options)?;
    options.filter.check(&[&source.checkpoint])?;
    let selection = options.filter.in_checkpoint(&source.checkpoint);
    let wanted = |t: &TensorInfo| is_swept(options, selection, t);
    let mut plan = sweep(&source.checkpoint, &types, source.imatrix(), &wanted)?;
    if let Some(rows) = options.sample {
        sample(&mut plan, rows);
    }
    let collected = measure(&plan, &[&source], &measuring(options))?;
    Ok(stats(&plan, &collected, 0))
}

/// Measures the error of every type on every selected tensor, as stored and with each of the rotations. Uses
/// no importance matrix.
///
/// # Errors
///
/// As [`run`].
pub fn rotations(options: &SweepOptions, rotations: &[RotationOptions]) -> Result<RotationReport> {
    let (source, types) = open(options)?;
    options.filter.check(&[&source.checkpoint])?;
    let selection = options.filter.in_checkpoint(&source.checkpoint);
    let wanted = |t: &TensorInfo| is_swept(options, selection, t);
    let mut preview = preview(&source.checkpoint, &types, rotations, &wanted)?;
    if let Some(rows) = options.sample {
        sample(&mut preview.plan, rows);
    }
    let collected = measure(&preview.plan, &[&source], &measuring(options))?;
    Ok(rotated(&preview, &collected, 0))
}

/// The opened input and the types to measure.
fn open(options: &SweepOptions) -> Result<(Source, Vec<Encoding>)> {
    let source = Source::open_model(&options.input)?.weighted(options.imatrix.as_deref())?;
    let types = match options.types.as_slice() {
        [] if source.imatrix().is_some() => every_encoding(),
        [] => sweep_encodings(),
        named => named.to_vec(),
    };
    Ok((source, types))
}

/// Without a filter only matrices are measured: vectors are never quantized.
fn is_swept(options: &SweepOptions, selection: Selection<'_>, tensor: &TensorInfo) -> bool {
    selection.contains(&tensor.name) && (options.filter.includes() || tensor.shape.axes().len() >= 2)
}

fn measuring(options: &SweepOptions) -> MeasureOptions<'_> {
    MeasureOptions { resources: &options.resources, journal: options.journal.as_deref(), verb: "Sweeping" }
}
