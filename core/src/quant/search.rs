//! The searches for the scale of a sub-block that the k-types share: least squares over candidate grids.
//!
//! Knows no layout, no super-block and no importance matrix. Every sum runs over the sub-block in index order, each
//! product from the left: that is the definition, and lanes may only run across sub-blocks. Candidates are not
//! independent either: with a minimum, the one that wins changes the minimum that the next ones round from.
//!
//! Reference: `make_qkx2_quants`, `make_qx_quants` (mode 1) and `make_q3_quants` (with refinement) of ggml 0.25.

use super::block::{Overflow, extremes, scale_field, signed_absmax};
use super::wide::{Codes, Values};
use crate::float::{f16_to_f32, nearest_even};

/// A sub-block whose greatest magnitude is below this is taken for zeros.
pub const EPSILON: f32 = 1e-15;

/// What approximates a sub-block: `scale * code - min`, where `min` is not negative.
#[derive(Clone, Copy, Default)]
pub struct Fit {
    pub scale: f32,
    pub min: f32,
}

/// Which grids are tried: as if the top code were `top + first + step * k`, for `k` in `0..=count`.
pub struct Grid {
    pub top: i32,
    pub first: f32,
    pub step: f32,
    pub count: i32,
    /// Judge candidates by the sum of magnitudes instead of squares.
    pub absolute: bool,
}

/// The sums from which a candidate's best scale and minimum follow.
#[derive(Default)]
struct Sums {
    code: f32,
    square: f32,
    cross: f32,
}

impl Grid {
    fn code(&self, x: f32) -> i32 {
        nearest_even(x).clamp(0, self.top)
    }

    /// The weighted error of `scale * code + min`.
    fn error<const N: usize>(
        &self,
        x: &[f32; N],
        weights: &[f32; N],
        codes: &[f32; N],
        scale: f32,
        min: f32,
    ) -> f32 {
        let mut differences = [0.0; N];
        for ((off, &q), &x) in differences.iter_mut().zip(codes).zip(x) {
            let d = scale * q + min - x;
            *off = if self.absolute { d.abs() } else { d * d };
        }
        weights.iter().zip(&differences).fold(0.0, |sum, (&w, &d)| sum + w * d)
    }

    /// The codes of a grid, as numbers.
    fn codes<const N: usize>(&self, x: &[f32; N], inverse: f32, min: f32) -> [f32; N] {
        x.map(|x| self.code(inverse * (x - min)) as f32)
    }

    /// Scale and minimum (at most 0) of the least squared error with these codes, where there is one.
    fn solve<const N: usize>(
        x: &[f32; N],
        weights: &[f32; N],
        codes: &[f32; N],
        sum_w: f32,
        sum_x: f32,
    ) -> Option<(f32, f32)> {
        let mut sums = Sums::default();
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

    /// The fit of one sub-block, and its codes.
    ///
    /// The minimum is never above 0, so a sub-block of one positive value still has a scale; one of a value that is
    /// not positive has scale 0 and codes 0.
    pub fn fit<const N: usize>(&self, x: &[f32; N], weights: &[f32; N], out: &mut [u8; N]) -> Fit {
        let (least, max) = extremes(x);
        let mut min = if least > 0.0 { 0.0 } else { least };
        if max == min {
            *out = [0; N];
            return Fit { scale: 0.0, min: -min };
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
        let mut codes = self.codes(x, inverse, min);
        let mut best = self.error(x, weights, &codes, scale, min);
        for k in 0..=self.count {
            // The range of values is that of the current minimum, which a winner may have moved.
            let inverse = (self.first + self.step * k as f32 + top) / (max - min);
            let tried = self.codes(x, inverse, min);
            let Some((s, m)) = Self::solve(x, weights, &tried, sum_w, sum_x) else { continue };
            let error = self.error(x, weights, &tried, s, m);
            if error < best {
                (best, scale, min, codes) = (error, s, m, tried);
            }
        }
        *out = codes.map(|q| q as u8);
        Fit { scale, min: -min }
    }

    /// The fits of all sub-blocks of a super-block, and the codes; `weigh` says what each value counts.
    ///
    /// A sub-block so loud that its sums overflow has no finite fit, and ggml then writes nonsense; we refuse it.
    pub fn fit_all<const N: usize, const S: usize>(
        &self,
        values: &Values,
        codes: &mut Codes,
        weigh: impl Fn(&[f32; N]) -> [f32; N],
    ) -> Result<[Fit; S], Overflow> {
        let mut fits = [Fit::default(); S];
        let parts = values.as_chunks::<N>().0.iter().zip(codes.as_chunks_mut::<N>().0);
        for (fit, (x, codes)) in fits.iter_mut().zip(parts) {
            *fit = self.fit(x, &weigh(x), codes);
        }
        match fits.iter().all(|f| f.scale.is_finite() && f.min.is_finite()) {
            true => Ok(fits),
            false => Err(loudest(values)),
        }
    }
}

/// The place of the value of greatest magnitude.
pub fn loudest(values: &Values) -> Overflow {
    let top = signed_absmax(values);
    Overflow(values.iter().position(|&x| x == top).unwrap_or(0))
}

/// Positive numbers of a super-block as integers up to `top` under one scale: the field of the scale, its value,
/// and the integers (as ggml casts them, to the low byte). All 0 where none is positive.
pub fn share<const S: usize>(
    numbers: [f32; S],
    top: f32,
    values: &Values,
) -> Result<([u8; 2], f32, [u8; S]), Overflow> {
    let max = numbers.iter().fold(0.0, |max, &n| if n > max { n } else { max });
    if max <= 0.0 {
        return Ok(([0; 2], 0.0, [0; S]));
    }
    let inverse = top / max;
    let field = scale_field(max / top, values)?;
    Ok((field, f16_to_f32(u16::from_le_bytes(field)), numbers.map(|n| nearest_even(inverse * n) as u8)))
}

/// The number of greatest magnitude; the first of equals, and 0 where all are.
pub fn signed_max<const S: usize>(numbers: &[f32; S]) -> f32 {
    numbers.iter().fold(0.0_f32, |max, &n| if n.abs() > max.abs() { n } else { max })
}

/// Sums of weight x value x code and weight x code x code, the weight of a value being its square.
fn square_sums<const N: usize>(x: &[f32; N], codes: &[i32; N]) -> (f32, f32) {
    let (mut cross, mut square) = (0.0, 0.0);
    for (&x, &q) in x.iter().zip(codes) {
        let (w, q) = (x * x, q as f32);
        cross += w * x * q;
        square += w * q * q;
    }
    (cross, square)
}

fn symmetric_codes<const N: usize>(x: &[f32; N], inverse: f32, half: i32) -> [i32; N] {
    x.map(|x| nearest_even(inverse * x).clamp(-half, half - 1))
}

/// The scale around zero that fits best, with its codes in `-half..half` counted from `-half`: the grid on which
/// the loudest value is `-half` exactly, then nine finer and nine coarser ones.
///
/// Zeros have scale 0 and codes 0, that is `-half`.
pub fn around_zero<const N: usize>(x: &[f32; N], half: i32, out: &mut [u8; N]) -> f32 {
    let max = signed_absmax(x);
    if max.abs() < EPSILON {
        *out = [0; N];
        return 0.0;
    }
    let mut codes = symmetric_codes(x, -(half as f32) / max, half);
    let (cross, square) = square_sums(x, &codes);
    let mut scale = if square != 0.0 { cross / square } else { 0.0 };
    let mut best = scale * cross;
    for k in (-9..=9).filter(|&k| k != 0) {
        let tried = symmetric_codes(x, -(half as f32 + 0.1 * k as f32) / max, half);
        let (cross, square) = square_sums(x, &tried);
        if square > 0.0 && cross * cross > best * square {
            (scale, codes) = (cross / square, tried);
            best = scale * cross;
        }
    }
    *out = codes.map(|q| (q + half) as u8);
    scale
}

/// As [`around_zero`], but from one grid, whose codes are then moved one by one while that helps, up to five rounds.
pub fn refined<const N: usize>(x: &[f32; N], half: i32, out: &mut [u8; N]) -> f32 {
    let max = signed_absmax(x);
    if max.abs() < EPSILON {
        *out = [0; N];
        return 0.0;
    }
    let mut codes = symmetric_codes(x, -(half as f32) / max, half);
    let (mut cross, mut square) = square_sums(x, &codes);
    for _ in 0..5 {
        let mut moved = false;
        for (&x, code) in x.iter().zip(&mut codes) {
            let (w, q) = (x * x, *code as f32);
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
