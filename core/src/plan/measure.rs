//! Plans that write nothing: statistics of tensors, and what each encoding would do to them.

use super::convert::{measurable, measured_reason, names, operand, sweep_encodings, unscaled};
use super::importance::ImportancePlanner;
use super::{Grid, MetricSet, Output, OutputOp, Plan, Segment, Side, Warning, sample};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::quant::{Encoding, encoder};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// Moments and histogram of the tensors that `wanted` says, in checkpoint order.
///
/// Tensors that cannot be decoded are named in the warnings.
pub fn stats(checkpoint: &Checkpoint, wanted: &dyn Fn(&TensorInfo) -> bool) -> Result<Plan> {
    plan(checkpoint, None, wanted, &|_| MetricSet { moments: true, histogram: true, ..MetricSet::default() })
}

/// Moments alone: as [`stats`], without a histogram for each tensor.
pub fn moments(checkpoint: &Checkpoint, wanted: &dyn Fn(&TensorInfo) -> bool) -> Result<Plan> {
    plan(checkpoint, None, wanted, &|_| MetricSet { moments: true, ..MetricSet::default() })
}

/// The error of each of `encodings` on the tensors that `wanted` says, with their moments.
///
/// An encoding is left out for a tensor whose rows do not divide by its block, or that has no importance weights where
/// it needs some; warnings say so.
pub fn sweep(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Plan> {
    weighted_sweep(checkpoint, encodings, None, wanted)
}

/// The same with an importance matrix, which steers whatever is searched for.
pub fn weighted_sweep(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    imatrix: Option<&Imatrix>,
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Plan> {
    if let Some(encoding) = encodings.iter().find(|e| encoder(**e).is_none()) {
        return Err(Error::new(
            Code::UnsupportedDtype,
            format!("encoding to {encoding} is not supported yet"),
        ));
    }
    let mut plan = plan(checkpoint, imatrix, wanted, &|tensor| MetricSet {
        moments: true,
        encodings: encodings.iter().copied().filter(|e| fits(*e, tensor.shape.cols())).collect(),
        ..MetricSet::default()
    })?;
    let left_out: Vec<Warning> = plan.outputs.iter().filter_map(|o| row_warning(o, encodings)).collect();
    plan.warnings.extend(left_out);
    Ok(plan)
}

/// As [`sweep`], with the histogram of every tensor.
pub(super) fn compared_sweep(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Plan> {
    let mut plan = sweep(checkpoint, encodings, wanted)?;
    plan.outputs.iter_mut().for_each(|o| o.metrics.histogram = true);
    Ok(plan)
}

/// The axis that the rows of a matrix are vectors of; a vector has none.
pub(super) fn measurable_axis(tensor: &TensorInfo) -> Option<u64> {
    (tensor.shape.axes().len() >= 2).then(|| tensor.shape.cols())
}

/// Which of the encodings that were asked for an output goes without.
fn row_warning(output: &Output, wanted: &[Encoding]) -> Option<Warning> {
    let divides = |e: &&Encoding| fits(**e, output.grid.cols);
    let out = wanted.iter().filter(|e| !divides(e)).map(|e| e.name());
    let out = out.collect::<Vec<_>>().join(", ");
    let message = format!(
        "{:?} is not encoded as {out}: rows of {} do not divide by the block",
        output.name, output.grid.cols
    );
    (!out.is_empty()).then_some(Warning { code: "row_not_divisible", message })
}

/// Weights of one tensor on which a details tries the encodings that search for their scales: more takes seconds.
pub(super) const LOOK: u64 = 4 << 20;

/// Everything a page shows of one tensor: moments, histogram, and the error of each encoding of a sweep.
///
/// Of a large tensor, the encodings that search are a second output: a sample of its rows. Where one row is too long for
/// that, a warning says that they are left out.
pub fn tensor_details(checkpoint: &Checkpoint, index: usize) -> Result<Plan> {
    let missing = || Error::new(Code::NoSuchTensor, format!("there is no tensor number {index}"));
    let tensor = checkpoint.tensors.get(index).ok_or_else(missing)?;
    let cols = tensor.shape.cols();
    let wanted = |t: &TensorInfo| core::ptr::eq(t, tensor);
    let fitting = sweep_encodings().into_iter().filter(|e| fits(*e, cols));
    let large = tensor.shape.numel() > LOOK;
    let (part, whole): (Vec<Encoding>, Vec<Encoding>) = fitting.partition(|e| large && e.searches());
    let mut details = plan(checkpoint, None, &wanted, &|_| MetricSet {
        moments: true,
        histogram: true,
        encodings: whole.clone().into(),
        ..MetricSet::default()
    })?;
    if part.is_empty() {
        return Ok(details);
    }
    if cols > LOOK {
        let message = format!("types that search for their scales are left out: one row has {cols} weights");
        details.warnings.push(Warning { code: "row_too_long", message });
        return Ok(details);
    }
    let ask = |_: &TensorInfo| MetricSet { encodings: part.clone().into(), ..MetricSet::default() };
    let mut sampled = plan(checkpoint, None, &wanted, &ask)?;
    sample(&mut sampled, LOOK / cols.max(1));
    details.outputs.append(&mut sampled.outputs);
    Ok(details)
}

/// Whether `encoding` can take rows of `cols`: they divide by its block, or blocks run over the flattened tensor.
fn fits(encoding: Encoding, cols: u64) -> bool {
    let dtype = encoding.dtype();
    dtype.is_flat() || cols.is_multiple_of(dtype.block_len())
}

fn plan(
    checkpoint: &Checkpoint,
    imatrix: Option<&Imatrix>,
    wanted: &dyn Fn(&TensorInfo) -> bool,
    ask: &dyn Fn(&TensorInfo) -> MetricSet,
) -> Result<Plan> {
    let mut outputs = Vec::new();
    let mut warnings = checkpoint.warnings.clone();
    let names = names(checkpoint);
    let mut weighing = ImportancePlanner::new(imatrix, checkpoint);
    let mut needy: BTreeMap<Encoding, u64> = BTreeMap::new();
    for (index, tensor) in checkpoint.tensors.iter().enumerate().filter(|(_, t)| wanted(t)) {
        if !measurable(tensor) {
            let message = format!("{:?} is {}, which is not measured", tensor.name, tensor.dtype);
            warnings.push(Warning { code: "not_measured", message });
            continue;
        }
        if let Some(why) = unscaled(&names, tensor) {
            let message = format!("{:?} is measured as stored: {why}", tensor.name);
            warnings.push(Warning { code: "unscaled", message });
        }
        let grid = Grid::of(&tensor.shape);
        let from = operand(Side::Source, index, tensor);
        let mut output = Output {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            grid,
            place: None,
            segments: Segment {
                rows: 0..grid.rows,
                from,
                against: None,
                importance: None,
                gain: None,
                op: OutputOp::Measure,
            }
            .into(),
            metrics: ask(tensor),
            reason: measured_reason(&tensor.name, &tensor.shape),
        };
        for encoding in weighing.measure(tensor, &mut output)? {
            *needy.entry(encoding).or_default() += 1;
        }
        outputs.push(output);
    }
    for (encoding, n) in needy {
        let message = format!("{encoding} is not tried on {n} tensors, for it needs importance weights");
        warnings.push(Warning { code: "needs_importance", message });
    }
    if imatrix.is_some() {
        warnings.extend(weighing.warnings());
    }
    Ok(Plan { outputs, files: Vec::new(), conversion: None, warnings })
}
