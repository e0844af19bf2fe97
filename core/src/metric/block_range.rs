//! What a histogram alone says of the blocks that values make: how far the ends of a block lie apart.
//!
//! Blocks are taken as drawn from the histogram, one value as likely anywhere as another. Real tensors are not so: where whole
//! rows or columns are larger, blocks hold values of a kind, and their ends lie closer than this says.

use super::Histogram;
use alloc::vec::Vec;

/// Values in order, and the share of each.
struct ShareTable(Vec<(f64, f64)>);

impl ShareTable {
    fn of(histogram: &Histogram) -> ShareTable {
        let n = histogram.finite().max(1) as f64;
        ShareTable(
            histogram.buckets().map(|(low, high, count)| ((low + high) / 2.0, count as f64 / n)).collect(),
        )
    }

    /// The normal distribution in steps of a hundredth.
    fn normal() -> ShareTable {
        let density = |x: f64| libm::exp(-x * x / 2.0) / libm::sqrt(2.0 * core::f64::consts::PI);
        ShareTable((-800..=800).map(|i| f64::from(i) / 100.0).map(|x| (x, density(x) / 100.0)).collect())
    }

    fn magnitudes(&self) -> ShareTable {
        let mut all: Vec<(f64, f64)> = self.0.iter().map(|(x, share)| (x.abs(), *share)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        ShareTable(all)
    }

    fn negated(&self) -> ShareTable {
        ShareTable(self.0.iter().rev().map(|(x, share)| (-x, *share)).collect())
    }

    fn mean_square(&self) -> f64 {
        self.0.iter().map(|(x, share)| x * x * share).sum()
    }

    /// Mean and mean square of the greatest of `block` values.
    fn greatest(&self, block: u32) -> (f64, f64) {
        let (mut below, mut before) = (0.0_f64, 0.0);
        let (mut mean, mut square) = (0.0, 0.0);
        for (x, share) in &self.0 {
            below = (below + share).min(1.0);
            let upto = libm::pow(below, f64::from(block));
            mean += x * (upto - before);
            square += x * x * (upto - before);
            before = upto;
        }
        (mean, square)
    }

    /// Mean square of the span of a block, relative to that of its values.
    fn spread(&self, block: u32, symmetric: bool) -> f64 {
        let square = match symmetric {
            true => 4.0 * self.magnitudes().greatest(block).1,
            // The two ends of a block of many values hardly know of each other.
            false => {
                let ((top, top2), (low, low2)) = (self.greatest(block), self.negated().greatest(block));
                top2 + low2 + 2.0 * top * low
            }
        };
        square / self.mean_square()
    }
}

/// The mean square of the span of a block of `block` values, relative to the values' own, as many times that of Gaussian noise.
///
/// The span is from the least value to the greatest, or twice the greatest magnitude where `symmetric`. The error of a grid of
/// equal steps over the span grows with it. `None` where all values are zeros, or there are none.
pub fn spread_over_gaussian(histogram: &Histogram, block: u32, symmetric: bool) -> Option<f64> {
    let shares = ShareTable::of(histogram);
    let spread = (shares.mean_square() > 0.0).then(|| shares.spread(block, symmetric))?;
    Some(spread / ShareTable::normal().spread(block, symmetric)).filter(|x| x.is_finite())
}
