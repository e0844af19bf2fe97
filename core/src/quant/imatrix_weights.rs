//! What encoders share when the importance of columns is given: from one row of importance to the weights of a batch
//! of sub-blocks, and super-blocks whose scales are shared out by those weights. Knows no layout of any one type.
//!
//! A value `x` counts `importance * sqrt(spread + x * x)`. Its spread is the mean square of its super-block (Q2_K),
//! twice that (Q3_K, Q4_K, Q5_K, IQ4_XS, and IQ4_NL of its block), or the mean square of its whole row (Q4_0, Q4_1,
//! Q5_0, Q5_1). Q6_K takes the importance itself. Mean squares are summed in index order.
//!
//! Values so loud that a spread is not finite are refused, and so are weights that leave a scale that is not.
//! Importance may be 0 anywhere. A sub-block in which nothing counts has the scale that its search starts from, or 0
//! where it starts from none; a super-block in which nothing counts has scale 0, and codes as the search left them.

use super::block::{self, Overflow};
use super::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};
use super::super_block::{LEN, SuperBlockValues};
use super::super_block_encode::{BATCH, SMALL_BATCH, SharedScales, encode_batches};
use super::{EncodeError, check_finite};
use alloc::vec;
use alloc::vec::Vec;

/// The grids of every type with a minimum. (`make_qkx3_quants`.)
pub const fn grid(top: i32) -> ScaleGrid {
    ScaleGrid { top, first: -0.9, step: 0.05, count: 36, absolute: false }
}

/// The importance of the columns of one row, in blocks of `N`; every row has the same.
#[derive(Clone, Copy)]
pub struct ColumnWeights<'a, const N: usize>(&'a [[f32; N]]);

impl<'a, const N: usize> ColumnWeights<'a, N> {
    /// # Panics
    /// Where `importance` is not whole blocks, or `src` not whole rows.
    pub fn new(importance: &'a [f32], src: &[f32]) -> ColumnWeights<'a, N> {
        let (blocks, rest) = importance.as_chunks::<N>();
        assert!(
            rest.is_empty() && src.len().is_multiple_of(importance.len()),
            "whole rows of weighted columns"
        );
        ColumnWeights(blocks)
    }

    /// The importance of `out.len()` blocks, the first of which has this number.
    #[inline(always)]
    pub fn copy(self, first: usize, mut out: &mut [[f32; N]]) {
        let mut at = first.checked_rem(self.0.len()).unwrap_or(0);
        while let Some(run) = self.0.get(at..).filter(|run| !run.is_empty() && !out.is_empty()) {
            let count = run.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&run[..count]);
            (out, at) = (later, 0);
        }
    }
}

/// Sums of squares over runs of `run` blocks, each in index order; eight runs go side by side, for none needs to wait
/// for the sum of another.
#[inline(always)]
fn square_sums(x: &[block::BlockValues], run: usize, sums: &mut [f32]) {
    let (eights, ones) = sums.as_chunks_mut::<8>();
    let (together, alone) = x.split_at(eights.len() * 8 * run);
    for (x, sums) in together.chunks(8 * run).zip(eights) {
        side_by_side(x, run, sums);
    }
    for (x, sum) in alone.chunks(run).zip(ones) {
        side_by_side(x, run, core::array::from_mut(sum));
    }
}

#[inline(always)]
fn side_by_side<const K: usize>(x: &[block::BlockValues], run: usize, sums: &mut [f32; K]) {
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

/// The weights of a batch of super-blocks of `P` sub-blocks.
pub struct SuperBlockWeights<const P: usize> {
    weights: [SuperBlockValues; BATCH],
    /// Those of the spread, which is not finite where the values are too loud for it.
    spreads: [f32; BATCH],
    /// Their sums over each sub-block.
    pub sums: [[f32; P]; BATCH],
}

impl<const P: usize> SuperBlockWeights<P> {
    /// The weights of sub-blocks of `N = 256 / P` values; `spread` is told the sum of squares of a super-block.
    #[inline(always)]
    pub fn new<const N: usize, S: ScaleSearch>(
        searches: S,
        columns: ColumnWeights<'_, LEN>,
        first: usize,
        values: &[SuperBlockValues],
        spread: impl Fn(f32) -> f32,
    ) -> SuperBlockWeights<P> {
        let mut all = SuperBlockWeights {
            weights: [[0.0; LEN]; BATCH],
            spreads: [0.0; BATCH],
            sums: [[0.0; P]; BATCH],
        };
        let count = values.len();
        let weights = &mut all.weights[..count];
        columns.copy(first, weights);
        square_sums(values.as_flattened().as_chunks().0, LEN / block::LEN, &mut all.spreads[..count]);
        all.spreads = all.spreads.map(spread);
        let spreads = all.spreads.map(|spread| [spread; P]);
        searches.weigh(
            values.as_flattened().as_chunks::<N>().0,
            &spreads.as_flattened()[..count * P],
            weights.as_flattened_mut().as_chunks_mut::<N>().0,
            &mut all.sums.as_flattened_mut()[..count * P],
        );
        all
    }

    /// Makes what was found for super-blocks that are too loud something that is not finite, and so refused: what ggml
    /// writes then is nonsense.
    #[inline(always)]
    pub fn spoil<T>(&self, found: &mut [T], scale: impl Fn(&mut T) -> &mut f32) {
        for (found, spread) in found.iter_mut().zip(self.spreads) {
            if !spread.is_finite() {
                *scale(found) = f32::NAN;
            }
        }
    }

    /// The weights, sub-block by sub-block.
    #[inline(always)]
    pub fn given<const N: usize>(&self) -> SearchWeights<'_, N> {
        SearchWeights::Given(self.weights.as_flattened().as_chunks::<N>().0)
    }
}

/// What is found for a super-block with minima.
#[derive(Clone, Copy)]
pub struct WeightedFit<const P: usize> {
    /// Of each sub-block.
    pub fits: [AffineFit; P],
    /// The scales of the sub-blocks.
    pub scales: SharedScales<P>,
    /// Their minima.
    pub mins: SharedScales<P>,
}

impl<const P: usize> WeightedFit<P> {
    const NOTHING: SharedScales<P> = SharedScales { scale: 0.0, codes: [0; P] };
    /// What a batch holds before the search.
    pub const BLANK: [WeightedFit<P>; BATCH] =
        [WeightedFit { fits: [AffineFit::ZERO; P], scales: Self::NOTHING, mins: Self::NOTHING }; BATCH];
}

/// Fits a batch with minima, then shares scales and minima out to integers up to `most`.
#[inline(always)]
pub fn with_minimum<const N: usize, const P: usize, S: ScaleSearch>(
    searches: S,
    grid: &ScaleGrid,
    most: i32,
    weighed: &SuperBlockWeights<P>,
    values: &[SuperBlockValues],
    found: &mut [WeightedFit<P>],
) {
    let (mut fits, mut numbers, mut sums) =
        ([[AffineFit::ZERO; P]; BATCH], [[0.0; P]; PAIRS], [[0.0; P]; PAIRS]);
    let x = values.as_flattened().as_chunks::<N>().0;
    searches.asymmetric(grid, x, weighed.given(), &mut fits.as_flattened_mut()[..x.len()]);
    let pairs = numbers.as_chunks_mut::<2>().0.iter_mut().zip(sums.as_chunks_mut::<2>().0);
    for (([scales, mins], both), (fits, sums)) in pairs.zip(fits.iter().zip(&weighed.sums)) {
        (*scales, *mins) = (fits.map(|f| searchable(f.scale)), fits.map(|f| searchable(f.min)));
        *both = [*sums; 2];
    }
    let (mut codes, mut shares) = ([[0; P]; PAIRS], [0.0; PAIRS]);
    let count = 2 * values.len();
    searches.scale_of_scales(
        most,
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
    weighed.spoil(found, |found| &mut found.fits[0].scale);
}

/// Scales and minima of a batch.
const PAIRS: usize = 2 * BATCH;

/// Searches are promised finite numbers; a super-block with others is refused when it is written.
#[inline(always)]
pub fn searchable(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

/// Encodes blocks of 32 whose spread is the mean square of their row, the fit found by `search`.
#[inline(always)]
pub fn encode_rows<S: ScaleSearch, const B: usize>(
    searches: S,
    src: &[f32],
    importance: &[f32],
    out: &mut [u8],
    search: impl Fn(&[block::BlockValues], SearchWeights<'_, { block::LEN }>, &mut [AffineFit]),
    write: impl Fn(&block::BlockValues, &AffineFit, &mut [u8; B]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    let columns = ColumnWeights::new(importance, src);
    let blocks_per_row = columns.0.len().max(1);
    let of_rows = row_spreads(src, blocks_per_row);
    let search = |first, values: &[block::BlockValues], fits: &mut [AffineFit]| {
        let mut spreads = [0.0; SMALL_BATCH];
        for (i, spread) in spreads[..values.len()].iter_mut().enumerate() {
            *spread = of_rows[(first + i) / blocks_per_row];
        }
        let mut weights = [[0.0; block::LEN]; SMALL_BATCH];
        weigh_blocks(searches, columns, first, values, &spreads, &mut weights);
        search(values, SearchWeights::Given(&weights), fits);
    };
    let blank = [AffineFit::ZERO; SMALL_BATCH];
    let Some(loud) = of_rows.iter().position(|spread| !spread.is_finite()) else {
        return encode_batches(src, out, blank, search, write);
    };
    // A row too loud for a spread: what comes before it may have to be refused first.
    check_finite(src)?;
    let before = loud * blocks_per_row;
    encode_batches(&src[..before * block::LEN], &mut out[..before * B], blank, search, write)?;
    let row = &src[before * block::LEN..][..blocks_per_row * block::LEN];
    let loudest = (0..row.len()).reduce(|a, b| if row[b].abs() > row[a].abs() { b } else { a });
    Err(EncodeError::F16Overflow { index: before * block::LEN + loudest.unwrap_or(0) })
}

/// Fills in the weights of a batch of blocks of 32 that have these spreads.
#[inline(always)]
pub fn weigh_blocks<S: ScaleSearch>(
    searches: S,
    columns: ColumnWeights<'_, { block::LEN }>,
    first: usize,
    values: &[block::BlockValues],
    spreads: &[f32; SMALL_BATCH],
    weights: &mut [block::BlockValues; SMALL_BATCH],
) {
    let (weights, mut sums) = (&mut weights[..values.len()], [0.0; SMALL_BATCH]);
    columns.copy(first, weights);
    searches.weigh(values, &spreads[..values.len()], weights, &mut sums[..values.len()]);
}

/// Sums of squares of the blocks of a batch.
#[inline(always)]
pub fn block_squares(values: &[block::BlockValues]) -> [f32; SMALL_BATCH] {
    let mut sums = [0.0; SMALL_BATCH];
    square_sums(values, 1, &mut sums[..values.len()]);
    sums
}

/// The mean square of each row.
#[inline(always)]
fn row_spreads(src: &[f32], blocks_per_row: usize) -> Vec<f32> {
    let blocks = src.as_chunks().0;
    let mut sums = vec![0.0; blocks.len() / blocks_per_row];
    square_sums(blocks, blocks_per_row, &mut sums);
    for sum in &mut sums {
        *sum /= (blocks_per_row * block::LEN) as f32;
    }
    sums
}
