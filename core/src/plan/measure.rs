//! Plans that write nothing: statistics of tensors, and the error of each encoding on them.

use super::source_tensors::{is_measurable, role_reason};
use super::{
    Grid, ImportancePlanner, MetricSet, Operand, Output, OutputOp, Plan, Segment, Side, ThinVec, Warning,
    sample,
};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::model::stored_quantization::StoredQuantization;
use crate::quant::{Encoding, ImportanceUse, has_encoder};
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
    if let Some(encoding) = encodings.iter().find(|e| !has_encoder(**e)) {
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

/// Weights of one tensor beyond which [`tensor_values`] and [`tensor_errors`] read a sample of its rows: more would take
/// seconds.
pub(super) const DETAILS_WEIGHTS: u64 = 4 << 20;

/// The encodings of a sweep whose blocks divide the rows of tensor number `index`. Those with a scale search, which take tens
/// of times longer, come after the others.
///
/// # Errors
///
/// `no_such_tensor` if there is no tensor of that number.
pub fn tensor_encodings(checkpoint: &Checkpoint, index: usize) -> Result<Vec<Encoding>> {
    let cols = numbered(checkpoint, index)?.shape.cols();
    let fitting = sweep_encodings().into_iter().filter(|e| fits(*e, cols));
    let (searching, mut encodings): (Vec<_>, Vec<_>) = fitting.partition(|e| e.searches());
    encodings.extend(searching);
    Ok(encodings)
}

/// Moments and histogram of tensor number `index`; of a sample of its rows if it is large, unless `all_rows` is set.
///
/// # Errors
///
/// `no_such_tensor` if there is no tensor of that number, `unsupported_dtype` as for [`stats`].
pub fn tensor_values(checkpoint: &Checkpoint, index: usize, all_rows: bool) -> Result<Plan> {
    let metrics = MetricSet { moments: true, histogram: true, ..MetricSet::default() };
    of_tensor(checkpoint, index, metrics, all_rows)
}

/// The error of each of `encodings` on tensor number `index`, on the rows of [`tensor_values`].
///
/// # Errors
///
/// `no_such_tensor` if there is no tensor of that number, `unsupported_dtype` as for [`stats`].
pub fn tensor_errors(
    checkpoint: &Checkpoint,
    index: usize,
    encodings: &[Encoding],
    all_rows: bool,
) -> Result<Plan> {
    let metrics = MetricSet { encodings: encodings.to_vec().into(), ..MetricSet::default() };
    of_tensor(checkpoint, index, metrics, all_rows)
}

fn of_tensor(checkpoint: &Checkpoint, index: usize, metrics: MetricSet, all_rows: bool) -> Result<Plan> {
    let tensor = numbered(checkpoint, index)?;
    let wanted = |t: &TensorInfo| core::ptr::eq(t, tensor);
    let mut details = plan(checkpoint, None, &wanted, &|_| metrics.clone())?;
    if !all_rows && tensor.shape.numel() > DETAILS_WEIGHTS {
        sample(&mut details, (DETAILS_WEIGHTS / tensor.shape.cols().max(1)).max(1));
    }
    Ok(details)
}

fn numbered(checkpoint: &Checkpoint, index: usize) -> Result<&TensorInfo> {
    let missing = || Error::new(Code::NoSuchTensor, format!("there is no tensor number {index}"));
    checkpoint.tensors.get(index).ok_or_else(missing)
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
        streams: ThinVec::new(),
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
