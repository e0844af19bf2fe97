//! Sub-blocks side by side: vectors whose lane `j` belongs to sub-block `j`. Knows no search.

use fearless_simd::prelude::*;

/// Lanes of the widest vector.
pub const WIDEST: usize = 16;

/// Value `i` of `G` vectors of sub-blocks, for all `N` values.
pub type Columns<S, const N: usize, const G: usize> = [[<S as Simd>::f32s; G]; N];

/// Columns of zeros. They are made once and filled again and again: to make them costs as much as to fill them.
#[inline(always)]
pub fn blank<S: Simd, const N: usize, const G: usize>(simd: S) -> Columns<S, N, G> {
    [[S::f32s::splat(simd, 0.0); G]; N]
}

/// The columns of up to `G` vectors of sub-blocks; lanes without one get zeros.
#[inline(always)]
pub fn fill<S: Simd, const N: usize, const G: usize>(
    simd: S,
    columns: &mut Columns<S, N, G>,
    rows: &[[f32; N]],
) {
    fill_from(
        simd,
        columns,
        #[inline(always)]
        |j| rows.get(j),
    );
}

/// The columns of `G` vectors of sub-blocks, that of each lane being `row(lane)`.
#[inline(always)]
pub fn fill_from<'a, S: Simd, const N: usize, const G: usize>(
    simd: S,
    columns: &mut Columns<S, N, G>,
    row: impl Fn(usize) -> Option<&'a [f32; N]>,
) {
    let (zero, len) = (S::f32s::splat(simd, 0.0), S::f32s::LEN);
    for g in 0..G {
        for from in (0..N).step_by(len) {
            let mut square = [zero; WIDEST];
            for (j, vector) in square.iter_mut().enumerate().take(len) {
                if let Some(values) = row(g * len + j) {
                    *vector = S::f32s::from_slice(simd, &values[from..from + len]);
                }
            }
            transpose::<S>(&mut square);
            for (column, vector) in columns[from..].iter_mut().zip(&square).take(len) {
                column[g] = *vector;
            }
        }
    }
}

/// The inverse of [`fill_from`]: hands out the part of a sub-block that begins at a place, and its lane.
#[inline(always)]
pub fn rows_of<S: Simd, const N: usize, const G: usize>(
    columns: &Columns<S, N, G>,
    mut put: impl FnMut(usize, usize, S::f32s),
) {
    let len = S::f32s::LEN;
    for g in 0..G {
        for from in (0..N).step_by(len) {
            let mut square = [columns[from][g]; WIDEST];
            for (vector, column) in square.iter_mut().zip(&columns[from..]).take(len) {
                *vector = column[g];
            }
            transpose::<S>(&mut square);
            for (j, vector) in square.iter().enumerate().take(len) {
                put(g * len + j, from, *vector);
            }
        }
    }
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
