//! A scale for magnitudes on levels from 0, with weights, without a grid: ggml's `make_qp_quants`.
//!
//! Knows no layout. Values may be negative, which the reference takes no care of: its codes are bytes, so that a code
//! of -1 is kept as 255, and we count as it counts.

use super::scale_search::EPSILON;
use crate::float::nearest_even;

/// Sums of weight x value x code and weight x code x code.
fn sums(x: &[f32], weights: &[f32], codes: impl Fn(f32) -> i32) -> (f32, f32) {
    let (mut cross, mut square) = (0.0, 0.0);
    for (&x, &w) in x.iter().zip(weights) {
        let q = codes(x) as f32;
        cross += w * x * q;
        square += w * q * q;
    }
    (cross, square)
}

/// The weighted error of the codes of a scale.
fn error(x: &[f32], weights: &[f32], scale: f32, codes: impl Fn(f32) -> i32) -> f32 {
    x.iter().zip(weights).fold(0.0, |sum, (&x, &w)| {
        let off = x - scale * codes(x) as f32;
        sum + w * off * off
    })
}

/// The scale that fits best with codes up to `top`: of nine scales around `max / top` the one with the least error,
/// its codes then moved one by one while that helps, up to five rounds. At most 32 values.
pub fn fit(x: &[f32], weights: &[f32], top: i32) -> f32 {
    let max = x.iter().fold(0.0, |max, &x| if max > x { max } else { x });
    if max < EPSILON {
        return 0.0;
    }
    let mut inverse = top as f32 / max;
    let mut best = error(x, weights, 1.0 / inverse, |x| i32::from(nearest_even(inverse * x) as u8));
    for k in (-4..=4_i8).filter(|&k| k != 0) {
        let tried = (0.1 * f32::from(k) + top as f32) / max;
        let error = error(x, weights, 1.0 / tried, |x| nearest_even(tried * x).min(top));
        if error < best {
            (best, inverse) = (error, tried);
        }
    }
    let (mut cross, mut square) = sums(x, weights, |x| nearest_even(inverse * x).min(top));
    let mut codes = [0_u8; 32];
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = nearest_even(inverse * x).min(top) as u8;
    }
    for _ in 0..5 {
        let mut moved = false;
        for ((&x, &w), code) in x.iter().zip(weights).zip(&mut codes) {
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
