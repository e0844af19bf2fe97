//! Scale searches of the k-types and IQ4 with one sub-block per lane.
//!
//! Every lane performs the operations of the CPU reference in the same order, so its sums are equal to the
//! bit. A lane in which an operation would round differently (see [`asymmetric`]) is searched again by the
//! reference.

mod asymmetric;
mod iq4;
mod lanes;
mod q3_refine;
mod refine_rounds;
mod symmetric;
#[cfg(test)]
mod tests;
mod weigh;

use fearless_simd::prelude::*;
use quantoscope_core::quant::scale_search::{AffineFit, RefinedFit, ScaleGrid, ScaleSearch, SearchWeights};

/// Scale searches in the vectors of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct VectorSearch<S>(pub S);

impl<S: Simd> ScaleSearch for VectorSearch<S> {
    #[inline(always)]
    fn asymmetric<const N: usize>(
        self,
        grid: &ScaleGrid,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    ) {
        self.0.vectorize(
            #[inline(always)]
            || asymmetric::search(self.0, grid, x, weights, fits),
        );
    }

    #[inline(always)]
    fn symmetric<const N: usize>(
        self,
        half: i32,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    ) {
        self.0.vectorize(
            #[inline(always)]
            || symmetric::search(self.0, half, x, weights, fits),
        );
    }

    #[inline(always)]
    fn q3_refine<const N: usize>(self, half: i32, x: &[[f32; N]], found: &mut [RefinedFit<N>]) {
        self.0.vectorize(
            #[inline(always)]
            || q3_refine::search(self.0, half, x, found),
        );
    }

    #[inline(always)]
    fn iq4(self, x: &[[f32; 32]], weights: SearchWeights<'_, 32>, scales: &mut [f32]) {
        self.0.vectorize(
            #[inline(always)]
            || iq4::search(self.0, x, weights, scales),
        );
    }

    #[inline(always)]
    fn weigh<const N: usize>(
        self,
        x: &[[f32; N]],
        spreads: &[f32],
        weights: &mut [[f32; N]],
        sums: &mut [f32],
    ) {
        self.0.vectorize(
            #[inline(always)]
            || weigh::weigh_given(self.0, x, spreads, weights, sums),
        );
    }
}

/// The weights of the sub-blocks from index `from` on.
fn weights_from<'a, const N: usize>(weights: SearchWeights<'a, N>, from: usize) -> SearchWeights<'a, N> {
    match weights {
        SearchWeights::Given(all) => SearchWeights::Given(&all[from..]),
        other => other,
    }
}
