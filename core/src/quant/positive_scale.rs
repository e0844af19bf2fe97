//! Weighted scale of non-negative values with codes from 0 up to a top code: ggml's `make_qp_quants`.
//!
//! Used for the scales and minima of super-blocks ([`super::scale_search::ScaleSearch::scale_of_scales`]) and
//! for the first scale of IQ2_XXS. Negative values are not excluded, as in the reference: its codes are
//! bytes, so a code of -1 is stored as 255. Knows no layout.

use super::scale_search::EPSILON;
use crate::float::nearest_even;

/// Sums of weight x value x code and of weight x code x code.
fn sums(x: &[f32], weights: &[f32], codes: impl Fn(f32) -> i32) -> (f32, f32) {
    let (mut cross, mut square) = (0.0, 0.0);
    for (&x, &w) in x.iter().zip(weights) {
        let q = codes(x) as f32;
        cross += w * x * q;
        square += w * q * q;
    }
    (cross, square)
}

/// Weighted squared error of the codes of a scale.
fn error(x: &[f32], weights: &[f32], scale: f32, codes: impl Fn(f32) -> i32) -> f32 {
    x.iter().zip(weights).fold(0.0, |sum, (&x, &w)| {
        let difference = x - scale * codes(x) as f32;
        sum + w * difference * difference
    })
}

/// Returns the scale that fits best with codes up to `top`, and writes the codes. All are 0 if no value is at
/// least [`EPSILON`].
///
/// Of nine scales around `max / top` the one with the smallest weighted squared error is taken. Then single
/// codes are changed while that lowers the error, in up to five rounds. All slices have the same length;
/// further codes are ignored.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn fit(x: &[f32], weights: &[f32], top: i32, codes: &mut [u8]) -> f32 {
    codes.fill(0);
    let max = x.iter().fold(0.0, |max, &x| if max > x { max } else { x });
    if max < EPSILON {
        return 0.0;
    }
    let mut inverse = top as f32 / max;
    // The codes of the first scale are compared as bytes and not limited to `top`, as in the reference.
    let mut best = error(x, weights, 1.0 / inverse, |x| i32::from(nearest_even(inverse * x) as u8));
    for k in (-4..=4_i8).filter(|&k| k != 0) {
        let candidate = (0.1 * f32::from(k) + top as f32) / max;
        let error = error(x, weights, 1.0 / candidate, |x| nearest_even(candidate * x).min(top));
        if error < best {
            (best, inverse) = (error, candidate);
        }
    }
    let (mut cross, mut square) = sums(x, weights, |x| nearest_even(inverse * x).min(top));
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = nearest_even(inverse * x).min(top) as u8;
    }
    for _ in 0..5 {
        let mut moved = false;
        for ((&x, &w), code) in x.iter().zip(weights).zip(codes.iter_mut()) {
            let q = f32::from(*code);
            let (mut without, mut rest) = (cross - w * x * q, square - w * q * q);
            if !(without > 0.0 && rest > 0.0) {
                continue;
            }
            let new = nearest_even(x * rest / without).min(top);
            if new == i32::from(*code) {
                continue;
            }
            without += w * x * new as f32;
            rest += w * new as f32 * new as f32;
            if without * without * square > cross * cross * rest {
                (*code, cross, square, moved) = (new as u8, without, rest, true);
            }
        }
        if !moved {
            break;
        }
    }
    if square > 0.0 { cross / square } else { 0.0 }
}
