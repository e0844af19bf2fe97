//! Plan and budget in, lazy jobs out. Decides windows; results never depend on what it decides.

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::job::{self, Job, LONG_RUN, PackedWindow, Read, Region, Window};
use crate::metric::LEAF;
use crate::plan::{
    Axis, ColumnRange, Grid, MetricSet, Op, Operand, Output, OutputOp, Plan, RowMap, Segment, lcm,
    rotation_granularity, rows_per_block_boundary,
};
use crate::tensor::TensorInfo;
use crate::tensor::packed::{Packed, Rectangle};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

/// How much a driver is willing to hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes for all windows in flight together.
    pub memory: u64,
    /// Windows in flight.
    pub workers: u32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { memory: 64 << 20, workers: 1 }
    }
}

/// Bytes that a window reads and writes, where nothing else decides: reads are long, and what a window costs in itself is
/// small.
const WINDOW: u64 = 4 << 20;
/// No window is made smaller than this many elements for its bytes' sake.
const LEAST: u64 = 32 << 10;

/// How an output is cut.
#[derive(Clone, Copy, Debug)]
struct WindowSize {
    /// Rows that stay together.
    group: u64,
    /// Rows of a window.
    rows: u64,
    /// Columns of a window.
    cols: u64,
    /// Columns that stay together.
    col_group: u64,
}

/// Bytes that a window reads and writes where a driver has no reason for another size.
pub const USUAL_WINDOW: u64 = WINDOW;

/// The position in a plan from which the next window is cut. Knows no plan: the caller passes the same one every time.
#[derive(Clone, Debug)]
pub struct WindowCursor {
    budget: Budget,
    window: u64,
    output: usize,
    segment: usize,
    /// The next row of the output and the next column, within the segment.
    row: u64,
    col: u64,
    /// The window size of the segment, once it has begun.
    size: Option<WindowSize>,
}

impl WindowCursor {
    /// The start of `plan`, and how many windows each output has. Windows read and write about `window` bytes where
    /// neither the budget nor the rows and blocks that stay together decide otherwise. Windows of columns are as wide as reads
    /// of [`LONG_RUN`] bytes need and the budget allows, unless `window` is more than [`USUAL_WINDOW`]: then a device takes
    /// each at once.
    ///
    /// # Errors
    ///
    /// `memory_budget`, of the first output whose smallest window exceeds the budget.
    pub fn new(plan: &Plan, budget: Budget, window: u64) -> Result<(WindowCursor, Vec<u64>)> {
        let counts = windows_in(plan, &budget, window)?;
        let cursor = WindowCursor { budget, window, output: 0, segment: 0, row: 0, col: 0, size: None };
        Ok((cursor, counts))
    }

    /// The next window of `plan` as a job; `None` after the last one.
    pub fn next_job(&mut self, plan: &Plan) -> Option<Job> {
        loop {
            let output = plan.outputs.get(self.output)?;
            let Some(segment) = output.segments.get(self.segment) else {
                (self.output, self.segment) = (self.output + 1, 0);
                continue;
            };
            if let Some(job) = self.within(output, segment) {
                return Some(job);
            }
            (self.segment, self.size) = (self.segment + 1, None);
        }
    }

    /// The next window of a segment.
    fn within(&mut self, output: &Output, segment: &Segment) -> Option<Job> {
        let (cols, Range { start, end }) = (output.grid.cols, segment.rows.clone());
        let size = match self.size {
            Some(size) => size,
            None => {
                // `WindowCursor::new` has found that it fits.
                let size = cut(output, segment, &self.budget, self.window).ok()?;
                (self.row, self.col) = (start, 0);
                *self.size.insert(size)
            }
        };
        if self.row >= end || cols == 0 {
            return None;
        }
        let (row, col) = (self.row, self.col);
        let window = Window {
            rows: row..row.saturating_add(size.rows).min(end),
            cols: col..col.saturating_add(size.cols.max(1)).min(cols),
        };
        (self.row, self.col) = match window.cols.end {
            last if last >= cols => (window.rows.end, 0),
            next => (row, next),
        };
        Some(job(self.output as u32, output, segment, size, window))
    }
}

/// The jobs of `plan` in windows of [`USUAL_WINDOW`], in order of outputs, rows and columns.
///
/// # Errors
///
/// As [`WindowCursor::new`].
pub fn schedule<'a>(plan: &'a Plan, budget: &Budget) -> Result<impl Iterator<Item = Job> + use<'a>> {
    let (mut cursor, _) = WindowCursor::new(plan, *budget, USUAL_WINDOW)?;
    Ok(core::iter::from_fn(move || cursor.next_job(plan)))
}

/// How many windows each output of `plan` has, counted without making them: the time is that of the segments.
///
/// # Errors
///
/// As [`WindowCursor::new`].
pub fn windows_in(plan: &Plan, budget: &Budget, window: u64) -> Result<Vec<u64>> {
    let of_output = |output: &Output| {
        let of_segment = |s: &Segment| cut(output, s, budget, window).map(|size| count(output, s, size));
        let counts = output.segments.iter().map(of_segment);
        // No more windows than elements, whose number fits 64 bits.
        counts.sum::<Result<u64>>().map_err(|e| e.of_tensor(&output.name))
    };
    plan.outputs.iter().map(of_output).collect()
}

/// A job for each piece of a plan, whose window is all of it: says what is to be done and is never run.
pub fn whole(plan: &Plan) -> impl Iterator<Item = Job> {
    plan.outputs.iter().enumerate().flat_map(|(index, output)| {
        let Grid { cols, .. } = output.grid;
        output.segments.iter().filter(move |p| cols > 0 && !p.rows.is_empty()).map(move |piece| {
            let height = piece.rows.end - piece.rows.start;
            let window = Window { rows: piece.rows.clone(), cols: 0..cols };
            job(
                index as u32,
                output,
                piece,
                WindowSize { group: 1, rows: height, cols, col_group: cols },
                window,
            )
        })
    })
}

/// Every dtype that a window of this piece reads or writes.
fn moved(piece: &Segment) -> Vec<DType> {
    let mut all: Vec<DType> = operands(piece).map(|o| o.dtype).collect();
    match piece.op {
        OutputOp::Encode(e) => all.push(e.dtype()),
        OutputOp::Transcode(to) => all.push(to),
        OutputOp::Copy | OutputOp::Measure => {}
    }
    all
}

fn whole_rows(piece: &Segment, ask: &MetricSet) -> bool {
    piece.importance.is_some() && job::whole_rows(piece.op, ask)
}

/// Bytes that an element of each of `dtypes` takes.
fn bytes_of(dtypes: &[DType]) -> u64 {
    dtypes.iter().map(|d| d.block_bytes().div_ceil(d.block_len())).sum()
}

fn operands(piece: &Segment) -> impl Iterator<Item = &Operand> {
    core::iter::once(&piece.from).chain(piece.against.as_deref())
}

/// Rows that a window must not split for an operand. Rows of a transposed one are its columns, which lie in blocks.
fn rows_together(operand: &Operand) -> u64 {
    match operand.map {
        RowMap::Transpose { step: 1 } => operand.dtype.block_len().max(1),
        map => map.group(),
    }
}

/// Bytes of parts, and room to decode them, for an element of the packed weights of a piece.
fn packed_bytes(piece: &Segment) -> u64 {
    // Stored bytes, and what a decoder holds: codes in 16 bits, scales, zeros.
    const PARTS: u64 = 8;
    const GROUP: u64 = 12;
    let bytes = |o: &Operand| {
        let groups = o.packed.as_deref().map(|packed| packed.groups_read().saturating_mul(GROUP));
        groups.map_or(0, |bytes| bytes.div_ceil(LEAF as u64).saturating_add(PARTS))
    };
    operands(piece).map(bytes).fold(0, u64::saturating_add)
}

/// Refuses a view of a packed weight that is no rectangle of it.
fn check_packed(output: &Output, piece: &Segment) -> Result<()> {
    let rows = 0..piece.rows.end.saturating_sub(piece.rows.start);
    let fits = |o: &Operand| {
        let view = OperandView::of(o, output.grid.cols, &rows, &(0..output.grid.cols));
        o.packed.as_deref().is_none_or(|packed| packed.rectangle(view.of, &view.rows, &view.cols).is_some())
    };
    if rows.is_empty() || operands(piece).all(fits) {
        return Ok(());
    }
    Err(Error::new(Code::UnsupportedDtype, "a quantized weight is not decoded in rows of another length"))
}

/// Chooses the window of a piece within the budget.
fn cut(output: &Output, piece: &Segment, budget: &Budget, window: u64) -> Result<WindowSize> {
    check_packed(output, piece)?;
    let cols = output.grid.cols;
    let moved = moved(piece);
    let asked = output.metrics.encodings.iter().chain(&output.metrics.identity).map(|e| e.dtype());
    // Those whose blocks a window must not split.
    let dtypes: Vec<DType> = moved.iter().copied().chain(asked).collect();
    let straddle = rows_per_block_boundary(cols, dtypes.iter().copied());
    let height = piece.rows.end - piece.rows.start;
    let turned = rotation_granularity(&piece.from.ops, Axis::Out, height);
    let group = operands(piece).fold(lcm(straddle, turned), |g, o| lcm(g, rows_together(o)));
    let align = dtypes.iter().fold(LEAF as u64, |a, d| lcm(a, d.block_len()));
    let align = lcm(align, rotation_granularity(&piece.from.ops, Axis::In, cols));
    // Bytes held for each element: what is read, what is written, and values in hand while a group is whole (their
    // two sides, a third copy where rows are put in order, weights as they are read and as they are used).
    let turns = piece.from.ops.iter().any(|op| matches!(op, Op::Rotate(_)));
    let mapped = turns || operands(piece).any(|o| o.map != RowMap::Identity);
    let weights = if piece.importance.is_some() { 8 } else { 0 };
    let wide = if piece.from.ops.contains(&Op::Widen) { 8 } else { 0 };
    let values = weights + wide + if mapped { 12 } else { 8 };
    // Blocks are taken apart in a copy.
    let values = if output.streams.is_empty() { values } else { values + bytes_of(&[output.dtype]) };
    let gaps = operands(piece).map(|o| o.map.elements_read() - 1).sum::<u64>().saturating_mul(8);
    let per_element = (bytes_of(&dtypes) + values).saturating_add(gaps).saturating_add(packed_bytes(piece));
    let share = budget.memory / u64::from(budget.workers.max(1));
    let room = share / per_element;
    let swaps = operands(piece).any(|o| matches!(o.map, RowMap::SwapColumns { .. }));
    let whole_rows = straddle != 1 || swaps || whole_rows(piece, &output.metrics);
    let least_cols = if whole_rows { cols } else { cols.min(align) };
    let least = group.saturating_mul(least_cols);
    if least > room {
        let need = least.saturating_mul(per_element).saturating_mul(budget.workers.max(1).into());
        let message = format!("the smallest window of this tensor needs a memory budget of {need} bytes");
        return Err(Error::new(Code::MemoryBudget, message));
    }
    // The usual size is a matter of speed, and gives way to rows that must stay together.
    let usual = (window / bytes_of(&moved).max(1)).max(LEAST);
    // Runs of a part that is stored transposed are as long as the window has rows.
    let apart = |o: &Operand| o.packed.as_deref().is_some_and(Packed::is_stored_transposed);
    let usual = if operands(piece).any(apart) { usual.saturating_mul(16) } else { usual };
    let target = room.min(usual.max(least));
    if group.saturating_mul(cols) <= target {
        let groups = target / group / cols.max(1);
        return Ok(WindowSize { group, rows: groups.max(1) * group, cols, col_group: least_cols });
    }
    let narrow = target / group / align * align;
    let strips = Strips { group, align, cols, moved: bytes_of(&moved), per_element, share };
    let wide = if whole_rows || window > USUAL_WINDOW || transposes(piece) {
        narrow
    } else {
        strips.widened(narrow, piece.from.dtype)
    };
    Ok(WindowSize { group, rows: group, cols: wide, col_group: least_cols })
}

fn transposes(piece: &Segment) -> bool {
    operands(piece).any(|o| matches!(o.map, RowMap::Transpose { .. }))
}

/// Windows of many rows that are narrower than the rows: the rows of each lie apart in the file.
///
/// A window holds stored bytes for all of its columns, and values for those of one tile.
struct Strips {
    /// Rows of a window.
    group: u64,
    /// Columns that stay together.
    align: u64,
    /// Columns of the output.
    cols: u64,
    /// Bytes that are read and written for an element.
    moved: u64,
    /// Bytes held for an element of a tile.
    per_element: u64,
    /// Bytes that a window may hold.
    share: u64,
}

impl Strips {
    /// Columns of a window, at least `narrow`: so many that each row is a read of [`LONG_RUN`] bytes, or all, as far as the
    /// budget goes. Windows of an output are about equally wide.
    fn widened(&self, narrow: u64, dtype: DType) -> u64 {
        let tile = self
            .group
            .saturating_mul(job::tile_cols(self.group, self.align))
            .saturating_mul(self.per_element);
        let of_column = self.group.saturating_mul(self.moved).max(1);
        let affordable = self.share.saturating_sub(tile) / of_column / self.align * self.align;
        let long = (LONG_RUN / dtype.block_bytes().max(1)).saturating_mul(dtype.block_len());
        let wanted = long.div_ceil(self.align).saturating_mul(self.align);
        let most = affordable.min(wanted).max(narrow).min(self.cols);
        let windows = self.cols.div_ceil(most.max(1)).max(1);
        let even = self.cols.div_ceil(windows).div_ceil(self.align).saturating_mul(self.align);
        if most >= self.cols { self.cols } else { even.min(most) }
    }
}

/// How many windows a segment has.
fn count(output: &Output, piece: &Segment, cut: WindowSize) -> u64 {
    let height = piece.rows.end.saturating_sub(piece.rows.start);
    height.div_ceil(cut.rows) * output.grid.cols.div_ceil(cut.cols.max(1))
}

fn job(index: u32, output: &Output, piece: &Segment, cut: WindowSize, window: Window) -> Job {
    let cols = output.grid.cols;
    let below = |r: u64| r - piece.rows.start;
    let read = |o: &Operand| {
        let rows = below(window.rows.start)..below(window.rows.end);
        let view = OperandView::of(o, cols, &rows, &window.cols);
        let region = Region::of(o.dtype, o.at, view.of, &view.rows, &view.cols);
        let scale = (o.dtype.prefix_bytes() > 0).then_some(Op::TensorScale);
        let ops = o.ops.iter().filter_map(|op| within(*op, &window, below(window.rows.start)));
        reads_of(o, region, view, scale.into_iter().chain(ops).collect())
    };
    // The gains of the window's vectors, as a row.
    let gain = piece.gain.as_ref().map(|o| {
        let across = piece.from.ops.iter().any(|op| matches!(op, Op::Gain(Axis::Out)));
        let part = match across {
            true => below(window.rows.start)..below(window.rows.end),
            false => window.cols.clone(),
        };
        read_of(o, Region::of(o.dtype, o.at, cols.max(part.end), &(0..1), &part), o.ops.to_vec())
    });
    // The weights of the window's columns, which are those of every row.
    let weights = piece.importance.as_ref();
    let weights =
        weights.map(|o| read_of(o, Region::of(o.dtype, o.at, cols, &(0..1), &window.cols), o.ops.to_vec()));
    let scales = operands(piece).filter_map(tensor_scale);
    Job {
        output: index,
        grid: output.grid,
        row_group: cut.group,
        col_group: cut.col_group,
        has_gain: gain.is_some(),
        reads: operands(piece).flat_map(read).chain(weights).chain(scales).chain(gain).collect(),
        op: piece.op,
        writes: job::writes(output, piece, &window),
        metrics: output.metrics.clone(),
        window,
    }
}

/// Rows and columns of a tensor that is seen as a matrix of `of` columns.
struct OperandView {
    of: u64,
    rows: Range<u64>,
    cols: Range<u64>,
}

impl OperandView {
    /// What rows `rows` of a segment and columns `cols` of an output with `width` columns read of `operand`.
    fn of(operand: &Operand, width: u64, rows: &Range<u64>, cols: &Range<u64>) -> OperandView {
        let columns = operand.columns.as_deref().copied();
        let ColumnRange { at, of } = columns.unwrap_or(ColumnRange { at: 0, of: width });
        let (rows, cols) = match operand.map {
            RowMap::Transpose { step } => {
                let last = at + rows.end.saturating_sub(1) * step;
                (operand.row + cols.start..operand.row + cols.end, at + rows.start * step..last + 1)
            }
            _ => (operand.row + rows.start..operand.row + rows.end, at + cols.start..at + cols.end),
        };
        OperandView { of, rows, cols }
    }
}

/// The read of a region of an operand, and those of the other parts of a packed weight.
fn reads_of(operand: &Operand, region: Region, view: OperandView, ops: Vec<Op>) -> Vec<Read> {
    let mut first = read_of(operand, region, ops);
    let packed = operand.packed.as_ref();
    // `cut` has found that there is a rectangle.
    let Some((packed, at)) = packed.and_then(|p| Some((p, p.rectangle(view.of, &view.rows, &view.cols)?)))
    else {
        return Vec::from([first]);
    };
    let mut parts = packed.parts.iter().enumerate().map(|(index, part)| {
        let region = part_region(part, packed.part_cols(index), &packed.part(index, &at));
        let plain = Operand { file: part.file, dtype: part.dtype, map: RowMap::Identity, ..operand.clone() };
        read_of(&plain, region, Vec::new())
    });
    if let Some(codes) = parts.next() {
        first = Read { file: codes.file, region: codes.region, ..first };
    }
    let others: Vec<Read> = parts.collect();
    first.packed = Some(Box::new(PackedWindow { packed: packed.clone(), at }));
    core::iter::once(first).chain(others).collect()
}

/// The bytes of a rectangle of a part that is read as a matrix of `cols` columns.
fn part_region(part: &TensorInfo, cols: u64, of: &Rectangle) -> Region {
    let element = part.dtype.block_bytes();
    let (row, run) = (cols * element, (of.cols.end - of.cols.start) * element);
    let offset = part.bytes.start + of.rows.first * row + of.cols.start * element;
    if of.rows.step == 1 && run == row {
        let run = row * of.rows.count;
        return Region { offset, run, stride: run, count: 1 };
    }
    Region { offset, run, stride: of.rows.step * row, count: of.rows.count }
}

/// The read of a region of an operand. Generated values are carried along, and nothing is left to read.
fn read_of(operand: &Operand, region: Region, ops: Vec<Op>) -> Read {
    let &Operand { side, file, dtype, map, .. } = operand;
    if !operand.is_generated() {
        return Read { side, file, region, dtype, map, ops, literal: Vec::new(), packed: None };
    }
    let run = |(at, len): (u64, u64)| operand.values.get(at as usize..at.saturating_add(len) as usize);
    let literal = region.runs().filter_map(run).flatten().copied().collect();
    let region = Region { offset: 0, run: 0, stride: 0, count: 0 };
    Read { side, file, region, dtype, map, ops, literal, packed: None }
}

/// The read of the scale that is stored before an operand, if there is one.
fn tensor_scale(operand: &Operand) -> Option<Read> {
    let run = operand.dtype.prefix_bytes();
    let offset = operand.at.checked_sub(run).filter(|_| run > 0)?;
    let region = Region { offset, run, stride: run, count: 1 };
    Some(read_of(
        &Operand { dtype: DType::F32, map: RowMap::Identity, ..operand.clone() },
        region,
        Vec::new(),
    ))
}

/// A step as it is within a window that begins at `row` of its piece; none where it has no part in it.
fn within(op: Op, window: &Window, row: u64) -> Option<Op> {
    let Op::Rotate(mut turn) = op else { return Some(op) };
    let (start, len) = match turn.axis {
        Axis::Out => (row, window.height()),
        Axis::In => (window.cols.start, window.width()),
    };
    turn.at = turn.at.checked_sub(start).filter(|at| *at < len)?;
    Some(Op::Rotate(turn))
}
