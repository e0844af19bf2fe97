//! Sub-blocks side by side: vectors whose lane `j` belongs to sub-block `j`. Knows no search.

use fearless_simd::prelude::*;

/// Lanes of the widest vector.
pub const WIDEST: usize = 16;

/// Value `i` of `G` vectors of sub-blocks, for all `N` values.
pub type Columns<S, const N: usize, const G: usize> = [[<S as Simd>::f32s; G]; N];

/// The columns of up to `G` vectors of sub-blocks; lanes without one have zeros.
#[inline(always)]
pub fn columns<S: Simd, const N: usize, const G: usize>(simd: S, rows: &[[f32; N]]) -> Columns<S, N, G> {
    let (zero, len) = (S::f32s::splat(simd, 0.0), S::f32s::LEN);
    let mut out = [[zero; G]; N];
    for g in 0..G {
        for from in (0..N).step_by(len) {
            let mut square = [zero; WIDEST];
            for (j, row) in square.iter_mut().enumerate().take(len) {
                if let Some(values) = rows.get(g * len + j) {
                    *row = S::f32s::from_slice(simd, &values[from..from + len]);
                }
            }
            transpose::<S>(&mut square);
            for (out, column) in out[from..].iter_mut().zip(square).take(len) {
                out[g] = column;
            }
        }
    }
    out
}

/// Turns the square of the first [`SimdBase::LEN`] vectors: interleaving the halves once moves the uppermost bit of
/// a row's number to the end of the column's, so as many times as there are such bits make rows columns.
#[inline(always)]
pub fn transpose<S: Simd>(square: &mut [S::f32s; WIDEST]) {
    let half = S::f32s::LEN / 2;
    for _ in 0..S::f32s::LEN.trailing_zeros() {
        let old = *square;
        for i in 0..half {
            (square[2 * i], square[2 * i + 1]) = old[i].interleave(old[i + half]);
        }
    }
}

/// The lanes as numbers.
#[inline(always)]
pub fn numbers<S: Simd>(v: S::f32s) -> [f32; WIDEST] {
    let mut out = [0.0; WIDEST];
    v.store_slice(&mut out[..S::f32s::LEN]);
    out
}

/// `a` where `mask` is set, `b` elsewhere.
#[inline(always)]
pub fn pick<S: Simd>(mask: S::mask32s, a: S::f32s, b: S::f32s) -> S::f32s {
    mask.select(a, b)
}

/// The value of greatest magnitude of every sub-block, with its sign; the first of equals, and +0 where all are 0.
#[inline(always)]
pub fn loudest<S: Simd, const N: usize, const G: usize>(simd: S, x: &Columns<S, N, G>) -> [S::f32s; G] {
    let mut max = [S::f32s::splat(simd, 0.0); G];
    for x in x {
        for g in 0..G {
            max[g] = pick::<S>(x[g].abs().simd_gt(max[g].abs()), x[g], max[g]);
        }
    }
    max
}
