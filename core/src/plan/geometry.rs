//! Granularity of windows: after how many rows and columns blocks and rotated vectors end.

use super::{Axis, Op};
use crate::dtype::DType;

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Least common multiple; 0 if either number is 0.
pub(crate) fn lcm(a: u64, b: u64) -> u64 {
    a / gcd(a, b).max(1) * b
}

/// Number of rows of `cols` elements after which the blocks of all of `dtypes` end.
///
/// More than 1 only where blocks of a flat type straddle rows: then windows end after whole groups of rows.
pub(crate) fn rows_per_block_boundary(cols: u64, dtypes: impl Iterator<Item = DType>) -> u64 {
    dtypes.filter(|d| d.is_flat()).fold(1, |g, d| lcm(g, d.block_len() / gcd(cols, d.block_len())))
}

/// Number of rows or columns after which a window may end without splitting a rotated vector, of `extent` in all.
pub(crate) fn rotation_granularity(ops: &[Op], axis: Axis, extent: u64) -> u64 {
    let rotations = || {
        ops.iter().filter_map(|op| match op {
            Op::Rotate(rotation) if rotation.axis == axis => Some(rotation),
            _ => None,
        })
    };
    let Some(first) = rotations().next() else { return 1 };
    let period = rotations().nth(1).map_or(extent, |second| second.at.saturating_sub(first.at));
    let holds = |step: u64| rotations().all(|r| step > 0 && r.at / step == (r.at + r.len - 1) / step);
    [first.len, period].into_iter().find(|&step| holds(step)).unwrap_or(extent).max(1)
}
