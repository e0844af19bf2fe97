//! The seam between the types that search and the engines that run their searches: what is asked, not how.
//!
//! A type hands over the sub-blocks of several super-blocks at once, so that an engine may run its lanes across
//! sub-blocks: within one, every sum runs in index order, each product from the left, and candidates are tried one
//! after the other. `scalar_search` is the definition.

use super::scalar_search::ScalarSearch;

/// A sub-block whose greatest magnitude is below this is taken for zeros.
pub const EPSILON: f32 = 1e-15;

/// What approximates a sub-block, `scale * code - min` with `min` not negative, and how its codes were chosen: as
/// those of `inverse * (x - base)`. Where `inverse` is 0, every code is the lowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineFit {
    /// The scale; not finite where the sums overflowed.
    pub scale: f32,
    /// What is subtracted.
    pub min: f32,
    /// One over the step of the winning grid.
    pub inverse: f32,
    /// The value that the winning grid has at code 0.
    pub base: f32,
}

impl AffineFit {
    /// That of zeros.
    pub const ZERO: AffineFit = AffineFit { scale: 0.0, min: 0.0, inverse: 0.0, base: 0.0 };
}

/// The codes that [`ScaleSearch::q3_refine`] finds for a sub-block, and their scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefinedFit<const N: usize> {
    /// The scale; not finite where the sums overflowed.
    pub scale: f32,
    /// The codes, counted from the lowest.
    pub codes: [u8; N],
}

/// Which grids are tried: as if the top code were `top + first + step * k`, for `k` in `0..=count`.
#[derive(Clone, Copy, Debug)]
pub struct ScaleGrid {
    /// The top code.
    pub top: i32,
    /// What the first grid adds to it.
    pub first: f32,
    /// What each next grid adds.
    pub step: f32,
    /// Grids after the first.
    pub count: i32,
    /// Judge candidates by the sum of magnitudes instead of squares.
    pub absolute: bool,
}

/// What each value of a sub-block counts in the sums of a search.
#[derive(Clone, Copy, Debug)]
pub enum SearchWeights<'a, const N: usize> {
    /// Its magnitude.
    Magnitude,
    /// Its magnitude and the root mean square of the sub-block.
    MeanMagnitude,
    /// Its square.
    Square,
    /// These, sub-block by sub-block.
    Given(&'a [[f32; N]]),
}

/// The searches. All slices of a call have one entry a sub-block; those of weights may have more.
pub trait ScaleSearch: Copy {
    /// The scale and minimum of the least error over the grids. (`make_qkx2_quants`, `make_qkx3_quants`.)
    ///
    /// The minimum is never above 0, so a sub-block of one positive value still has a scale; one of a value that is
    /// not positive has scale 0 and codes 0. Where little counts, a minimum may come so near the greatest value that
    /// the next grids have codes beyond `nearest_int`; they are what it makes of them. (Other versions of ggml limit
    /// these to the top code.)
    fn asymmetric<const N: usize>(
        self,
        grid: &ScaleGrid,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    );

    /// The scale around zero that fits best, codes in `-half..half`: the grid on which the loudest value is `-half`
    /// exactly, then nine finer and nine coarser ones. Zeros have scale 0 and codes `-half`. (`make_qx_quants`.)
    fn symmetric<const N: usize>(
        self,
        half: i32,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    );

    /// As [`ScaleSearch::symmetric`] with the squares as weights, but from one grid, whose codes (here counted from
    /// `-half`) are then moved one by one while that helps, up to five rounds. (`make_q3_quants`.)
    fn q3_refine<const N: usize>(self, half: i32, x: &[[f32; N]], found: &mut [RefinedFit<N>]);

    /// The scale of the IQ4 codebook: the least squares over the grids on which the loudest value is near the lowest
    /// level, by up to seven steps either way. 0 for zeros, and where nothing counts.
    /// (`quantize_row_iq4_nl_impl`.)
    fn iq4(self, x: &[[f32; 32]], weights: SearchWeights<'_, 32>, scales: &mut [f32]);

    /// What each value counts, from the importance that `weights` holds: `importance * sqrt(spread + x * x)`, with a
    /// spread for each sub-block; and the sums of that in index order.
    #[inline(always)]
    fn weigh<const N: usize>(
        self,
        x: &[[f32; N]],
        spreads: &[f32],
        weights: &mut [[f32; N]],
        sums: &mut [f32],
    ) {
        ScalarSearch.weigh(x, spreads, weights, sums);
    }

    /// The scales and minima of super-blocks as integers up to `top` under one scale each, of the least error that
    /// nine grids and up to five rounds of moving single integers find. Numbers below zero give integers below zero,
    /// here cast to a byte. (`make_qp_quants`.)
    #[inline(always)]
    fn scale_of_scales<const P: usize>(
        self,
        top: i32,
        numbers: &[[f32; P]],
        weights: &[[f32; P]],
        codes: &mut [[u8; P]],
        scales: &mut [f32],
    ) {
        ScalarSearch.scale_of_scales(top, numbers, weights, codes, scales);
    }
}
