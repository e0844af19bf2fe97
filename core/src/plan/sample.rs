//! Samples of rows: runs that are evenly spaced from the first row of a tensor to its last.
//!
//! The choice depends on shape and number of rows alone. Blocks are those of the whole tensor, so that a row of a sample is
//! measured as it is measured in the tensor.

use super::{Axis, ColumnRange, Grid, Op, Output, Plan, Segment, lcm, rows_per_block_boundary};
use alloc::vec::Vec;
use core::ops::Range;

/// Most runs of rows: enough to cover every part of a tensor, few enough to be read one by one.
const RUNS: u64 = 32;

/// Reduces the measurements of `plan` to about `rows` rows of each tensor; a tensor with fewer rows stays whole.
///
/// Rows that share blocks, as those of flat types can, are kept together. For a tensor that is rotated along its rows, ranges
/// of columns with about as many weights are kept instead. Outputs that are written are not changed.
pub fn sample(plan: &mut Plan, rows: u64) {
    for output in plan.outputs.iter_mut().filter(|o| !o.is_written()) {
        match output.segments.iter().any(Segment::runs_along_rows) {
            true => take_columns(output, rows),
            false => take(output, rows),
        }
    }
}

fn take(output: &mut Output, rows: u64) {
    let runs = spread(output.grid.rows, rows, together(output));
    let mut segments: Vec<Segment> = Vec::new();
    let mut end = 0;
    for run in runs {
        for segment in &output.segments {
            let common = run.start.max(segment.rows.start)..run.end.min(segment.rows.end);
            if !common.is_empty() {
                let part = segment.slice(common, end);
                end = part.rows.end;
                segments.push(part);
            }
        }
    }
    if end < output.grid.rows {
        output.segments = segments.into();
        output.grid.rows = end;
    }
}

/// Columns of one range: whole blocks of every type, and whole leaves of the metrics.
const RANGE_COLS: u64 = 256;

/// Keeps ranges of columns, each a segment below the other, so that vectors along the rows stay whole. If blocks or vectors
/// do not end with a range, the tensor stays whole.
fn take_columns(output: &mut Output, rows: u64) {
    let Grid { rows: height, cols } = output.grid;
    let asked = output.metrics.encodings.iter().map(|e| e.dtype());
    let along_columns = |op: &Op| match op {
        Op::Rotate(rotation) => rotation.axis == Axis::In,
        Op::Gain(along) | Op::Ungain(along) => *along == Axis::In,
        Op::Add(_)
        | Op::Mean(_)
        | Op::Scale(_)
        | Op::TensorScale
        | Op::Set(_)
        | Op::NegExp
        | Op::LogNeg
        | Op::RoundF16
        | Op::Widen => false,
    };
    let aligned = output.segments.iter().all(|p| {
        let alone = p.against.is_none() && p.importance.is_none() && p.from.columns.is_none();
        alone && p.from.dtype.block_len() == 1 && !p.from.ops.iter().any(along_columns)
    });
    let wanted = (u128::from(rows) * u128::from(cols) / u128::from(height.max(1))) as u64;
    let ranges = spread(cols / RANGE_COLS, wanted.div_ceil(RANGE_COLS).max(2), 1);
    if !aligned
        || rows_per_block_boundary(cols, asked) != 1
        || ranges.iter().map(|s| s.end - s.start).sum::<u64>() >= cols / RANGE_COLS
    {
        return;
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut end = 0;
    for (range, segment) in
        ranges.into_iter().flatten().flat_map(|s| output.segments.iter().map(move |p| (s, p)))
    {
        let mut part = segment.slice(segment.rows.clone(), end);
        part.from.columns = Some(ColumnRange { at: range * RANGE_COLS, of: cols }.into());
        end = part.rows.end;
        segments.push(part);
    }
    output.segments = segments.into();
    output.grid = Grid { rows: end, cols: RANGE_COLS };
}

/// Number of consecutive rows that must be kept together.
fn together(output: &Output) -> u64 {
    let operands =
        || output.segments.iter().flat_map(|p| core::iter::once(&p.from).chain(p.against.as_deref()));
    let asked = output.metrics.encodings.iter().chain(&output.metrics.identity).map(|e| e.dtype());
    let flat = rows_per_block_boundary(output.grid.cols, operands().map(|o| o.dtype).chain(asked));
    operands().fold(flat, |g, o| lcm(g, o.map.group()))
}

/// About `wanted` of `total` rows, in groups of `group`: the first, the last, and runs between them with even gaps. At
/// least two groups if more than one row is wanted.
fn spread(total: u64, wanted: u64, group: u64) -> Vec<Range<u64>> {
    let (groups, taken) = (total.div_ceil(group), wanted.div_ceil(group).max(wanted.clamp(1, 2)));
    if taken >= groups {
        return core::iter::once(0..total).collect();
    }
    let runs = taken.min(RUNS);
    let share = |n: u64, i: u64, of: u64| (u128::from(n) * u128::from(i) / u128::from(of)) as u64;
    let run = |i: u64| {
        let gap = share(groups - taken, i, (runs - 1).max(1));
        let at = |i: u64| (share(taken, i, runs) + gap).saturating_mul(group).min(total);
        at(i)..at(i + 1)
    };
    (0..runs).map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_reach_from_the_first_row_to_the_last_and_hold_what_was_wanted() {
        for (total, wanted) in
            [(4096, 64), (4096, 2), (100, 99), (33, 32), (1 << 40, 1000), (u64::MAX, 1 << 60)]
        {
            let runs = spread(total, wanted, 1);
            assert_eq!(runs.iter().map(|r| r.end - r.start).sum::<u64>(), wanted, "{wanted} of {total}");
            assert_eq!((runs[0].start, runs[runs.len() - 1].end), (0, total));
            assert!(runs.windows(2).all(|w| w[0].end <= w[1].start) && runs.len() as u64 <= RUNS);
        }
        assert_eq!(spread(10, 3, 1), [0..1, 4..5, 9..10]);
        assert_eq!(spread(10, 1, 1), core::slice::from_ref(&(0..1)));
    }

    /// Otherwise a sample of queries or keys could meet the same row of every head.
    #[test]
    fn runs_do_not_fall_in_step_with_heads() {
        for head in [64, 80, 96, 128] {
            let mut met: Vec<u64> = spread(32 * head, 32, 1).iter().map(|r| r.start % head).collect();
            met.sort_unstable();
            met.dedup();
            assert!(met.len() >= 24, "{} rows of heads of {head}", met.len());
        }
    }

    #[test]
    fn groups_are_not_split_and_what_has_no_more_rows_is_whole() {
        let runs = spread(101, 9, 4);
        assert!(runs.iter().all(|r| r.start % 4 == 0 && (r.end % 4 == 0 || r.end == 101)), "{runs:?}");
        assert_eq!(runs[runs.len() - 1], 100..101);
        assert_eq!(spread(101, 2, 4), [0..4, 100..101]);
        for (total, wanted, group) in
            [(0, 5, 1), (1, 1, 1), (7, 7, 1), (7, u64::MAX, 1), (7, 5, 4), (3, 1, 32)]
        {
            assert_eq!(spread(total, wanted, group), core::slice::from_ref(&(0..total)));
        }
    }
}
