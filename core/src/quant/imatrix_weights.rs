//! Importance weights of encoders: from one row of importance to the weights of a batch of sub-blocks, and
//! super-block scales that are fitted with these weights. Knows no layout of a single type.
//!
//! The weight of a value `x` is `importance * sqrt(sigma2 + x^2)`, as in ggml's `quantize_row_*_impl`.
//! `sigma2` depends on the type:
//!
//! | types | sigma2 |
//! |---|---|
//! | Q2_K | mean square of the super-block |
//! | Q3_K, Q4_K, Q5_K, IQ4_XS | twice the mean square of the super-block |
//! | IQ4_NL | twice the mean square of the block |
//! | Q4_0, Q4_1, Q5_0, Q5_1 | mean square of the row |
//!
//! Q6_K uses the importance itself. Mean squares are summed in index order.
//!
//! Values for which `sigma2` is not finite are refused, and so are weights that lead to a scale that is not
//! finite. Importance may be 0. A sub-block whose weights are all 0 has the start scale of its search, or 0
//! if the search has none. A super-block whose weights are all 0 has scale 0, and the codes of the search.

use super::block::{self, Overflow};
use super::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};
use super::super_block::{LEN, SuperBlockValues};
use super::super_block_encode::{BATCH, SMALL_BATCH, SharedScales, encode_batches};
use super::{EncodeError, check_finite};
use alloc::vec;
use alloc::vec::Vec;

/// Candidate scales of every type with a minimum (`make_qkx3_quants`); `top` is the top code.
pub(super) const fn grid(top: i32) -> ScaleGrid {
    ScaleGrid { top, first: -0.9, step: 0.05, count: 36, absolute: false }
}

/// Importance of the columns of one row, in blocks of `N`; the same for every row.
#[derive(Clone, Copy)]
pub(super) struct ColumnWeights<'a, const N: usize>(&'a [[f32; N]]);

impl<'a, const N: usize> ColumnWeights<'a, N> {
    /// Splits the importance of a row into blocks.
    ///
    /// # Panics
    ///
    /// If `importance` does not consist of whole blocks, or `src` of whole rows.
    pub(super) fn new(importance: &'a [f32], src: &[f32]) -> ColumnWeights<'a, N> {
        let (blocks, rest) = importance.as_chunks::<N>();
        assert!(
            rest.is_empty() && src.len().is_multiple_of(importance.len()),
            "whole rows of weighted columns"
        );
        ColumnWeights(blocks)
    }

    /// Writes the importance of `out.len()` blocks, of which the first has the index `first`.
    #[inline(always)]
    pub(super) fn copy(self, first: usize, mut out: &mut [[f32; N]]) {
        let mut at = first.checked_rem(self.0.len()).unwrap_or(0);
        while let Some(run) = self.0.get(at..).filter(|run| !run.is_empty() && !out.is_empty()) {
            let count = run.len().min(out.len());
            let (head, tail) = out.split_at_mut(count);
            head.copy_from_slice(&run[..count]);
            (out, at) = (tail, 0);
        }
    }
}

/// Sums of squares of every `run` blocks, each in index order. Eight sums are computed side by side, since
/// they are independent.
#[inline(always)]
fn square_sums(x: &[block::BlockValues], run: usize, sums: &mut [f32]) {
    let (eights, ones) = sums.as_chunks_mut::<8>();
    let (in_eights, single) = x.split_at(eights.len() * 8 * run);
    for (x, sums) in in_eights.chunks(8 * run).zip(eights) {
        interleaved_sums(x, run, sums);
    }
    for (x, sum) in single.chunks(run).zip(ones) {
        interleaved_sums(x, run, core::array::from_mut(sum));
    }
}

/// Sums of squares of `K` runs, side by side.
#[inline(always)]
fn interleaved_sums<const K: usize>(x: &[block::BlockValues], run: usize, sums: &mut [f32; K]) {
    *sums = [0.0; K];
    for at in 0..run {
        let blocks: [&block::BlockValues; K] = core::array::from_fn(|k| &x[k * run + at]);
        for l in 0..block::LEN {
            for (sum, block) in sums.iter_mut().zip(&blocks) {
                *sum += block[l] * block[l];
            }
        }
    }
}

/// Weights of a batch of super-blocks with `P` sub-blocks.
pub(super) struct SuperBlockWeights<const P: usize> {
    /// Weights of the values.
    weights: [SuperBlockValues; BATCH],
    /// `sigma2` of the super-blocks; not finite for values that are too large.
    sigma2: [f32; BATCH],
    /// Sums of the weights of each sub-block.
    pub sums: [[f32; P]; BATCH],
}

impl<const P: usize> SuperBlockWeights<P> {
    /// Computes the weights of sub-blocks with `N = 256 / P` values.
    ///
    /// `first` is the index of the first super-block; `sigma2` converts the sum of squares of a super-block.
    #[inline(always)]
    pub(super) fn new<const N: usize, S: ScaleSearch>(
        searches: S,
        columns: ColumnWeights<'_, LEN>,
        first: usize,
        values: &[SuperBlockValues],
        sigma2: impl Fn(f32) -> f32,
    ) -> SuperBlockWeights<P> {
        let mut all =
            SuperBlockWeights { weights: [[0.0; LEN]; BATCH], sigma2: [0.0; BATCH], sums: [[0.0; P]; BATCH] };
        let count = values.len();
        let weights = &mut all.weights[..count];
        columns.copy(first, weights);
        square_sums(values.as_flattened().as_chunks().0, LEN / block::LEN, &mut all.sigma2[..count]);
        all.sigma2 = all.sigma2.map(sigma2);
        let sigma2 = all.sigma2.map(|sigma2| [sigma2; P]);
        searches.weigh(
            values.as_flattened().as_chunks::<N>().0,
            &sigma2.as_flattened()[..count * P],
            weights.as_flattened_mut().as_chunks_mut::<N>().0,
            &mut all.sums.as_flattened_mut()[..count * P],
        );
        all
    }

    /// Sets the scale of super-blocks whose `sigma2` is not finite to NaN, so that they are refused. ggml
    /// writes invalid blocks for them.
    #[inline(always)]
    pub(super) fn invalidate_overflows<T>(&self, found: &mut [T], scale: impl Fn(&mut T) -> &mut f32) {
        for (found, sigma2) in found.iter_mut().zip(self.sigma2) {
            if !sigma2.is_finite() {
                *scale(found) = f32::NAN;
            }
        }
    }

    /// The weights by sub-block, for a search.
    #[inline(always)]
    pub(super) fn given<const N: usize>(&self) -> SearchWeights<'_, N> {
        SearchWeights::Given(self.weights.as_flattened().as_chunks::<N>().0)
    }
}

/// Search result of a super-block with minima.
#[derive(Clone, Copy)]
pub(super) struct WeightedFit<const P: usize> {
    /// Fits of the sub-blocks.
    pub fits: [AffineFit; P],
    /// Quantized scales of the sub-blocks.
    pub scales: SharedScales<P>,
    /// Quantized minima of the sub-blocks.
    pub mins: SharedScales<P>,
}

impl<const P: usize> WeightedFit<P> {
    /// Scales of a super-block of zeros.
    const NOTHING: SharedScales<P> = SharedScales { scale: 0.0, codes: [0; P] };
    /// Initial value of a batch.
    pub(super) const BLANK: [WeightedFit<P>; BATCH] =
        [WeightedFit { fits: [AffineFit::ZERO; P], scales: Self::NOTHING, mins: Self::NOTHING }; BATCH];
}

/// Fits the sub-blocks of a batch with scale and minimum, then quantizes scales and minima to integers up to
/// `top`.
#[inline(always)]
pub(super) fn fit_asymmetric<const N: usize, const P: usize, S: ScaleSearch>(
    searches: S,
    grid: &ScaleGrid,
    top: i32,
    block_weights: &SuperBlockWeights<P>,
    values: &[SuperBlockValues],
    found: &mut [WeightedFit<P>],
) {
    let (mut fits, mut numbers, mut sums) =
        ([[AffineFit::ZERO; P]; BATCH], [[0.0; P]; SCALES_AND_MINS], [[0.0; P]; SCALES_AND_MINS]);
    let x = values.as_flattened().as_chunks::<N>().0;
    searches.asymmetric(grid, x, block_weights.given(), &mut fits.as_flattened_mut()[..x.len()]);
    let pairs = numbers.as_chunks_mut::<2>().0.iter_mut().zip(sums.as_chunks_mut::<2>().0);
    for (([scales, mins], both), (fits, sums)) in pairs.zip(fits.iter().zip(&block_weights.sums)) {
        (*scales, *mins) = (fits.map(|f| searchable(f.scale)), fits.map(|f| searchable(f.min)));
        *both = [*sums; 2];
    }
    let (mut codes, mut shares) = ([[0; P]; SCALES_AND_MINS], [0.0; SCALES_AND_MINS]);
    let count = 2 * values.len();
    searches.scale_of_scales(
        top,
        &numbers[..count],
        &sums[..count],
        &mut codes[..count],
        &mut shares[..count],
    );
    let pairs = codes.as_chunks::<2>().0.iter().zip(shares.as_chunks::<2>().0);
    for ((found, fits), (&[scales, mins], &[d, dmin])) in found.iter_mut().zip(fits).zip(pairs) {
        let (scales, mins) =
            (SharedScales { scale: d, codes: scales }, SharedScales { scale: dmin, codes: mins });
        *found = WeightedFit { fits, scales, mins };
    }
    block_weights.invalidate_overflows(found, |found| &mut found.fits[0].scale);
}

/// Number of scales and minima of a batch.
const SCALES_AND_MINS: usize = 2 * BATCH;

/// Replaces infinities and NaN by 0, because searches require finite numbers. The super-block is refused when
/// it is written.
#[inline(always)]
pub(super) fn searchable(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

/// Encodes blocks of 32 whose `sigma2` is the mean square of their row; `search` finds the fits.
///
/// # Errors
///
/// As [`encode_batches`]; also [`EncodeError::F16Overflow`] for a row whose mean square is not finite, at its
/// value of largest magnitude.
#[inline(always)]
pub(super) fn encode_rows<S: ScaleSearch, const B: usize>(
    searches: S,
    src: &[f32],
    importance: &[f32],
    out: &mut [u8],
    search: impl Fn(&[block::BlockValues], SearchWeights<'_, { block::LEN }>, &mut [AffineFit]),
    write: impl Fn(&block::BlockValues, &AffineFit, &mut [u8; B]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    let columns = ColumnWeights::new(importance, src);
    let blocks_per_row = columns.0.len().max(1);
    let row_sigma2 = row_mean_squares(src, blocks_per_row);
    let search = |first, values: &[block::BlockValues], fits: &mut [AffineFit]| {
        let mut sigma2 = [0.0; SMALL_BATCH];
        for (i, sigma2) in sigma2[..values.len()].iter_mut().enumerate() {
            *sigma2 = row_sigma2[(first + i) / blocks_per_row];
        }
        let mut weights = [[0.0; block::LEN]; SMALL_BATCH];
        weigh_blocks(searches, columns, first, values, &sigma2, &mut weights);
        search(values, SearchWeights::Given(&weights), fits);
    };
    let blank = [AffineFit::ZERO; SMALL_BATCH];
    let Some(overflowing) = row_sigma2.iter().position(|sigma2| !sigma2.is_finite()) else {
        return encode_batches(src, out, blank, search, write);
    };
    // The mean square of a row is not finite. Values before that row may have to be refused first.
    check_finite(src)?;
    let before = overflowing * blocks_per_row;
    encode_batches(&src[..before * block::LEN], &mut out[..before * B], blank, search, write)?;
    let row = &src[before * block::LEN..][..blocks_per_row * block::LEN];
    let largest = (0..row.len()).reduce(|a, b| if row[b].abs() > row[a].abs() { b } else { a });
    Err(EncodeError::F16Overflow { index: before * block::LEN + largest.unwrap_or(0) })
}

/// Writes the weights of a batch of blocks of 32 with these `sigma2`.
#[inline(always)]
pub(super) fn weigh_blocks<S: ScaleSearch>(
    searches: S,
    columns: ColumnWeights<'_, { block::LEN }>,
    first: usize,
    values: &[block::BlockValues],
    sigma2: &[f32; SMALL_BATCH],
    weights: &mut [block::BlockValues; SMALL_BATCH],
) {
    let (weights, mut sums) = (&mut weights[..values.len()], [0.0; SMALL_BATCH]);
    columns.copy(first, weights);
    searches.weigh(values, &sigma2[..values.len()], weights, &mut sums[..values.len()]);
}

/// Sums of squares of the blocks of a batch.
#[inline(always)]
pub(super) fn block_squares(values: &[block::BlockValues]) -> [f32; SMALL_BATCH] {
    let mut sums = [0.0; SMALL_BATCH];
    square_sums(values, 1, &mut sums[..values.len()]);
    sums
}

/// Mean square of each row.
#[inline(always)]
fn row_mean_squares(src: &[f32], blocks_per_row: usize) -> Vec<f32> {
    let blocks = src.as_chunks().0;
    let mut sums = vec![0.0; blocks.len() / blocks_per_row];
    square_sums(blocks, blocks_per_row, &mut sums);
    for sum in &mut sums {
        *sum /= (blocks_per_row * block::LEN) as f32;
    }
    sums
}
