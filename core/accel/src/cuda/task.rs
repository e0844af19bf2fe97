//! Divides a task into slices that one device runs in order, or several devices in parallel.

use super::launch::{
    Argument, BufferId, Launch, MatrixLayout, WeightedColumns, dequantize, quantize, rotate,
};
use super::ptx_modules::{SOURCES, TYPES};
use quantoscope_core::DType;
use quantoscope_core::job::Axis;
use quantoscope_core::rotation::Rotation;
use std::ops::Range;

/// A task from input bytes to output bytes.
#[derive(Clone, Copy, Debug)]
pub enum CudaTask<'a> {
    /// Encodes, decodes, or converts between block types.
    Convert {
        /// Type of the input.
        from: DType,
        /// Type of the output; F32 to decode only.
        to: DType,
        /// Importance weights, one per column; empty for none.
        weights: &'a [f32],
    },
    /// Copies bytes to the device and other bytes back, without a kernel.
    CopyRoundtrip,
    /// Rotates vectors of an F32 matrix and copies all other values.
    Rotate {
        /// The rotation.
        rotation: &'a Rotation,
        /// The matrix and its vectors.
        matrix: MatrixLayout,
    },
}

/// One slice: its input, launches and output.
#[derive(Clone, Debug, PartialEq)]
pub struct CudaSlice {
    /// Range of input bytes.
    pub src: Range<usize>,
    /// Range of output bytes.
    pub out: Range<usize>,
    /// Bytes of [`BufferId::Intermediate`].
    pub intermediate: usize,
    /// Whether the input is copied to the output before the launches.
    pub copies_input: bool,
    /// Launches, in order.
    pub launches: Vec<Launch>,
}

/// The slices of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct CudaSlices<'a> {
    /// Slices, in order; together they cover the task.
    pub all: Vec<CudaSlice>,
    /// [`BufferId::Weights`] of every slice.
    pub weights: &'a [f32],
    /// [`BufferId::Table`] of every slice.
    pub table: Vec<u32>,
}

impl<'a> CudaTask<'a> {
    /// Divides the task into slices of about `values` values. `src` and `out` are the lengths of input and
    /// output in bytes. Rotations of columns are one slice.
    ///
    /// `None` if there are no kernels, or if the lengths are not those of the same whole blocks and rows.
    pub fn slices(self, src: usize, out: usize, values: usize) -> Option<CudaSlices<'a>> {
        match self {
            CudaTask::Convert { from, to, weights } => Some(CudaSlices {
                all: convert_slices(from, to, weights.len(), (src, out), values)?,
                weights,
                table: Vec::new(),
            }),
            CudaTask::CopyRoundtrip => {
                Some(CudaSlices { all: copy_slices(src, out, 4 * values), weights: &[], table: Vec::new() })
            }
            CudaTask::Rotate { rotation, matrix } => {
                let (all, table) = rotate_slices(rotation, matrix, (src, out), values)?;
                Some(CudaSlices { all, weights: &[], table })
            }
        }
    }
}

/// Slices of about `bytes` bytes of the longer of both.
fn copy_slices(src: usize, out: usize, bytes: usize) -> Vec<CudaSlice> {
    let slices = (src.max(out) / bytes.max(1)).max(1);
    let part = |total: usize, n: usize| {
        total / slices * n..if n + 1 < slices { total / slices * (n + 1) } else { total }
    };
    let slice = |n| CudaSlice {
        src: part(src, n),
        out: part(out, n),
        intermediate: 0,
        copies_input: false,
        launches: Vec::new(),
    };
    (0..slices).map(slice).collect()
}

/// Values per block.
fn block_len(dtype: DType) -> usize {
    dtype.block_len() as usize
}

/// Bytes of `values` values.
fn size(dtype: DType, values: usize) -> Option<usize> {
    dtype.bytes_for(values as u64).and_then(|n| usize::try_from(n).ok())
}

fn convert_slices(
    from: DType,
    to: DType,
    weights: usize,
    (src, out): (usize, usize),
    values: usize,
) -> Option<Vec<CudaSlice>> {
    let is_blocks = TYPES.contains(&from);
    if !is_blocks && (to == DType::F32 || !SOURCES.contains(&from)) {
        return None;
    }
    let all = (src / from.block_bytes() as usize).checked_mul(block_len(from))?;
    let block = block_len(from).max(block_len(to));
    let whole = all.is_multiple_of(block) && size(from, all) == Some(src) && size(to, all) == Some(out);
    let rows = weights == 0 || weights.is_multiple_of(block_len(to)) && all.is_multiple_of(weights);
    if !whole || !rows {
        return None;
    }
    let step = (values / block).max(1) * block;
    (0..all).step_by(step).map(|at| convert_slice(from, to, weights, at, step.min(all - at))).collect()
}

/// The slice of `count` values from value `at` on.
fn convert_slice(from: DType, to: DType, weights: usize, at: usize, count: usize) -> Option<CudaSlice> {
    let range = |d| Some(size(d, at)?..size(d, at + count)?);
    let blocks = |d| u32::try_from(count / block_len(d)).ok();
    let is_blocks = TYPES.contains(&from);
    let columns = if weights > 0 {
        let (row, first) = (weights / block_len(to), at % weights / block_len(to));
        Some(WeightedColumns { row: u32::try_from(row).ok()?, first: u32::try_from(first).ok()? })
    } else {
        None
    };
    let (src, out) = (range(from)?, range(to)?);
    let mut slice = CudaSlice { src, out, intermediate: 0, copies_input: false, launches: Vec::new() };
    if is_blocks {
        slice.launches.push(dequantize(from, blocks(from)?)?);
    }
    if to != DType::F32 {
        let source = if is_blocks { DType::F32 } else { from };
        slice.launches.push(quantize(source, to, blocks(to)?, columns)?);
    }
    if let [first, second] = &mut slice.launches[..] {
        slice.intermediate = size(DType::F32, count)?;
        replace_buffer(first, BufferId::Out, BufferId::Intermediate);
        replace_buffer(second, BufferId::Src, BufferId::Intermediate);
    }
    Some(slice)
}

/// Replaces a buffer of a launch by another.
fn replace_buffer(launch: &mut Launch, from: BufferId, to: BufferId) {
    for argument in &mut launch.arguments {
        if let Argument::Address(buffer, _) = argument {
            *buffer = if *buffer == from { to } else { *buffer };
        }
    }
}

/// The slices of a rotation, and their table.
fn rotate_slices(
    rotation: &Rotation,
    matrix: MatrixLayout,
    (src, out): (usize, usize),
    values: usize,
) -> Option<(Vec<CudaSlice>, Vec<u32>)> {
    let (rows, width) = (matrix.rows as usize, matrix.width as usize);
    let row = size(DType::F32, width)?;
    let bytes = rows.checked_mul(row)?;
    if bytes == 0 || src != bytes || out != bytes {
        return None;
    }
    // Rows can be rotated independently; columns are never divided.
    let step = if matrix.along == Axis::In { (values / width).max(1) } else { rows };
    let side = if matrix.along == Axis::In { width } else { rows };
    let (mut slices, mut table) = (Vec::new(), Vec::new());
    for at in (0..rows).step_by(step) {
        let count = step.min(rows - at);
        let launches;
        (launches, table) = rotate(rotation, MatrixLayout { rows: u32::try_from(count).ok()?, ..matrix })?;
        let range = at * row..(at + count) * row;
        let copies_input = rotation.len() < side;
        slices.push(CudaSlice { src: range.clone(), out: range, intermediate: 0, copies_input, launches });
    }
    Some((slices, table))
}
