//! Measurements that return the same bits for any window size, thread count and engine.
//!
//! Floating-point sums depend on the order of the terms, so the order is fixed:
//! - A *leaf* is [`LEAF`] columns of one row (fewer at the end of a row), summed in f64 with eight
//!   interleaved lanes. Lane `i` adds the elements `i`, `i + 8`, ... in order; then the lanes are added in
//!   order.
//! - The leaves of a row, then the rows, merge in a fixed binary tree of aligned intervals. Node `index` of
//!   `level` covers `[index << level, (index + 1) << level)`, and its children are the two halves. A node
//!   whose right sibling lies past the end is promoted unchanged.
//!
//! [`MergeTree`] accepts the leaves in any order. A figure that cannot be computed is `None`, never 0. Square
//! roots and logarithms are those of `libm` on every target. Knows no encodings, files or engines.

#![expect(clippy::indexing_slicing, reason = "lanes, bins and levels are arrays that loops run over")]

mod block_range;
mod histogram;
mod measurements;
mod merge_tree;
mod moments;
mod pair;
mod tally;

pub use block_range::spread_over_gaussian;
pub use histogram::{Histogram, PackedHistogram};
pub use measurements::{MeasurementSpec, Measurements};
pub use merge_tree::{MergeTree, Node};
pub use moments::{ASYMMETRY_THRESHOLD, Moments, moments_leaf, moments_leaf_f64};
pub use pair::{PairSums, WorstRow, pair_leaf, pair_leaf_f64};
pub use tally::{ByteComparison, Tally};

/// Columns of a leaf.
pub const LEAF: usize = 256;

/// Interleaved accumulators of a leaf.
pub const LANES: usize = 8;

/// Measurement of an interval of a tensor that can be merged with that of the interval to its right.
///
/// `Default` is the measurement of an empty interval.
pub trait Merge: Clone + Default {
    /// Returns the measurement of both intervals; `self` is the left one.
    #[must_use]
    fn merge(&self, right: &Self) -> Self;

    /// Called once for each row, when the node that covers the whole row is complete and before rows merge.
    ///
    /// `floor` is the value passed to [`MergeTree::with_floor`].
    fn finish_row(&mut self, _row: u64, _floor: f64) {}
}

/// Adds the lanes in order.
#[inline(always)]
pub fn add_lanes(lanes: &[f64; LANES]) -> f64 {
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

/// Calls `row` with eight values at a time; the last call is padded with `fill`.
#[inline(always)]
fn by_lanes<T: Copy>(values: &[T], fill: T, mut row: impl FnMut(&[T; LANES])) {
    let (rows, tail) = values.as_chunks::<LANES>();
    rows.iter().for_each(&mut row);
    if !tail.is_empty() {
        let mut last = [fill; LANES];
        last[..tail.len()].copy_from_slice(tail);
        row(&last);
    }
}

/// Exponent of the power of two by which binary64 values are divided before products are formed, so that no
/// product leaves the range of f64.
///
/// It is 0 if the largest finite magnitude is within the range of binary32, and for zeros.
fn scale_of(values: impl Iterator<Item = f64>) -> i32 {
    let finite = values.map(f64::abs).filter(|x| x.is_finite());
    let top = finite.fold(0.0, |top, x| if x > top { x } else { top });
    let exponent = if top > 0.0 { libm::ilogb(top) } else { 0 };
    if (-149..128).contains(&exponent) { 0 } else { exponent }
}
