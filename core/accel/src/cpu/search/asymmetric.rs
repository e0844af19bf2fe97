//! The search for scale and minimum, [`ScaleSearch::asymmetric`] (make_qkx2 of ggml).
//!
//! The CPU reference rounds by adding a constant and taking the low bits, which equals rounding to nearest
//! for magnitudes below 2^22. Rounding is monotonic, so the extremes of a sub-block tell whether that holds
//! for all its values, and whether codes need clamping. If it does not hold (a range that is tiny beside the
//! values, or that overflows), the lane is marked `fallback` and the reference searches it again.

use super::lanes::{TransposedLanes, blank, fill, numbers, pick};
use super::weigh::weigh;
use super::weights_from;
use fearless_simd::prelude::*;
use quantoscope_core::quant::ScalarSearch;
use quantoscope_core::quant::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};

/// Below this magnitude rounding equals the reference's; a margin below 2^22.
const LIMIT: f32 = 2_097_152.0;

/// Vectors processed together, to hide the latency of sums.
const G: usize = 2;

/// One number per sub-block.
type AsymmetricGroup<S> = [<S as Simd>::f32s; G];

/// Finds the fits of all sub-blocks.
#[inline(always)]
pub(super) fn search<S: Simd, const N: usize>(
    simd: S,
    grid: &ScaleGrid,
    x: &[[f32; N]],
    weights: SearchWeights<'_, N>,
    fits: &mut [AffineFit],
) {
    let at_once = G * S::f32s::LEN;
    let mut values = AsymmetricLanes { simd, grid, x: blank(simd), w: blank(simd) };
    let mut codes = blank(simd);
    for (n, (x, fits)) in x.chunks(at_once).zip(fits.chunks_mut(at_once)).enumerate() {
        let weights = weights_from(weights, n * at_once);
        match grid.absolute {
            true => group::<S, N, true>(&mut values, &mut codes, x, weights, fits),
            false => group::<S, N, false>(&mut values, &mut codes, x, weights, fits),
        }
    }
}

/// Searches up to `G` vectors of sub-blocks.
#[inline(always)]
fn group<S: Simd, const N: usize, const ABSOLUTE: bool>(
    values: &mut AsymmetricLanes<'_, S, N>,
    codes: &mut TransposedLanes<S, N, G>,
    rows: &[[f32; N]],
    weights: SearchWeights<'_, N>,
    fits: &mut [AffineFit],
) {
    let grid = values.grid;
    fill(values.simd, &mut values.x, rows);
    weigh(values.simd, &values.x, weights, &mut values.w);
    let mut best = values.first::<ABSOLUTE>(codes);
    for k in 0..=grid.count {
        values.candidate::<ABSOLUTE>(&mut best, k, codes);
    }
    for (g, fits) in fits.chunks_mut(S::f32s::LEN).enumerate() {
        let [scale, min, inverse, base] =
            [best.scale, best.min, best.inverse, best.base].map(|v| numbers::<S>(v[g]));
        for (j, fit) in fits.iter_mut().enumerate() {
            *fit = AffineFit { scale: scale[j], min: -min[j], inverse: inverse[j], base: base[j] };
        }
        let (flat, fallback) = (best.flat[g].to_bitmask(), best.fallback[g].to_bitmask());
        if flat | fallback == 0 {
            continue;
        }
        for (j, fit) in fits.iter_mut().enumerate() {
            let at = g * S::f32s::LEN + j;
            if flat >> j & 1 == 1 {
                *fit = AffineFit { scale: 0.0, inverse: 0.0, base: 0.0, ..*fit };
            } else if fallback >> j & 1 == 1 {
                let fit = core::slice::from_mut(fit);
                ScalarSearch.asymmetric(grid, &rows[at..=at], weights_from(weights, at), fit);
            }
        }
    }
}

/// Transposed sub-blocks and the grid of candidates.
struct AsymmetricLanes<'a, S: Simd, const N: usize> {
    simd: S,
    grid: &'a ScaleGrid,
    x: TransposedLanes<S, N, G>,
    w: TransposedLanes<S, N, G>,
}

/// The best fit so far, and the sums that all candidates share.
struct BestAffineFit<S: Simd> {
    smallest: AsymmetricGroup<S>,
    max: AsymmetricGroup<S>,
    sum_w: AsymmetricGroup<S>,
    sum_x: AsymmetricGroup<S>,
    scale: AsymmetricGroup<S>,
    min: AsymmetricGroup<S>,
    inverse: AsymmetricGroup<S>,
    base: AsymmetricGroup<S>,
    error: AsymmetricGroup<S>,
    /// Sub-blocks of equal values, which need no search.
    flat: [S::mask32s; G],
    /// Sub-blocks to be searched by the reference.
    fallback: [S::mask32s; G],
}

/// Sums that give the best scale and minimum of a candidate's codes.
struct AsymmetricSums<S: Simd> {
    code: AsymmetricGroup<S>,
    square: AsymmetricGroup<S>,
    cross: AsymmetricGroup<S>,
}

impl<S: Simd, const N: usize> AsymmetricLanes<'_, S, N> {
    #[inline(always)]
    fn splat(&self, x: f32) -> S::f32s {
        S::f32s::splat(self.simd, x)
    }

    /// Computes the extremes, the shared sums, and the fit of the grid between the extremes.
    #[inline(always)]
    fn first<const ABSOLUTE: bool>(&self, codes: &mut TransposedLanes<S, N, G>) -> BestAffineFit<S> {
        let Self { simd, x, w, .. } = self;
        let zero = self.splat(0.0);
        let [mut smallest, mut max, mut sum_w] = [x[0], x[0], w[0]];
        let mut sum_x: AsymmetricGroup<S> = core::array::from_fn(|g| w[0][g] * x[0][g]);
        for i in 1..N {
            for g in 0..G {
                // Zeros of both signs are equal; the first is kept.
                smallest[g] = pick::<S>(x[i][g].simd_lt(smallest[g]), x[i][g], smallest[g]);
                max[g] = pick::<S>(x[i][g].simd_gt(max[g]), x[i][g], max[g]);
                sum_w[g] += w[i][g];
                sum_x[g] += w[i][g] * x[i][g];
            }
        }
        let min = smallest.map(|m| pick::<S>(m.simd_gt(zero), zero, m));
        let inverse: AsymmetricGroup<S> =
            core::array::from_fn(|g| self.splat(self.grid.top as f32) / (max[g] - min[g]));
        let scale = inverse.map(|i| self.splat(1.0) / i);
        let flat = core::array::from_fn(|g| max[g].simd_eq(min[g]));
        let none = S::mask32s::splat(*simd, false);
        let mut best = BestAffineFit {
            smallest,
            max,
            sum_w,
            sum_x,
            scale,
            min,
            inverse,
            base: min,
            error: min,
            flat,
            fallback: [none; G],
        };
        let _ = self.sums(&mut best, &inverse, codes);
        best.error = self.error::<ABSOLUTE>(codes, &scale, &min);
        best
    }

    /// Tries candidate `k`.
    #[inline(always)]
    fn candidate<const ABSOLUTE: bool>(
        &self,
        best: &mut BestAffineFit<S>,
        k: i32,
        codes: &mut TransposedLanes<S, N, G>,
    ) {
        let zero = self.splat(0.0);
        let ScaleGrid { top, first, step, .. } = *self.grid;
        // The range depends on the current minimum, which an earlier candidate may have changed.
        let steps = self.splat(first + step * k as f32 + top as f32);
        let inverse: AsymmetricGroup<S> = core::array::from_fn(|g| steps / (best.max[g] - best.min[g]));
        let sums = self.sums(best, &inverse, codes);
        let (mut scale, mut min, mut fits) = ([zero; G], [zero; G], best.fallback);
        for g in 0..G {
            let AsymmetricSums { code, square, cross } = &sums;
            let (code, square, cross) = (code[g], square[g], cross[g]);
            let det = best.sum_w[g] * square - code * code;
            fits[g] = det.simd_gt(zero);
            scale[g] = (best.sum_w[g] * cross - best.sum_x[g] * code) / det;
            min[g] = (square * best.sum_x[g] - code * cross) / det;
            let above = min[g].simd_gt(zero);
            if above.any_true() {
                scale[g] = pick::<S>(above, cross / square, scale[g]);
                min[g] = pick::<S>(above, zero, min[g]);
            }
        }
        let error = self.error::<ABSOLUTE>(codes, &scale, &min);
        for g in 0..G {
            let better = fits[g] & error[g].simd_lt(best.error[g]);
            best.error[g] = pick::<S>(better, error[g], best.error[g]);
            best.scale[g] = pick::<S>(better, scale[g], best.scale[g]);
            best.inverse[g] = pick::<S>(better, inverse[g], best.inverse[g]);
            best.base[g] = pick::<S>(better, best.min[g], best.base[g]);
            best.min[g] = pick::<S>(better, min[g], best.min[g]);
        }
    }

    /// Codes of a candidate and their sums; marks lanes that need the reference.
    #[inline(always)]
    fn sums(
        &self,
        best: &mut BestAffineFit<S>,
        inverse: &AsymmetricGroup<S>,
        codes: &mut TransposedLanes<S, N, G>,
    ) -> AsymmetricSums<S> {
        let (mut below, mut above) = (false, false);
        for (g, &inverse) in inverse.iter().enumerate() {
            let a = inverse * (best.smallest[g] - best.min[g]);
            let b = inverse * (best.max[g] - best.min[g]);
            let limit = self.splat(LIMIT);
            best.fallback[g] |= !(a.abs().simd_lt(limit) & b.abs().simd_lt(limit));
            let aside = best.fallback[g] | best.flat[g];
            let (low, high) = (self.splat(-0.5), self.splat(self.grid.top as f32 + 0.5));
            below |= !(aside | (a.simd_gt(low) & b.simd_gt(low))).all_true();
            above |= !(aside | (a.simd_lt(high) & b.simd_lt(high))).all_true();
        }
        match (below, above) {
            (false, false) => self.clamped_sums::<false, false>(&best.min, inverse, codes),
            (true, false) => self.clamped_sums::<true, false>(&best.min, inverse, codes),
            (false, true) => self.clamped_sums::<false, true>(&best.min, inverse, codes),
            (true, true) => self.clamped_sums::<true, true>(&best.min, inverse, codes),
        }
    }

    #[inline(always)]
    fn clamped_sums<const BELOW: bool, const ABOVE: bool>(
        &self,
        min: &AsymmetricGroup<S>,
        inverse: &AsymmetricGroup<S>,
        codes: &mut TransposedLanes<S, N, G>,
    ) -> AsymmetricSums<S> {
        let none = [self.splat(0.0); G];
        let mut sums = AsymmetricSums { code: none, square: none, cross: none };
        let top = self.splat(self.grid.top as f32).bitcast::<S::i32s>();
        let bottom = S::i32s::splat(self.simd, 0);
        for ((x, w), codes) in self.x.iter().zip(&self.w).zip(codes) {
            for g in 0..G {
                let mut q = (inverse[g] * (x[g] - min[g])).round_ties_even();
                // As integers, negative floats are below zero and positive ones are in order.
                if BELOW {
                    q = q.bitcast::<S::i32s>().max(bottom).bitcast();
                }
                if ABOVE {
                    q = q.bitcast::<S::i32s>().min(top).bitcast();
                }
                codes[g] = q;
                let wq = w[g] * q;
                sums.code[g] += wq;
                sums.square[g] += wq * q;
                sums.cross[g] += wq * x[g];
            }
        }
        sums
    }

    /// The weighted error of `scale * code + min`.
    #[inline(always)]
    fn error<const ABSOLUTE: bool>(
        &self,
        codes: &TransposedLanes<S, N, G>,
        scale: &AsymmetricGroup<S>,
        min: &AsymmetricGroup<S>,
    ) -> AsymmetricGroup<S> {
        let mut error = [self.splat(0.0); G];
        for ((x, w), codes) in self.x.iter().zip(&self.w).zip(codes) {
            for g in 0..G {
                let d = scale[g] * codes[g] + min[g] - x[g];
                error[g] += w[g] * if ABSOLUTE { d.abs() } else { d * d };
            }
        }
        error
    }
}
