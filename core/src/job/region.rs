//! Regions: runs of bytes at equal distances, and the reads that fetch them.

use crate::dtype::DType;
use core::ops::Range;
use serde::Serialize;

/// `count` runs of `run` bytes, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Byte offset of the first run.
    pub offset: u64,
    /// Bytes of one run.
    pub run: u64,
    /// Bytes from one run's start to the next.
    pub stride: u64,
    /// Number of runs.
    pub count: u64,
}

impl Region {
    /// Number of bytes in all runs.
    pub fn len(&self) -> u64 {
        self.run * self.count
    }

    /// Whether there is nothing to read or write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The runs as `(offset, bytes)`.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let Region { offset, run, stride, count } = *self;
        (0..count).map(move |i| (offset + i * stride, run))
    }
}

/// Bytes of a run that are worth a read of its own.
pub const LONG_RUN: u64 = 64 << 10;
/// Bytes that a read of a piece with gaps holds at most.
const PIECE: u64 = 256 << 10;
/// The most bytes that are read for each byte of a region.
const MOST_READ: u64 = 16;

/// Consecutive runs of a region that are read at once, with the bytes between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Byte offset of the first run.
    pub offset: u64,
    /// Bytes from the first run's start to the last run's end.
    pub len: u64,
    /// Number of runs.
    pub runs: u64,
}

impl Region {
    /// The region in reads that are worth their cost. Short runs that lie close together are read with the bytes between them, in
    /// pieces of up to 256 KiB: a read of 64 KiB costs little more than one of a few hundred bytes. Runs of [`LONG_RUN`] bytes
    /// or more, and runs that are less than a sixteenth of their distance, are read one by one.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + use<> {
        let Region { offset, run, stride, count } = *self;
        let close = run < LONG_RUN && run <= stride && stride <= run.saturating_mul(MOST_READ);
        let together = if close { (PIECE / stride.max(1)).max(1) } else { 1 };
        (0..count.div_ceil(together)).map(move |i| {
            let first = i * together;
            let runs = together.min(count - first);
            Piece { offset: offset + first * stride, len: (runs - 1) * stride + run, runs }
        })
    }
}

impl Region {
    /// The bytes of a window in a tensor at `at`. Sizes were checked against the file (or the plan) when it was parsed,
    /// and windows fall on block borders, so nothing here can overflow; a wrong one would fail its read.
    pub(crate) fn of(
        dtype: DType,
        at: u64,
        cols: u64,
        rows: &Range<u64>,
        window_cols: &Range<u64>,
    ) -> Region {
        let bytes = |n: u64| dtype.bytes_for(n).unwrap_or(0);
        let height = rows.end - rows.start;
        let width = window_cols.end - window_cols.start;
        if width == cols {
            let run = bytes(height * cols);
            return Region { offset: at + bytes(rows.start * cols), run, stride: run, count: 1 };
        }
        let stride = bytes(cols);
        let offset = at + rows.start * stride + bytes(window_cols.start);
        Region { offset, run: bytes(width), stride, count: height }
    }
}
