//! Plans that write nothing: statistics of tensors, and what each encoding would do to them.

use super::convert::{measurable, measured_reason, operand};
use super::{Ask, Finish, Grid, Output, Piece, Plan, Side, Warning};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::quant::{Encoding, encoder};
use crate::tensor::TensorInfo;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Moments and histogram of the tensors that `wanted` says, in checkpoint order.
///
/// Tensors that cannot be decoded are named in the warnings.
pub fn stats(checkpoint: &Checkpoint, wanted: &dyn Fn(&TensorInfo) -> bool) -> Result<Plan> {
    plan(checkpoint, wanted, &|_| Ask { moments: true, histogram: true, ..Ask::default() })
}

/// The error of each of `encodings` on the tensors that `wanted` says, with their moments.
///
/// An encoding is left out for a tensor whose rows do not divide by its block.
pub fn sweep(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Plan> {
    if let Some(encoding) = encodings.iter().find(|e| encoder(**e).is_none()) {
        return Err(Error::new(
            Code::UnsupportedDtype,
            format!("encoding to {encoding} is not supported yet"),
        ));
    }
    plan(checkpoint, wanted, &|tensor| Ask {
        moments: true,
        encodings: encodings.iter().copied().filter(|e| fits(*e, tensor)).collect(),
        ..Ask::default()
    })
}

/// Everything a page shows of one tensor: moments, histogram, and the error of each of `encodings`.
pub fn look(checkpoint: &Checkpoint, index: usize, encodings: &[Encoding]) -> Result<Plan> {
    let missing = || Error::new(Code::NoSuchTensor, format!("there is no tensor number {index}"));
    let tensor = checkpoint.tensors.get(index).ok_or_else(missing)?;
    let wanted = |t: &TensorInfo| core::ptr::eq(t, tensor);
    plan(checkpoint, &wanted, &|tensor| Ask {
        moments: true,
        histogram: true,
        encodings: encodings.iter().copied().filter(|e| fits(*e, tensor)).collect(),
        ..Ask::default()
    })
}

/// Whether `encoding` can take `tensor`: rows divide by its block, or blocks run over the flattened tensor.
fn fits(encoding: Encoding, tensor: &TensorInfo) -> bool {
    let dtype = encoding.dtype();
    dtype.is_flat() || tensor.shape.cols().is_multiple_of(dtype.block_len())
}

fn plan(
    checkpoint: &Checkpoint,
    wanted: &dyn Fn(&TensorInfo) -> bool,
    ask: &dyn Fn(&TensorInfo) -> Ask,
) -> Result<Plan> {
    let mut outputs = Vec::new();
    let mut warnings = checkpoint.warnings.clone();
    for (index, tensor) in checkpoint.tensors.iter().enumerate().filter(|(_, t)| wanted(t)) {
        if !measurable(tensor) {
            let message = format!("{:?} is {}, which is not measured", tensor.name, tensor.dtype);
            warnings.push(Warning { code: "not_measured", message });
            continue;
        }
        let grid = Grid::of(&tensor.shape);
        let from = operand(Side::Source, index, tensor);
        outputs.push(Output {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            grid,
            place: None,
            pieces: vec![Piece { rows: 0..grid.rows, from, against: None, finish: Finish::Measure }],
            ask: ask(tensor),
            reason: measured_reason(&tensor.name, &tensor.shape),
        });
    }
    Ok(Plan { outputs, files: Vec::new(), conversion: None, warnings })
}
