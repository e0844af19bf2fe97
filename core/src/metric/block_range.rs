//! Expected range of a block of values, estimated from a histogram alone.
//!
//! The values of a block are modelled as independent draws from the histogram. In real tensors, rows or
//! columns of larger values put similar values into one block, so the real range is smaller than this
//! estimate.

use super::Histogram;
use alloc::vec::Vec;

/// Values in ascending order, each with its share of all values.
struct ShareTable(Vec<(f64, f64)>);

impl ShareTable {
    /// Centres of the buckets and their shares.
    fn of(histogram: &Histogram) -> ShareTable {
        let n = histogram.finite().max(1) as f64;
        ShareTable(
            histogram.buckets().map(|(low, high, count)| ((low + high) / 2.0, count as f64 / n)).collect(),
        )
    }

    /// The standard normal distribution from -8 to 8 in steps of 0.01.
    fn normal() -> ShareTable {
        let density = |x: f64| libm::exp(-x * x / 2.0) / libm::sqrt(2.0 * core::f64::consts::PI);
        ShareTable((-800..=800).map(|i| f64::from(i) / 100.0).map(|x| (x, density(x) / 100.0)).collect())
    }

    /// The distribution of the absolute values.
    fn magnitudes(&self) -> ShareTable {
        let mut all: Vec<(f64, f64)> = self.0.iter().map(|(x, share)| (x.abs(), *share)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        ShareTable(all)
    }

    /// The distribution of the negated values.
    fn negated(&self) -> ShareTable {
        ShareTable(self.0.iter().rev().map(|(x, share)| (-x, *share)).collect())
    }

    /// Mean of the squared values.
    fn mean_square(&self) -> f64 {
        self.0.iter().map(|(x, share)| x * x * share).sum()
    }

    /// Mean and mean square of the maximum of `block` independent draws.
    fn maximum_of(&self, block: u32) -> (f64, f64) {
        let (mut cumulative, mut previous) = (0.0_f64, 0.0);
        let (mut mean, mut square) = (0.0, 0.0);
        for (x, share) in &self.0 {
            cumulative = (cumulative + share).min(1.0);
            let at_most = libm::pow(cumulative, f64::from(block));
            mean += x * (at_most - previous);
            square += x * x * (at_most - previous);
            previous = at_most;
        }
        (mean, square)
    }

    /// Mean square of a block's range, relative to the mean square of its values.
    fn relative_range(&self, block: u32, symmetric: bool) -> f64 {
        let square = match symmetric {
            true => 4.0 * self.magnitudes().maximum_of(block).1,
            // Minimum and maximum of a block of many values are almost independent.
            false => {
                let ((top, top2), (low, low2)) = (self.maximum_of(block), self.negated().maximum_of(block));
                top2 + low2 + 2.0 * top * low
            }
        };
        square / self.mean_square()
    }
}

/// Mean square of a block's range relative to the mean square of the values, divided by the same ratio of
/// Gaussian noise.
///
/// `block` is the number of values in a block. The range is `maximum - minimum`, or twice the largest
/// magnitude if `symmetric`. The squared error of a uniform grid over the range is proportional to the
/// result, so above 1 a rotation towards a Gaussian distribution lowers the error.
///
/// Returns `None` if all values are zero or there are none.
pub fn spread_over_gaussian(histogram: &Histogram, block: u32, symmetric: bool) -> Option<f64> {
    let shares = ShareTable::of(histogram);
    let range = (shares.mean_square() > 0.0).then(|| shares.relative_range(block, symmetric))?;
    Some(range / ShareTable::normal().relative_range(block, symmetric)).filter(|x| x.is_finite())
}
