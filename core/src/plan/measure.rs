//! Plans that write nothing: statistics of tensors, and the error of each encoding on them.

use super::source_tensors::{is_measurable, role_reason};
use super::{
    Grid, ImportancePlanner, MetricSet, Operand, Output, OutputOp, Plan, Segment, Side, Warning, sample,
};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::model::stored_quantization::StoredQuantization;
use crate::quant::{Encoding, ImportanceUse, encoder};
use crate::tensor::TensorInfo;
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// Moments and histogram of the tensors for which `wanted` is true, in checkpoint order.
///
/// Tensors that cannot be decoded are named in the warnings.
///
/// # Errors
///
/// `unsupported_dtype` if a tensor is quantized in a form that is not decoded yet.
pub fn stats(checkpoint: &Checkpoint, wanted: &dyn Fn(&TensorInfo) -> bool) -> Result<Plan> {
    plan(checkpoint, None, wanted, &|_| MetricSet { moments: true, histogram: true, ..MetricSet::default() })
}

/// Moments alone: [`stats`] without a histogram for each tensor.
///
/// # Errors
///
/// `unsupported_dtype` if a tensor is quantized in a form that is not decoded yet.
pub fn moments(checkpoint: &Checkpoint, wanted: &dyn Fn(&TensorInfo) -> bool) -> Result<Plan> {
    plan(checkpoint, None, wanted, &|_| MetricSet { moments: true, ..MetricSet::default() })
}

/// The error of each of `encodings` on the tensors for which `wanted` is true, with their moments. `imatrix` weights the
/// scale searches.
///
/// An encoding is omitted for a tensor whose rows are not whole blocks, or that has no importance weights if the encoding
/// needs them; warnings name both.
///
/// # Errors
///
/// `unsupported_dtype` if one of `encodings` cannot be written, or a tensor is quantized in a form that is not decoded yet,
/// `size_mismatch` if an entry of the importance matrix does
/// not fit its tensor.
pub fn sweep(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    imatrix: Option<&Imatrix>,
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Plan> {
    if let Some(encoding) = encodings.iter().find(|e| encoder(**e).is_none()) {
        let message = format!("encoding to {encoding} is not supported yet");
        return Err(Error::new(Code::UnsupportedDtype, message));
    }
    let mut plan = plan(checkpoint, imatrix, wanted, &|tensor| MetricSet {
        moments: true,
        encodings: encodings.iter().copied().filter(|e| fits(*e, tensor.shape.cols())).collect(),
        ..MetricSet::default()
    })?;
    let left_out = row_warnings(&plan.outputs, encodings);
    plan.warnings.extend(left_out);
    Ok(plan)
}

/// The encodings of a sweep if none are named: every block type that needs no importance weights.
pub fn sweep_encodings() -> Vec<Encoding> {
    every_encoding().into_iter().filter(|e| e.importance() != ImportanceUse::Required).collect()
}

/// The encodings of a sweep with an importance matrix: every block type that can be written.
pub fn every_encoding() -> Vec<Encoding> {
    let mut all: Vec<Encoding> = DType::ALL
        .iter()
        .filter(|d| d.is_quantized() && crate::recipe::can_target(**d))
        .map(|&d| Encoding::Type(d))
        .collect();
    all.extend([Encoding::LatticeAsym, Encoding::LatticeSym]);
    all
}

/// The warnings about encodings whose blocks do not divide the rows of outputs, one for each length of rows.
fn row_warnings(outputs: &[Output], wanted: &[Encoding]) -> Vec<Warning> {
    let mut unfit: BTreeMap<u64, Vec<&Output>> = BTreeMap::new();
    for output in outputs {
        unfit.entry(output.grid.cols).or_default().push(output);
    }
    let warning = |(cols, outputs): (u64, Vec<&Output>)| {
        let out = wanted.iter().filter(|e| !fits(**e, cols)).map(|e| e.name());
        let out = out.collect::<Vec<_>>().join(", ");
        let tensors = match outputs.as_slice() {
            [one] => format!("{:?} is", one.name),
            several => format!("{} tensors are", several.len()),
        };
        let message = format!("{tensors} not encoded as {out}: rows of {cols} do not divide by the block");
        (!out.is_empty()).then(|| Warning::new("row_not_divisible", message))
    };
    unfit.into_iter().filter_map(warning).collect()
}

/// Most weights of one tensor that are encoded for [`tensor_details`] with a scale search; more would take seconds.
pub(super) const DETAILS_WEIGHTS: u64 = 4 << 20;

/// Everything that a page shows of tensor number `index`: moments, histogram, and the error of each encoding of a sweep.
///
/// For a large tensor, the encodings with a scale search are a second output over a sample of its rows. If one row is too
/// long for that, they are omitted with a warning.
///
/// # Errors
///
/// `no_such_tensor` if there is no tensor of that number.
pub fn tensor_details(checkpoint: &Checkpoint, index: usize) -> Result<Plan> {
    let missing = || Error::new(Code::NoSuchTensor, format!("there is no tensor number {index}"));
    let tensor = checkpoint.tensors.get(index).ok_or_else(missing)?;
    let cols = tensor.shape.cols();
    let wanted = |t: &TensorInfo| core::ptr::eq(t, tensor);
    let fitting = sweep_encodings().into_iter().filter(|e| fits(*e, cols));
    let large = tensor.shape.numel() > DETAILS_WEIGHTS;
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
    if cols > DETAILS_WEIGHTS {
        let message = format!("types that search for their scales are left out: one row has {cols} weights");
        details.warnings.push(Warning::new("row_too_long", message));
        return Ok(details);
    }
    let metrics = |_: &TensorInfo| MetricSet { encodings: part.clone().into(), ..MetricSet::default() };
    let mut sampled = plan(checkpoint, None, &wanted, &metrics)?;
    sample(&mut sampled, DETAILS_WEIGHTS / cols.max(1));
    details.outputs.append(&mut sampled.outputs);
    Ok(details)
}

/// Whether `encoding` takes rows of `cols` weights: they are whole blocks, or blocks run over the flattened tensor.
fn fits(encoding: Encoding, cols: u64) -> bool {
    let dtype = encoding.dtype();
    dtype.is_flat() || cols.is_multiple_of(dtype.block_len())
}

/// The output that measures all of tensor number `index`.
fn measured(index: usize, tensor: &TensorInfo, metrics: MetricSet) -> Output {
    let grid = Grid::of(&tensor.shape);
    let from = Operand::whole(Side::Source, index, tensor);
    Output {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        grid,
        place: None,
        segments: Segment::whole(grid, from, OutputOp::Measure).into(),
        metrics,
        reason: role_reason(&tensor.name, &tensor.shape).into(),
    }
}

fn plan(
    checkpoint: &Checkpoint,
    imatrix: Option<&Imatrix>,
    wanted: &dyn Fn(&TensorInfo) -> bool,
    metrics: &dyn Fn(&TensorInfo) -> MetricSet,
) -> Result<Plan> {
    let mut outputs = Vec::new();
    let mut warnings = checkpoint.warnings.clone();
    let stored = StoredQuantization::of(checkpoint);
    warnings.extend(stored.warnings());
    let mut importance = ImportancePlanner::new(imatrix, checkpoint);
    let mut unmeasured: BTreeMap<Cow<'static, str>, Vec<&str>> = BTreeMap::new();
    // Encodings that are omitted because they need weights, and for how many tensors.
    let mut unweighted: BTreeMap<Encoding, u64> = BTreeMap::new();
    for (index, tensor) in checkpoint.tensors.iter().enumerate().filter(|(_, t)| wanted(t)) {
        stored.check(tensor)?;
        if !is_measurable(tensor) {
            unmeasured.entry(checkpoint.type_name(tensor)).or_default().push(tensor.name.as_str());
            continue;
        }
        let mut output = measured(index, tensor, metrics(tensor));
        for encoding in importance.measure(tensor, &mut output)? {
            *unweighted.entry(encoding).or_default() += 1;
        }
        outputs.push(output);
    }
    for (dtype, names) in unmeasured {
        let message = match names.as_slice() {
            [one] => format!("{one:?} is {dtype}, which can be copied but not decoded yet"),
            several => {
                let (n, first) = (several.len(), several.first().unwrap_or(&""));
                format!("{n} tensors ({first:?}, ...) are {dtype}, which can be copied but not decoded yet")
            }
        };
        warnings.push(Warning::new("not_measured", message));
    }
    for (encoding, n) in unweighted {
        let message = format!("{encoding} is not tried on {n} tensors, for it needs importance weights");
        warnings.push(Warning::new("needs_importance", message));
    }
    if imatrix.is_some() {
        warnings.extend(importance.warnings());
    }
    Ok(Plan::of_measurements(outputs, warnings))
}
