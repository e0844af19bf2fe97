//! Gathers what a job measures, tile by tile, as complete nodes of the fixed merge trees. Knows no regions and no files.

use super::wide::{TileValues, pair};
use super::{Job, Window, refused};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::metric::{
    ByteComparison, Histogram, LEAF, Measurements, Merge, MergeTree, Node, PairSums, Tally, moments_leaf_f64,
};
use crate::quant::{EncodeError, Encoding};
use alloc::vec::Vec;
use core::ops::Range;

/// Measures the tiles of a job.
pub(super) struct MetricCollector<'a> {
    job: &'a Job,
    histogram: Option<Histogram>,
    found: Measurements,
}

impl<'a> MetricCollector<'a> {
    pub(super) fn new(job: &'a Job) -> MetricCollector<'a> {
        let histogram = job.metrics.histogram.then(Histogram::default);
        MetricCollector { job, histogram, found: job.metrics.measurements(&job.grid) }
    }

    pub(super) fn source(&mut self, kernels: &dyn Kernels, tile: &Window, values: TileValues<'_>) {
        if self.job.metrics.moments {
            gather(&mut self.found.moments, self.job, tile, &mut |at| match values {
                TileValues::Single(x) => kernels.moments(&x[at]),
                TileValues::Double(x) => moments_leaf_f64(&x[at]),
            });
        }
        if let Some(histogram) = &mut self.histogram {
            match values {
                TileValues::Single(x) => kernels.count(histogram, x),
                TileValues::Double(x) => histogram.add_f64(x),
            }
        }
    }

    /// Plain floats that were written although they are NaN or infinite.
    pub(super) fn passed(&mut self, found: &Tally) {
        self.found.nonfinite.merge(found);
    }

    /// Elements that differ from the candidate's by more than rounding.
    pub(super) fn beyond_rounding(&mut self, found: &Tally) {
        self.found.beyond_rounding.merge(found);
    }

    pub(super) fn error(
        &mut self,
        kernels: &dyn Kernels,
        tile: &Window,
        values: TileValues<'_>,
        other: TileValues<'_>,
    ) {
        if self.job.metrics.error {
            add_error(kernels, &mut self.found.error, self.job, tile, values, other);
        }
    }

    /// Encodes a tile as the asked encoding with this index, and measures that.
    #[expect(clippy::too_many_arguments, reason = "what a tile has, and where it may be encoded")]
    pub(super) fn encoding(
        &mut self,
        kernels: &dyn Kernels,
        index: usize,
        tile: &Window,
        (values, reference): (&[f32], TileValues<'_>),
        weights: Option<&[f32]>,
        bytes: &mut Vec<u8>,
        other: &mut Vec<f32>,
    ) {
        let (Some(encoding), Some(Ok(_))) =
            (self.job.metrics.encodings.get(index), self.found.encodings.get(index))
        else {
            return;
        };
        match encode_tile(kernels, *encoding, tile, values, weights, bytes) {
            Ok(()) => self.device_output(kernels, index, tile, reference, bytes, other),
            Err(r) => self.found.encodings[index] = Err(refused(self.job, tile, r)),
        }
    }

    /// Measures a tile that is encoded already.
    pub(super) fn device_output(
        &mut self,
        kernels: &dyn Kernels,
        index: usize,
        tile: &Window,
        values: TileValues<'_>,
        bytes: &[u8],
        other: &mut Vec<f32>,
    ) {
        let (Some(encoding), Some(slot)) =
            (self.job.metrics.encodings.get(index), self.found.encodings.get_mut(index))
        else {
            return;
        };
        let Ok(forest) = slot else { return };
        other.resize(values.len(), 0.0);
        match kernels.decode(encoding.dtype(), bytes, other) {
            Ok(()) => add_error(kernels, forest, self.job, tile, values, TileValues::Single(other)),
            Err(r) => *slot = Err(refused(self.job, tile, r)),
        }
    }

    /// Nothing of these values can be encoded.
    pub(super) fn refuse(&mut self, why: &Error) {
        for slot in self.found.encodings.iter_mut().filter(|s| s.is_ok()) {
            *slot = Err(why.clone());
        }
        self.found.identity.iter_mut().for_each(|found| found.refused = true);
    }

    pub(super) fn identity(
        &mut self,
        kernels: &dyn Kernels,
        tile: &Window,
        values: &[f32],
        weights: Option<&[f32]>,
        candidate: &[u8],
        bytes: &mut Vec<u8>,
    ) {
        for (encoding, found) in self.job.metrics.identity.iter().zip(&mut self.found.identity) {
            if encode_tile(kernels, *encoding, tile, values, weights, bytes).is_err() {
                found.refused = true;
                continue;
            }
            found.merge(&differing(self.job, tile, encoding.dtype(), bytes, candidate));
        }
    }

    /// What a transcode gave, or that it refused, against the candidate's blocks.
    pub(super) fn transcoded(&mut self, tile: &Window, to: DType, made: Option<&mut [u8]>, candidate: &[u8]) {
        let refused = ByteComparison { refused: true, ..ByteComparison::default() };
        let found = made.map_or(refused, |made| differing(self.job, tile, to, made, candidate));
        self.found.bytes.get_or_insert_default().merge(&found);
    }

    pub(super) fn finish(mut self) -> Measurements {
        if let (Some(packed), Some(histogram)) = (&mut self.found.histogram, &self.histogram) {
            packed.merge(histogram);
        }
        self.found
    }
}

/// The blocks of a tile in which two encodings of it differ.
fn differing(job: &Job, tile: &Window, dtype: DType, made: &[u8], candidate: &[u8]) -> ByteComparison {
    let mut found = ByteComparison::default();
    let size = dtype.block_bytes() as usize;
    let blocks = made.chunks(size).zip(candidate.chunks(size));
    for (i, _) in blocks.enumerate().filter(|(_, (a, b))| a != b) {
        let (w, i) = (tile.width().max(1), i as u64 * dtype.block_len());
        let row = job.window.rows.start + tile.rows.start + i / w;
        let at = row * job.grid.cols + job.window.cols.start + tile.cols.start + i % w;
        found.merge(&ByteComparison { differing: 1, first: Some(at), refused: false });
    }
    found
}

fn add_error(
    kernels: &dyn Kernels,
    forest: &mut MergeTree<PairSums>,
    job: &Job,
    tile: &Window,
    values: TileValues<'_>,
    other: TileValues<'_>,
) {
    gather(forest, job, tile, &mut |at| pair(kernels, values, other, at));
}

/// Measures every leaf of a tile by its elements. Aligned intervals of leaves are merged on the spot, as the tree would
/// merge them, so that the forest is asked once for many leaves.
fn gather<M: Merge>(
    forest: &mut MergeTree<M>,
    job: &Job,
    tile: &Window,
    measure: &mut dyn FnMut(Range<usize>) -> M,
) {
    let width = tile.width() as usize;
    let first = (job.window.cols.start + tile.cols.start) / LEAF as u64;
    let end = first + width.div_ceil(LEAF) as u64;
    for (i, row) in tile.rows.clone().enumerate() {
        let mut elements = |leaf: u64| {
            let col = (leaf - first) as usize * LEAF;
            measure(i * width + col..i * width + (col + LEAF).min(width))
        };
        let mut at = first;
        while at < end {
            let level = at.trailing_zeros().min((end - at).ilog2());
            let value = subtree(level, at, &mut elements);
            let row = Some(job.window.rows.start + row);
            forest.insert(Node { row, level: level as u8, index: at >> level, value });
            at += 1 << level;
        }
    }
}

/// The measurement of the `2^level` leaves from `at` on.
fn subtree<M: Merge>(level: u32, at: u64, leaf: &mut dyn FnMut(u64) -> M) -> M {
    match level.checked_sub(1) {
        None => leaf(at),
        Some(below) => {
            let left = subtree(below, at, leaf);
            left.merge(&subtree(below, at + (1 << below), leaf))
        }
    }
}

fn encode_tile(
    kernels: &dyn Kernels,
    encoding: Encoding,
    tile: &Window,
    values: &[f32],
    weights: Option<&[f32]>,
    bytes: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let n = tile.width() * tile.height();
    bytes.resize(encoding.dtype().bytes_for(n).unwrap_or(0) as usize, 0);
    kernels.encode(encoding, values, weights, bytes)
}
