//! A piece of work as slices that a device can do one after the other, or several devices side by side.

use super::launch::{
    Argument, BufferId, Launch, MatrixBuffers, WeightedColumns, dequantize, quantize, rotate,
};
use super::ptx_modules::{SOURCES, TYPES};
use quantoscope_core::DType;
use quantoscope_core::job::Axis;
use quantoscope_core::rotation::Rotation;
use std::ops::Range;

/// What is to be done, from stored bytes to stored bytes.
#[derive(Clone, Copy, Debug)]
pub enum CudaTask<'a> {
    /// Values or blocks become values or blocks.
    Make {
        /// What there is.
        from: DType,
        /// What is wanted; F32 for what is only decoded.
        to: DType,
        /// One for each column of a row, or none.
        weights: &'a [f32],
    },
    /// Nothing: bytes are brought, and others fetched.
    Carry,
    /// Vectors of binary32 are rotated; all else is copied.
    Turn {
        /// How.
        rotation: &'a Rotation,
        /// Where.
        matrix: MatrixBuffers,
    },
}

/// What is brought to a device, done there and fetched, without the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct CudaSlice {
    /// Bytes of what there is.
    pub src: Range<usize>,
    /// Bytes of what is wanted.
    pub out: Range<usize>,
    /// Bytes between two launches, in [`BufferId::Between`].
    pub between: usize,
    /// Whether what there is has to be copied first to where the result will be.
    pub copies: bool,
    /// What is launched, one after the other.
    pub launches: Vec<Launch>,
}

/// Work, cut.
#[derive(Clone, Debug, PartialEq)]
pub struct CudaSlices<'a> {
    /// In order; together they are all of it.
    pub all: Vec<CudaSlice>,
    /// What each of them has in [`BufferId::Weights`].
    pub weights: &'a [f32],
    /// What each of them has in [`BufferId::Table`].
    pub table: Vec<u32>,
}

impl<'a> CudaTask<'a> {
    /// Cuts it into slices of about so many values, where it can be cut. `src` and `out` are the bytes that there are.
    ///
    /// `None` where there are no kernels for it, or where the bytes are not those of the same whole blocks and rows.
    pub fn slices(self, src: usize, out: usize, values: usize) -> Option<CudaSlices<'a>> {
        match self {
            CudaTask::Make { from, to, weights } => Some(CudaSlices {
                all: made(from, to, weights.len(), (src, out), values)?,
                weights,
                table: Vec::new(),
            }),
            CudaTask::Carry => {
                Some(CudaSlices { all: carried(src, out, 4 * values), weights: &[], table: Vec::new() })
            }
            CudaTask::Turn { rotation, matrix } => {
                let (all, table) = turned(rotation, matrix, (src, out), values)?;
                Some(CudaSlices { all, weights: &[], table })
            }
        }
    }
}

/// As many slices as the longer of both needs.
fn carried(src: usize, out: usize, bytes: usize) -> Vec<CudaSlice> {
    let slices = (src.max(out) / bytes.max(1)).max(1);
    let part = |whole: usize, n: usize| {
        whole / slices * n..if n + 1 < slices { whole / slices * (n + 1) } else { whole }
    };
    let slice = |n| CudaSlice {
        src: part(src, n),
        out: part(out, n),
        between: 0,
        copies: false,
        launches: Vec::new(),
    };
    (0..slices).map(slice).collect()
}

fn len(dtype: DType) -> usize {
    dtype.block_len() as usize
}

fn size(dtype: DType, values: usize) -> Option<usize> {
    dtype.bytes_for(values as u64).and_then(|n| usize::try_from(n).ok())
}

fn made(
    from: DType,
    to: DType,
    weights: usize,
    (src, out): (usize, usize),
    values: usize,
) -> Option<Vec<CudaSlice>> {
    let packed = TYPES.contains(&from);
    if !packed && (to == DType::F32 || !SOURCES.contains(&from)) {
        return None;
    }
    let all = (src / from.block_bytes() as usize).checked_mul(len(from))?;
    let block = len(from).max(len(to));
    let whole = all.is_multiple_of(block) && size(from, all) == Some(src) && size(to, all) == Some(out);
    let rows = weights == 0 || weights.is_multiple_of(len(to)) && all.is_multiple_of(weights);
    if !whole || !rows {
        return None;
    }
    let step = (values / block).max(1) * block;
    (0..all).step_by(step).map(|at| made_slice(from, to, weights, at, step.min(all - at))).collect()
}

/// The slice of `count` values from value `at` on.
fn made_slice(from: DType, to: DType, weights: usize, at: usize, count: usize) -> Option<CudaSlice> {
    let range = |d| Some(size(d, at)?..size(d, at + count)?);
    let blocks = |d| u32::try_from(count / len(d)).ok();
    let packed = TYPES.contains(&from);
    let columns = if weights > 0 {
        let (row, first) = (weights / len(to), at % weights / len(to));
        Some(WeightedColumns { row: u32::try_from(row).ok()?, first: u32::try_from(first).ok()? })
    } else {
        None
    };
    let mut slice =
        CudaSlice { src: range(from)?, out: range(to)?, between: 0, copies: false, launches: Vec::new() };
    if packed {
        slice.launches.push(dequantize(from, blocks(from)?)?);
    }
    if to != DType::F32 {
        let source = if packed { DType::F32 } else { from };
        slice.launches.push(quantize(source, to, blocks(to)?, columns)?);
    }
    if let [first, second] = &mut slice.launches[..] {
        slice.between = size(DType::F32, count)?;
        renamed(first, BufferId::Out, BufferId::Between);
        renamed(second, BufferId::Src, BufferId::Between);
    }
    Some(slice)
}

/// Lets a launch use another room.
fn renamed(launch: &mut Launch, room: BufferId, other: BufferId) {
    for argument in &mut launch.arguments {
        if let Argument::At(at, _) = argument {
            *at = if *at == room { other } else { *at };
        }
    }
}

fn turned(
    rotation: &Rotation,
    matrix: MatrixBuffers,
    (src, out): (usize, usize),
    values: usize,
) -> Option<(Vec<CudaSlice>, Vec<u32>)> {
    let (rows, width) = (matrix.rows as usize, matrix.width as usize);
    let row = size(DType::F32, width)?;
    let whole = rows.checked_mul(row)?;
    if whole == 0 || src != whole || out != whole {
        return None;
    }
    // Rows know nothing of each other where vectors lie in them; columns are never cut.
    let step = if matrix.along == Axis::In { (values / width).max(1) } else { rows };
    let side = if matrix.along == Axis::In { width } else { rows };
    let (mut slices, mut looked_up) = (Vec::new(), Vec::new());
    for at in (0..rows).step_by(step) {
        let count = step.min(rows - at);
        let (launches, table) =
            rotate(rotation, MatrixBuffers { rows: u32::try_from(count).ok()?, ..matrix })?;
        let range = at * row..(at + count) * row;
        let copies = rotation.len() < side;
        slices.push(CudaSlice { src: range.clone(), out: range, between: 0, copies, launches });
        looked_up = table;
    }
    Some((slices, looked_up))
}
