//! The scale searches of the encoders, as a trait that engines implement.
//!
//! An encoder passes the sub-blocks of several super-blocks at once, so that an engine can run its lanes
//! across sub-blocks. Within a sub-block every sum runs in index order, each product from the left, and
//! candidates are tried one after the other. [`super::ScalarSearch`] is the definition; function names of
//! ggml are given for each search.

use super::scalar_search::ScalarSearch;

/// Sub-blocks whose largest magnitude is below this are stored as zeros (`GROUP_MAX_EPS` of ggml).
pub const EPSILON: f32 = 1e-15;

/// Approximation of a sub-block: `x = scale * code - min`.
///
/// Codes were chosen as those of `inverse * (x - base)`. If `inverse` is 0, every code is the lowest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineFit {
    /// Scale; not finite if the sums overflowed.
    pub scale: f32,
    /// Subtracted value, not negative.
    pub min: f32,
    /// Inverse of the step of the best candidate grid.
    pub inverse: f32,
    /// Value of code 0 in the best candidate grid.
    pub base: f32,
}

impl AffineFit {
    /// Fit of a sub-block of zeros.
    pub const ZERO: AffineFit = AffineFit { scale: 0.0, min: 0.0, inverse: 0.0, base: 0.0 };
}

/// Codes that [`ScaleSearch::q3_refine`] finds for a sub-block, and their scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefinedFit<const N: usize> {
    /// Scale; not finite if the sums overflowed.
    pub scale: f32,
    /// Codes plus `half`, so that the lowest is 0.
    pub codes: [u8; N],
}

/// Candidate grids: as if the top code were `top + first + step * k`, for `k` in `0..=count`.
#[derive(Clone, Copy, Debug)]
pub struct ScaleGrid {
    /// Top code.
    pub top: i32,
    /// Offset of the first candidate.
    pub first: f32,
    /// Difference between neighbouring candidates.
    pub step: f32,
    /// Number of candidates after the first.
    pub count: i32,
    /// True if candidates are compared by the sum of absolute errors instead of squares.
    pub absolute: bool,
}

/// Weight of each value in the sums of a search.
#[derive(Clone, Copy, Debug)]
pub enum SearchWeights<'a, const N: usize> {
    /// Its magnitude.
    Magnitude,
    /// Its magnitude plus the RMS of the sub-block.
    MeanMagnitude,
    /// Its square.
    Square,
    /// These weights, one array for each sub-block.
    Given(&'a [[f32; N]]),
}

/// Scale searches of an engine.
///
/// All slices of a call have one entry for each sub-block; slices of weights may be longer.
pub trait ScaleSearch: Copy {
    /// Scale and minimum with the smallest error over the candidate grids (`make_qkx2_quants`,
    /// `make_qkx3_quants`).
    ///
    /// - The minimum is at most 0, so a constant positive sub-block has a scale. A constant sub-block that is
    ///   not positive has scale 0 and codes 0.
    /// - If weights are small, a minimum may come so near the largest value that the codes of later
    ///   candidates leave the range of `nearest_int`; they are what it returns then. (Other versions of ggml
    ///   limit them to the top code.)
    fn asymmetric<const N: usize>(
        self,
        grid: &ScaleGrid,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    );

    /// Best scale around zero, with codes in `-half..half` (`make_qx_quants`).
    ///
    /// Candidates are the grid on which the value of largest magnitude is exactly `-half`, then nine finer
    /// and nine coarser ones. Zeros have scale 0 and codes `-half`.
    fn symmetric<const N: usize>(
        self,
        half: i32,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    );

    /// As [`ScaleSearch::symmetric`] with squares as weights, but from a single grid, whose codes are then
    /// changed one by one while that lowers the error, in up to five rounds (`make_q3_quants`).
    fn q3_refine<const N: usize>(self, half: i32, x: &[[f32; N]], found: &mut [RefinedFit<N>]);

    /// Scale of the IQ4 codebook (`quantize_row_iq4_nl_impl`).
    ///
    /// The least-squares scale over grids on which the value of largest magnitude is near the lowest level,
    /// by up to seven steps either way. 0 for zeros, and if all weights are 0.
    fn iq4(self, x: &[[f32; 32]], weights: SearchWeights<'_, 32>, scales: &mut [f32]);

    /// Multiplies the importance in `weights` by `sqrt(sigma2 + x^2)`, with a `sigma2` for each sub-block,
    /// and writes the sums of the weights in index order.
    #[inline(always)]
    fn weigh<const N: usize>(
        self,
        x: &[[f32; N]],
        sigma2: &[f32],
        weights: &mut [[f32; N]],
        sums: &mut [f32],
    ) {
        ScalarSearch.weigh(x, sigma2, weights, sums);
    }

    /// Quantizes the scales or minima of super-blocks to integers up to `top` with one scale each
    /// (`make_qp_quants`).
    ///
    /// The scale with the smallest weighted squared error of nine grids, with up to five rounds of changing
    /// single integers. Negative values give negative integers, cast to a byte.
    #[inline(always)]
    fn scale_of_scales<const P: usize>(
        self,
        top: i32,
        values: &[[f32; P]],
        weights: &[[f32; P]],
        codes: &mut [[u8; P]],
        scales: &mut [f32],
    ) {
        ScalarSearch.scale_of_scales(top, values, weights, codes, scales);
    }
}
