//! The scale searches of k-quants and IQ4, one sub-block after the other: the definition of [`ScaleSearch`].
//!
//! Every sum runs over the sub-block in index order, each product from the left; lanes may only run across
//! sub-blocks. Candidates depend on each other: with a minimum, the best one so far changes the minimum from
//! which the next ones round. Knows no layout.
//!
//! Source: `make_qkx2_quants`, `make_qkx3_quants`, `make_qx_quants` (mode 1), `make_q3_quants` (with
//! refinement) and `make_qp_quants` of ggml 0.25.

use super::block::{extremes, signed_absmax};
use super::codebook::{IQ4, nearest_iq4};
use super::positive_scale;
use super::scale_search::{AffineFit, EPSILON, RefinedFit, ScaleGrid, ScaleSearch, SearchWeights};
use crate::float::nearest_even;

/// The reference implementation: one sub-block and one value after the other.
#[derive(Clone, Copy, Debug)]
pub struct ScalarSearch;

impl ScaleSearch for ScalarSearch {
    fn asymmetric<const N: usize>(
        self,
        grid: &ScaleGrid,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    ) {
        for (j, (fit, x)) in fits.iter_mut().zip(x).enumerate() {
            *fit = grid.fit(x, &weigh(weights, j, x));
        }
    }

    fn symmetric<const N: usize>(
        self,
        half: i32,
        x: &[[f32; N]],
        weights: SearchWeights<'_, N>,
        fits: &mut [AffineFit],
    ) {
        for (j, (fit, x)) in fits.iter_mut().zip(x).enumerate() {
            *fit = symmetric(x, &weigh(weights, j, x), half);
        }
    }

    fn q3_refine<const N: usize>(self, half: i32, x: &[[f32; N]], found: &mut [RefinedFit<N>]) {
        for (found, x) in found.iter_mut().zip(x) {
            found.scale = q3_refine(x, half, &mut found.codes);
        }
    }

    fn iq4(self, x: &[[f32; 32]], weights: SearchWeights<'_, 32>, scales: &mut [f32]) {
        for (j, (scale, x)) in scales.iter_mut().zip(x).enumerate() {
            *scale = fit_iq4(x, &weigh(weights, j, x));
        }
    }

    fn weigh<const N: usize>(
        self,
        x: &[[f32; N]],
        sigma2: &[f32],
        weights: &mut [[f32; N]],
        sums: &mut [f32],
    ) {
        for (((weights, sum), x), &sigma2) in weights.iter_mut().zip(sums).zip(x).zip(sigma2) {
            for (w, &x) in weights.iter_mut().zip(x) {
                *w *= libm::sqrtf(sigma2 + x * x);
            }
            *sum = weights.iter().fold(0.0, |sum, &w| sum + w);
        }
    }

    fn scale_of_scales<const P: usize>(
        self,
        top: i32,
        values: &[[f32; P]],
        weights: &[[f32; P]],
        codes: &mut [[u8; P]],
        scales: &mut [f32],
    ) {
        for (((scale, codes), x), weights) in scales.iter_mut().zip(codes).zip(values).zip(weights) {
            *scale = positive_scale::fit(x, weights, top, codes);
        }
    }
}

/// Weights of the values of sub-block `j`.
fn weigh<const N: usize>(weights: SearchWeights<'_, N>, j: usize, x: &[f32; N]) -> [f32; N] {
    match weights {
        SearchWeights::Magnitude => x.map(f32::abs),
        SearchWeights::MeanMagnitude => {
            let average = libm::sqrtf(x.iter().fold(0.0, |sum, &x| sum + x * x) / N as f32);
            x.map(|x| average + x.abs())
        }
        SearchWeights::Square => x.map(|x| x * x),
        SearchWeights::Given(all) => all[j],
    }
}

/// Weighted sums from which the best scale and minimum of a candidate follow.
#[derive(Default)]
struct ScalarSums {
    /// Sum of weight x code.
    code: f32,
    /// Sum of weight x code x code.
    square: f32,
    /// Sum of weight x code x value.
    cross: f32,
}

impl ScaleGrid {
    /// Nearest code of a scaled value.
    fn code(&self, x: f32) -> i32 {
        nearest_even(x).clamp(0, self.top)
    }

    /// Weighted error of `scale * code + min`.
    fn error<const N: usize>(
        &self,
        x: &[f32; N],
        weights: &[f32; N],
        codes: &[f32; N],
        scale: f32,
        min: f32,
    ) -> f32 {
        let mut differences = [0.0; N];
        for ((difference, &q), &x) in differences.iter_mut().zip(codes).zip(x) {
            let d = scale * q + min - x;
            *difference = if self.absolute { d.abs() } else { d * d };
        }
        weights.iter().zip(&differences).fold(0.0, |sum, (&w, &d)| sum + w * d)
    }

    /// Codes of a candidate grid, as floats.
    fn codes<const N: usize>(&self, x: &[f32; N], inverse: f32, min: f32) -> [f32; N] {
        x.map(|x| self.code(inverse * (x - min)) as f32)
    }

    /// Scale and minimum (at most 0) with the smallest squared error for these codes; `None` if the system is
    /// singular.
    fn solve<const N: usize>(
        x: &[f32; N],
        weights: &[f32; N],
        codes: &[f32; N],
        sum_w: f32,
        sum_x: f32,
    ) -> Option<(f32, f32)> {
        let mut sums = ScalarSums::default();
        for ((&w, &q), &x) in weights.iter().zip(codes).zip(x) {
            sums.code += w * q;
            sums.square += w * q * q;
            sums.cross += w * q * x;
        }
        let det = sum_w * sums.square - sums.code * sums.code;
        if det.partial_cmp(&0.0) != Some(core::cmp::Ordering::Greater) {
            return None;
        }
        let scale = (sum_w * sums.cross - sum_x * sums.code) / det;
        let min = (sums.square * sum_x - sums.code * sums.cross) / det;
        Some(if min > 0.0 { (sums.cross / sums.square, 0.0) } else { (scale, min) })
    }

    /// Best fit of a sub-block with a minimum.
    fn fit<const N: usize>(&self, x: &[f32; N], weights: &[f32; N]) -> AffineFit {
        let (least, max) = extremes(x);
        let mut min = if least > 0.0 { 0.0 } else { least };
        if max == min {
            return AffineFit { scale: 0.0, min: -min, inverse: 0.0, base: 0.0 };
        }
        let mut sum_w = weights[0];
        let mut sum_x = sum_w * x[0];
        for (&w, &x) in weights.iter().zip(x).skip(1) {
            sum_w += w;
            sum_x += w * x;
        }
        let top = self.top as f32;
        let inverse = top / (max - min);
        let mut scale = 1.0 / inverse;
        let (mut best_inverse, mut base) = (inverse, min);
        let mut best = self.error(x, weights, &self.codes(x, inverse, min), scale, min);
        for k in 0..=self.count {
            // The range is that of the current minimum, which an earlier candidate may have changed.
            let inverse = (self.first + self.step * k as f32 + top) / (max - min);
            let codes = self.codes(x, inverse, min);
            let Some((candidate_scale, candidate_min)) = Self::solve(x, weights, &codes, sum_w, sum_x) else {
                continue;
            };
            let error = self.error(x, weights, &codes, candidate_scale, candidate_min);
            if error < best {
                (best_inverse, base) = (inverse, min);
                (best, scale, min) = (error, candidate_scale, candidate_min);
            }
        }
        AffineFit { scale, min: -min, inverse: best_inverse, base }
    }
}

/// Sums of weight x value x code and of weight x code x code.
fn square_sums<const N: usize>(x: &[f32; N], weights: &[f32; N], codes: &[i32; N]) -> (f32, f32) {
    let (mut cross, mut square) = (0.0, 0.0);
    for ((&x, &w), &q) in x.iter().zip(weights).zip(codes) {
        let q = q as f32;
        cross += w * x * q;
        square += w * q * q;
    }
    (cross, square)
}

/// Codes of a grid around zero, in `-half..half`.
fn symmetric_codes<const N: usize>(x: &[f32; N], inverse: f32, half: i32) -> [i32; N] {
    x.map(|x| nearest_even(inverse * x).clamp(-half, half - 1))
}

/// Best fit of a sub-block without a minimum.
fn symmetric<const N: usize>(x: &[f32; N], weights: &[f32; N], half: i32) -> AffineFit {
    let max = signed_absmax(x);
    if max.abs() < EPSILON {
        return AffineFit::ZERO;
    }
    let mut best_inverse = -(half as f32) / max;
    let (cross, square) = square_sums(x, weights, &symmetric_codes(x, best_inverse, half));
    let mut scale = if square != 0.0 { cross / square } else { 0.0 };
    let mut best = scale * cross;
    for k in (-9..=9).filter(|&k| k != 0) {
        let inverse = -(half as f32 + 0.1 * k as f32) / max;
        let (cross, square) = square_sums(x, weights, &symmetric_codes(x, inverse, half));
        if square > 0.0 && cross * cross > best * square {
            (scale, best_inverse) = (cross / square, inverse);
            best = scale * cross;
        }
    }
    AffineFit { scale, min: 0.0, inverse: best_inverse, base: 0.0 }
}

/// Writes the refined codes of a sub-block and returns their scale.
fn q3_refine<const N: usize>(x: &[f32; N], half: i32, out: &mut [u8; N]) -> f32 {
    let max = signed_absmax(x);
    if max.abs() < EPSILON {
        *out = [0; N];
        return 0.0;
    }
    let weights = x.map(|x| x * x);
    let mut codes = symmetric_codes(x, -(half as f32) / max, half);
    let (mut cross, mut square) = square_sums(x, &weights, &codes);
    for _ in 0..5 {
        let mut moved = false;
        for ((&x, &w), code) in x.iter().zip(&weights).zip(&mut codes) {
            let q = *code as f32;
            let mut without = cross - w * x * q;
            if without.partial_cmp(&0.0) != Some(core::cmp::Ordering::Greater) {
                continue;
            }
            let mut rest = square - w * q * q;
            let new = nearest_even(x * rest / without).clamp(-half, half - 1);
            if new == *code {
                continue;
            }
            without += w * x * new as f32;
            rest += w * new as f32 * new as f32;
            if rest > 0.0 && without * without * square > cross * cross * rest {
                (*code, cross, square, moved) = (new, without, rest, true);
            }
        }
        if !moved {
            break;
        }
    }
    *out = codes.map(|q| (q + half) as u8);
    if square > 0.0 { cross / square } else { 0.0 }
}

/// Least-squares scale of a sub-block in the IQ4 codebook.
fn fit_iq4(x: &[f32; 32], weights: &[f32; 32]) -> f32 {
    let max = signed_absmax(x);
    if max.abs() < EPSILON {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let levels = x.map(|x| IQ4[usize::from(nearest_iq4(inverse * x))]);
        let (mut cross, mut square) = (0.0_f32, 0.0_f32);
        for ((&x, &w), &q) in x.iter().zip(weights).zip(&levels) {
            cross += w * q * x;
            square += w * q * q;
        }
        (cross, square)
    };
    let (cross, square) = sums(1.0 / (-max / IQ4[0]));
    let mut scale = if square > 0.0 { cross / square } else { 0.0 };
    let mut best = scale * cross;
    for k in -7..=7_i8 {
        let (cross, square) = sums((f32::from(k) + IQ4[0]) / max);
        if square > 0.0 && cross * cross > best * square {
            scale = cross / square;
            best = scale * cross;
        }
    }
    scale
}
