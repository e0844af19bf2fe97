//! The search for a scale without a minimum (make_qx of ggml),
//! [`ScaleSearch::symmetric`](quantoscope_core::quant::scale_search::ScaleSearch::symmetric).
//!
//! The value of largest magnitude has a code near `-half`, so every rounded product is small, and rounding to
//! nearest equals the rounding of the CPU reference.

use super::lanes::{TransposedLanes, blank, fill, numbers, pick, signed_absmax};
use super::weigh::weigh;
use super::weights_from;
use fearless_simd::prelude::*;
use quantoscope_core::quant::scale_search::{AffineFit, EPSILON, SearchWeights};

/// Vectors processed together, to hide the latency of sums.
const G: usize = 2;

/// One number per sub-block.
type SymmetricGroup<S> = [<S as Simd>::f32s; G];

/// Finds the fits of all sub-blocks.
#[inline(always)]
pub(super) fn search<S: Simd, const N: usize>(
    simd: S,
    half: i32,
    x: &[[f32; N]],
    weights: SearchWeights<'_, N>,
    fits: &mut [AffineFit],
) {
    let at_once = G * S::f32s::LEN;
    let mut values = SymmetricLanes { half: half as f32, x: blank(simd), w: blank(simd), wx: blank(simd) };
    for (n, (x, fits)) in x.chunks(at_once).zip(fits.chunks_mut(at_once)).enumerate() {
        group(simd, &mut values, x, weights_from(weights, n * at_once), fits);
    }
}

/// Searches up to `G` vectors of sub-blocks.
#[inline(always)]
fn group<S: Simd, const N: usize>(
    simd: S,
    values: &mut SymmetricLanes<S, N>,
    rows: &[[f32; N]],
    weights: SearchWeights<'_, N>,
    fits: &mut [AffineFit],
) {
    let half = values.half;
    values.load(simd, rows, weights);
    let max = signed_absmax::<S, N, G>(simd, &values.x);
    let zero = S::f32s::splat(simd, 0.0);
    let (mut scale, mut best) = ([zero; G], [zero; G]);
    let mut won = values.inverse(simd, half, &max);
    let SymmetricSums { cross, square } = values.sums::<false>(simd, &won);
    for g in 0..G {
        scale[g] = pick::<S>(square[g].simd_eq(zero), zero, cross[g] / square[g]);
        best[g] = scale[g] * cross[g];
    }
    for k in (-9..=9).filter(|&k| k != 0) {
        let inverse = values.inverse(simd, half + 0.1 * k as f32, &max);
        // Only values of largest magnitude can round below the lowest code, and only on the finest grids.
        let SymmetricSums { cross, square } = match k < 5 {
            true => values.sums::<false>(simd, &inverse),
            false => values.sums::<true>(simd, &inverse),
        };
        for g in 0..G {
            let (cross, square) = (cross[g], square[g]);
            let better = square.simd_gt(zero) & (cross * cross).simd_gt(best[g] * square);
            scale[g] = pick::<S>(better, cross / square, scale[g]);
            best[g] = pick::<S>(better, scale[g] * cross, best[g]);
            won[g] = pick::<S>(better, inverse[g], won[g]);
        }
    }
    for (g, fits) in fits.chunks_mut(S::f32s::LEN).enumerate() {
        let [scale, inverse, max] = [scale[g], won[g], max[g]].map(|v| numbers::<S>(v));
        for (j, fit) in fits.iter_mut().enumerate() {
            let found = AffineFit { scale: scale[j], min: 0.0, inverse: inverse[j], base: 0.0 };
            *fit = if max[j].abs() < EPSILON { AffineFit::ZERO } else { found };
        }
    }
}

/// Transposed sub-blocks.
struct SymmetricLanes<S: Simd, const N: usize> {
    half: f32,
    x: TransposedLanes<S, N, G>,
    w: TransposedLanes<S, N, G>,
    /// Weight times value.
    wx: TransposedLanes<S, N, G>,
}

/// Sums of weight x value x code and weight x code x code.
struct SymmetricSums<S: Simd> {
    cross: SymmetricGroup<S>,
    square: SymmetricGroup<S>,
}

impl<S: Simd, const N: usize> SymmetricLanes<S, N> {
    #[inline(always)]
    fn load(&mut self, simd: S, rows: &[[f32; N]], weights: SearchWeights<'_, N>) {
        fill(simd, &mut self.x, rows);
        weigh(simd, &self.x, weights, &mut self.w);
        for ((wx, w), x) in self.wx.iter_mut().zip(&self.w).zip(&self.x) {
            for g in 0..G {
                wx[g] = w[g] * x[g];
            }
        }
    }

    /// Reciprocal of the step that maps the value of largest magnitude to `-steps`.
    #[inline(always)]
    fn inverse(&self, simd: S, steps: f32, max: &SymmetricGroup<S>) -> SymmetricGroup<S> {
        let mut inverse = *max;
        for inverse in &mut inverse {
            *inverse = S::f32s::splat(simd, -steps) / *inverse;
        }
        inverse
    }

    #[inline(always)]
    fn sums<const BELOW: bool>(&self, simd: S, inverse: &SymmetricGroup<S>) -> SymmetricSums<S> {
        let none = [S::f32s::splat(simd, 0.0); G];
        let mut sums = SymmetricSums { cross: none, square: none };
        let top = S::f32s::splat(simd, self.half - 1.0).bitcast::<S::i32s>();
        let bottom = S::f32s::splat(simd, -self.half).bitcast::<S::u32s>();
        for ((x, w), wx) in self.x.iter().zip(&self.w).zip(&self.wx) {
            for g in 0..G {
                // As signed integers, negative floats are below the top; as unsigned integers, they are above
                // all positive ones, in order of magnitude.
                let q = (inverse[g] * x[g]).round_ties_even().bitcast::<S::i32s>().min(top);
                let q: S::f32s = match BELOW {
                    true => q.bitcast::<S::u32s>().min(bottom).bitcast(),
                    false => q.bitcast(),
                };
                sums.cross[g] += wx[g] * q;
                sums.square[g] += w[g] * q * q;
            }
        }
        sums
    }
}
