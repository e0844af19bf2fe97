//! Values as they are measured: binary64 tensors in their own precision, all others as binary32. Knows no encodings.

use super::row_map::reorder;
use super::{Read, Window};
use crate::dtype::DType;
use crate::kernels::Kernels;
use crate::metric::{LEAF, PairSums, pair_leaf_f64};
use crate::plan::{Op, RowMap};
use crate::quant::EncodeError;
use alloc::vec::Vec;
use core::ops::Range;

/// The values of a tile, row-major.
#[derive(Clone, Copy, Debug)]
pub(super) enum TileValues<'a> {
    /// As they are worked on.
    Single(&'a [f32]),
    /// As they are stored.
    Double(&'a [f64]),
}

impl TileValues<'_> {
    /// The elements `at`, widened into `room`, which is as long.
    fn widen(self, at: Range<usize>, room: &mut [f64]) {
        match self {
            TileValues::Single(x) => room.iter_mut().zip(&x[at]).for_each(|(to, &x)| *to = x.into()),
            TileValues::Double(x) => room.copy_from_slice(&x[at]),
        }
    }

    /// The element `at`.
    pub(super) fn get(self, at: usize) -> f64 {
        match self {
            TileValues::Single(x) => x[at].into(),
            TileValues::Double(x) => x[at],
        }
    }

    /// Number of elements.
    pub(super) fn len(self) -> usize {
        match self {
            TileValues::Single(x) => x.len(),
            TileValues::Double(x) => x.len(),
        }
    }
}

/// The error of one leaf.
pub(super) fn pair(
    kernels: &dyn Kernels,
    reference: TileValues<'_>,
    candidate: TileValues<'_>,
    at: Range<usize>,
) -> PairSums {
    if let (TileValues::Single(r), TileValues::Single(q)) = (reference, candidate) {
        return kernels.pair(&r[at.clone()], &q[at]);
    }
    let (mut r, mut q) = ([0.0; LEAF], [0.0; LEAF]);
    let (r, q) = (&mut r[..at.len()], &mut q[..at.len()]);
    reference.widen(at.clone(), r);
    candidate.widen(at, q);
    pair_leaf_f64(r, q)
}

/// The values of a tile of a binary64 read, in the output's order and after its constants; false for every other dtype, and
/// where rotations or gains make other values of them, which exist as binary32 only.
pub(super) fn load(
    read: &Read,
    src: &[u8],
    tile: &Window,
    values: &mut Vec<f64>,
    mapped: &mut Vec<f64>,
) -> bool {
    let constant = |op: &Op| matches!(op, Op::Add(_));
    let transposed = matches!(read.map, RowMap::Transpose { .. });
    if transposed || read.dtype != DType::F64 || !read.ops.iter().all(constant) {
        return false;
    }
    values.clear();
    values.extend(src.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)));
    reorder(read.map, values, mapped, tile.width() as usize);
    for op in &read.ops {
        if let Op::Add(c) = op {
            values.iter_mut().for_each(|v| *v += f64::from(*c));
        }
    }
    true
}

/// The stored values of a tile in binary64; `single` has the same values decoded to binary32.
pub(super) fn widen(read: &Read, src: &[u8], single: &[f32], values: &mut Vec<f64>) {
    values.clear();
    match read.dtype {
        DType::F64 if read.map == RowMap::Identity => {
            values.extend(src.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)))
        }
        _ => values.extend(single.iter().map(|&v| f64::from(v))),
    }
}

/// A norm gain in binary64, with its constants added there. `decoded` is scratch space.
///
/// # Errors
///
/// Those of [`Kernels::decode`].
pub(super) fn gain(
    kernels: &dyn Kernels,
    read: &Read,
    src: &[u8],
    gain: &mut Vec<f64>,
    decoded: &mut Vec<f32>,
) -> Result<(), EncodeError> {
    decoded.resize(src.len() / read.dtype.block_bytes().max(1) as usize, 0.0);
    kernels.decode(read.dtype, src, decoded)?;
    widen(read, src, decoded, gain);
    for op in &read.ops {
        if let Op::Add(c) = op {
            gain.iter_mut().for_each(|g| *g += f64::from(*c));
        }
    }
    Ok(())
}
