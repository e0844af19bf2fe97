//! Measurements that give the same bits for any window size, thread count and engine.
//!
//! The order is a contract, because sums of floats depend on it:
//! - a *leaf* is [`LEAF`] columns of one row (the tail of a row is shorter), in f64, with eight interleaved
//!   lanes: lane `i` adds elements `i`, `i + 8`, ... in order, then the lanes are added in order;
//! - the leaves of a row, then the rows, merge in a fixed binary tree of aligned intervals: node `index` of
//!   `level` covers `[index << level, (index + 1) << level)`, its children are the two halves, and a node whose
//!   right sibling would lie past the end is promoted unchanged.
//!
//! [`MergeTree`] takes the leaves in any order. What is measured knows nothing of encodings, files or engines; a
//! figure that cannot be computed is `None`, never 0. Roots and logarithms are `libm`'s on every target.

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

/// Columns in a leaf.
pub const LEAF: usize = 256;

/// Lanes of a leaf.
pub const LANES: usize = 8;

/// Something measured of an interval of a tensor, that merges with that of the interval to its right.
///
/// `Default` is the measurement of nothing.
pub trait Merge: Clone + Default {
    /// The measurement of both intervals; `self` is the left one.
    #[must_use]
    fn merge(&self, right: &Self) -> Self;

    /// Called once when the node that covers the whole of row `row` is complete, before rows merge. `floor` is that of the
    /// [`MergeTree`].
    fn finish_row(&mut self, _row: u64, _floor: f64) {}
}

/// Adds the lanes in order.
#[inline(always)]
pub fn add_lanes(lanes: &[f64; LANES]) -> f64 {
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

/// Calls `row` with eight values at a time, the lanes in their places; the last may be filled up with `fill`.
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

/// The power of two by which binary64 values are divided before they are multiplied with each other, so that no product
/// leaves the range of f64: 0 while the greatest finite magnitude is in the range of binary32, and for zeros.
fn scale_of(values: impl Iterator<Item = f64>) -> i32 {
    let finite = values.map(f64::abs).filter(|x| x.is_finite());
    let top = finite.fold(0.0, |top, x| if x > top { x } else { top });
    let exponent = if top > 0.0 { libm::ilogb(top) } else { 0 };
    if (-149..128).contains(&exponent) { 0 } else { exponent }
}
