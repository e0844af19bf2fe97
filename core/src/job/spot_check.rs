//! Blocks that a device made, made again: which ones chance takes, and what came of it.
//!
//! Every block is taken or not by its own place, whatever the windows are. A device that spoils `k` blocks of a run,
//! wherever they are, so goes unseen with the probability `(1 - 1/256)^k`.

use super::{Job, Window};
use crate::dtype::DType;
use crate::plan::lcm;
use core::ops::Range;
use serde::Serialize;

/// One block of so many is made again.
pub const SAMPLE_RATE: u64 = 256;

/// What was made by a device, and made again by the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpotCheckStats {
    /// Blocks that a device made.
    pub blocks: u64,
    /// Those of them that the processor made too.
    pub checked: u64,
    /// Those of which the bytes were others.
    pub differing: u64,
}

impl SpotCheckStats {
    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: &SpotCheckStats) {
        self.blocks += other.blocks;
        self.checked += other.checked;
        self.differing += other.differing;
    }

    /// The probability that a device which spoils this share of all blocks was not seen.
    pub fn missed(&self, share: f64) -> f64 {
        libm::pow(1.0 - 1.0 / SAMPLE_RATE as f64, libm::floor(self.blocks as f64 * share))
    }

    /// The smallest share of wrong blocks that goes unseen with at most this probability; none where there are too few
    /// blocks for any.
    pub fn detectable_share(&self, probability: f64) -> Option<f64> {
        let wrong = libm::ceil(libm::log(probability) / libm::log(1.0 - 1.0 / SAMPLE_RATE as f64));
        (self.blocks as f64 >= wrong).then(|| wrong / self.blocks as f64)
    }
}

/// Decides which blocks are made again. The seed is no secret: a device does not know it, that is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotCheck {
    /// Another seed takes other blocks.
    pub seed: u64,
    /// What was found so far.
    pub found: SpotCheckStats,
}

impl SpotCheck {
    /// Nothing is found yet.
    pub fn new(seed: u64) -> SpotCheck {
        SpotCheck { seed, found: SpotCheckStats::default() }
    }

    /// Holds stretches of a tile that chance takes against what `again` makes of their elements: whether it is `made`.
    pub(super) fn tile(
        &mut self,
        job: &Job,
        tile: &Window,
        (from, to): (DType, DType),
        mut again: impl FnMut(Range<usize>) -> bool,
    ) {
        // The least that is whole blocks of both; nearly always one block.
        let unit = lcm(from.block_len(), to.block_len()).max(1);
        let (width, elements) = (tile.width().max(1), tile.width() * tile.height());
        self.found.blocks += elements.div_ceil(unit);
        for at in (0..elements).step_by(unit as usize) {
            let row = job.window.rows.start + tile.rows.start + at / width;
            let col = job.window.cols.start + tile.cols.start + at % width;
            if !self.samples(job.output, row, col) {
                continue;
            }
            let end = (at + unit).min(elements);
            self.found.checked += 1;
            if !again(at as usize..end as usize) {
                self.found.differing += 1;
            }
        }
    }

    fn samples(&self, output: u32, row: u64, col: u64) -> bool {
        let place = mix(mix(mix(self.seed) ^ u64::from(output)) ^ row) ^ col;
        mix(place) < u64::MAX / SAMPLE_RATE
    }
}

/// SplitMix64.
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
