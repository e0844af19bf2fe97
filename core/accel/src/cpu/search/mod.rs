//! The searches of the k-types and IQ4 with one sub-block a lane.
//!
//! Every lane takes the very steps of the definition, in the same order, so its sums are the same to the bit; what is
//! gained is that many sub-blocks take them at once. A lane in which a step would round differently (see
//! [`with_minimum`]) is left to the definition afterwards.

mod around_zero;
mod iq4;
mod lanes;
mod moving;
mod refined;
#[cfg(test)]
mod tests;
mod weigh;
mod with_minimum;

use fearless_simd::prelude::*;
use quantoscope_core::quant::searches::{Fit, Grid, Refined, Searches, Weights};

/// The searches with the vectors of a level.
#[derive(Clone, Copy, Debug)]
pub struct Lanes<S>(pub S);

impl<S: Simd> Searches for Lanes<S> {
    #[inline(always)]
    fn with_minimum<const N: usize>(
        self,
        grid: &Grid,
        x: &[[f32; N]],
        weights: Weights<'_, N>,
        fits: &mut [Fit],
    ) {
        self.0.vectorize(
            #[inline(always)]
            || with_minimum::search(self.0, grid, x, weights, fits),
        );
    }

    #[inline(always)]
    fn around_zero<const N: usize>(
        self,
        half: i32,
        x: &[[f32; N]],
        weights: Weights<'_, N>,
        fits: &mut [Fit],
    ) {
        self.0.vectorize(
            #[inline(always)]
            || around_zero::search(self.0, half, x, weights, fits),
        );
    }

    #[inline(always)]
    fn refined<const N: usize>(self, half: i32, x: &[[f32; N]], found: &mut [Refined<N>]) {
        self.0.vectorize(
            #[inline(always)]
            || refined::search(self.0, half, x, found),
        );
    }

    #[inline(always)]
    fn iq4(self, x: &[[f32; 32]], weights: Weights<'_, 32>, scales: &mut [f32]) {
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

/// The weights of the sub-blocks from number `from` on.
fn from<'a, const N: usize>(weights: Weights<'a, N>, from: usize) -> Weights<'a, N> {
    match weights {
        Weights::Given(all) => Weights::Given(&all[from..]),
        other => other,
    }
}
