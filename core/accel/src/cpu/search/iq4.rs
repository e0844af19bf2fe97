//! The search for the scale of IQ4,
//! [`ScaleSearch::iq4`](quantoscope_core::quant::scale_search::ScaleSearch::iq4).
//!
//! The first grid maps the value of largest magnitude to the top of the codebook, the other grids map it near
//! the bottom, in steps so small that across all of them a value passes at most one midpoint between levels.
//! So the two possible levels of a value, and all products with them, are computed once, and a grid costs one
//! comparison per value.

use super::lanes::{TransposedLanes, blank, fill, numbers, pick, signed_absmax};
use super::weigh::weigh;
use super::weights_from;
use fearless_simd::prelude::*;
use quantoscope_core::quant::codebook::{HALFWAY, IQ4};
use quantoscope_core::quant::scale_search::{EPSILON, SearchWeights};

/// Values per sub-block.
const N: usize = 32;

/// The grids after the first map the largest value to -STEPS..=STEPS from the bottom level.
const STEPS: i8 = 7;
/// Grids tried together; they are independent.
const ABREAST: usize = 3;

/// True if a value that starts at midpoint `from` on the finest grid does not reach midpoint `to` on the
/// coarsest.
const fn passes_one(from: usize, to: usize) -> bool {
    let nearest = HALFWAY[from] * (IQ4[0] + STEPS as f32) / (IQ4[0] - STEPS as f32);
    if nearest > 0.0 { nearest > HALFWAY[to] } else { nearest < HALFWAY[to] }
}

const _: () = {
    let mut k = 0;
    while k < 14 {
        assert!(if HALFWAY[k] < 0.0 { passes_one(k, k + 1) } else { passes_one(k + 1, k) });
        k += 1;
    }
};

/// Computes the scales of all sub-blocks.
#[inline(always)]
pub(super) fn search<S: Simd>(simd: S, x: &[[f32; N]], weights: SearchWeights<'_, N>, scales: &mut [f32]) {
    let at_once = S::f32s::LEN;
    let mut values = Iq4Lanes::new(simd);
    for (n, (x, scales)) in x.chunks(at_once).zip(scales.chunks_mut(at_once)).enumerate() {
        let found = vector(simd, &mut values, x, weights_from(weights, n * at_once));
        scales.copy_from_slice(&numbers::<S>(found)[..scales.len()]);
    }
}

/// Scales of one vector of sub-blocks.
#[inline(always)]
fn vector<S: Simd>(
    simd: S,
    values: &mut Iq4Lanes<S>,
    rows: &[[f32; N]],
    weights: SearchWeights<'_, N>,
) -> S::f32s {
    fill(simd, &mut values.x, rows);
    weigh(simd, &values.x, weights, &mut values.w);
    let [max] = signed_absmax::<S, N, 1>(simd, &values.x);
    let splat = |x: f32| S::f32s::splat(simd, x);
    let zero = splat(0.0);
    let mut best = values.first(simd, splat(1.0) / (-max / IQ4[0]));
    values.choose(simd, splat(IQ4[0] - f32::from(STEPS)) / max);
    for k in (-STEPS..=STEPS).step_by(ABREAST) {
        let mut inverse = [zero; ABREAST];
        for (inverse, k) in inverse.iter_mut().zip(k..) {
            *inverse = splat(f32::from(k) + IQ4[0]) / max;
        }
        let (cross, square) = values.sums(simd, &inverse);
        for (cross, square) in cross.into_iter().zip(square) {
            let better = square.simd_gt(zero) & (cross * cross).simd_gt(best.product * square);
            best.scale = pick::<S>(better, cross / square, best.scale);
            best.product = pick::<S>(better, best.scale * cross, best.product);
        }
    }
    pick::<S>(max.abs().simd_lt(splat(EPSILON)), zero, best.scale)
}

/// The best scale so far, and its criterion.
struct BestIq4Scale<S: Simd> {
    scale: S::f32s,
    product: S::f32s,
}

/// The two possible levels of a value: the midpoint between them, and products with the lower and the higher
/// one.
struct Iq4Choice<S: Simd> {
    halfway: S::f32s,
    cross: [S::f32s; 2],
    square: [S::f32s; 2],
}

/// Transposed sub-blocks.
struct Iq4Lanes<S: Simd> {
    x: TransposedLanes<S, N, 1>,
    w: TransposedLanes<S, N, 1>,
    choices: [Iq4Choice<S>; N],
}

impl<S: Simd> Iq4Lanes<S> {
    #[inline(always)]
    fn new(simd: S) -> Iq4Lanes<S> {
        let zero = S::f32s::splat(simd, 0.0);
        let choice = || Iq4Choice { halfway: zero, cross: [zero; 2], square: [zero; 2] };
        Iq4Lanes { x: blank(simd), w: blank(simd), choices: core::array::from_fn(|_| choice()) }
    }

    /// The fit of the first grid, on which any level may be the nearest.
    #[inline(always)]
    fn first(&self, simd: S, inverse: S::f32s) -> BestIq4Scale<S> {
        let zero = S::f32s::splat(simd, 0.0);
        let (mut cross, mut square) = (zero, zero);
        for (&[x], &[w]) in self.x.iter().zip(&self.w) {
            let (y, mut q) = (inverse * x, S::f32s::splat(simd, IQ4[0]));
            for (&halfway, &level) in HALFWAY.iter().zip(&IQ4[1..]) {
                q = pick::<S>(y.simd_ge(halfway), S::f32s::splat(simd, level), q);
            }
            cross += w * q * x;
            square += w * q * q;
        }
        let scale = pick::<S>(square.simd_gt(zero), cross / square, zero);
        BestIq4Scale { scale, product: scale * cross }
    }

    /// Computes the choices from the finest grid, on which values are farthest from zero.
    #[inline(always)]
    fn choose(&mut self, simd: S, inverse: S::f32s) {
        let splat = |x: f32| S::f32s::splat(simd, x);
        for ((choice, &[x]), &[w]) in self.choices.iter_mut().zip(&self.x).zip(&self.w) {
            let y = inverse * x;
            // The midpoint next to the value toward zero: for negative values the one above the last that was
            // passed, for others the last that was passed.
            let (mut halfway, mut low) = (splat(HALFWAY[0]), splat(IQ4[0]));
            for k in 1..15 {
                let passed = y.simd_ge(HALFWAY[if HALFWAY[k] < 0.0 { k - 1 } else { k }]);
                halfway = pick::<S>(passed, splat(HALFWAY[k]), halfway);
                low = pick::<S>(passed, splat(IQ4[k]), low);
            }
            let high = halfway + halfway - low;
            let (wl, wh) = (w * low, w * high);
            *choice = Iq4Choice { halfway, cross: [wl * x, wh * x], square: [wl * low, wh * high] };
        }
    }

    /// Sums of weight x level x value and weight x level x level for each grid.
    #[inline(always)]
    fn sums(&self, simd: S, inverse: &[S::f32s; ABREAST]) -> ([S::f32s; ABREAST], [S::f32s; ABREAST]) {
        let mut cross = [S::f32s::splat(simd, 0.0); ABREAST];
        let mut square = cross;
        for (choice, &[x]) in self.choices.iter().zip(&self.x) {
            for (k, &inverse) in inverse.iter().enumerate() {
                let above = (inverse * x).simd_ge(choice.halfway);
                cross[k] += pick::<S>(above, choice.cross[1], choice.cross[0]);
                square[k] += pick::<S>(above, choice.square[1], choice.square[0]);
            }
        }
        (cross, square)
    }
}
