//! Transposed sub-blocks: vectors whose lane `j` holds values of sub-block `j`. Knows no search.

#[cfg(target_arch = "x86_64")]
use fearless_simd::f32x8;
use fearless_simd::prelude::*;

/// Lanes of the widest supported vector.
pub(super) const WIDEST: usize = 16;

/// `N` values of `G` vectors of sub-blocks, indexed `[value][vector]`.
pub(super) type TransposedLanes<S, const N: usize, const G: usize> = [[<S as Simd>::f32s; G]; N];

/// All zeros. Callers create them once and refill them, since creation costs as much as filling.
#[inline(always)]
pub(super) fn blank<S: Simd, const N: usize, const G: usize>(simd: S) -> TransposedLanes<S, N, G> {
    [[S::f32s::splat(simd, 0.0); G]; N]
}

/// Fills lanes from `rows`; lanes without a row are 0.
#[inline(always)]
pub(super) fn fill<S: Simd, const N: usize, const G: usize>(
    simd: S,
    columns: &mut TransposedLanes<S, N, G>,
    rows: &[[f32; N]],
) {
    fill_from(
        simd,
        columns,
        #[inline(always)]
        |j| rows.get(j),
    );
}

/// Fills each lane from `row(lane)`; lanes without a row are 0.
#[inline(always)]
pub(super) fn fill_from<'a, S: Simd, const N: usize, const G: usize>(
    simd: S,
    columns: &mut TransposedLanes<S, N, G>,
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
            transpose::<S>(simd, &mut square);
            for (column, vector) in columns[from..].iter_mut().zip(&square).take(len) {
                column[g] = *vector;
            }
        }
    }
}

/// The inverse of [`fill_from`]: calls `put(lane, offset, values)` for each part of each sub-block.
#[inline(always)]
pub(super) fn rows_of<S: Simd, const N: usize, const G: usize>(
    simd: S,
    columns: &TransposedLanes<S, N, G>,
    mut put: impl FnMut(usize, usize, S::f32s),
) {
    let len = S::f32s::LEN;
    for g in 0..G {
        for from in (0..N).step_by(len) {
            let mut square = [columns[from][g]; WIDEST];
            for (vector, column) in square.iter_mut().zip(&columns[from..]).take(len) {
                *vector = column[g];
            }
            transpose::<S>(simd, &mut square);
            for (j, vector) in square.iter().enumerate().take(len) {
                put(g * len + j, from, *vector);
            }
        }
    }
}

/// Transposes the square of the first [`SimdBase::LEN`] vectors. Interleaving the halves moves the top bit of
/// a row index to the end of the column index; as many rounds as the index has bits swap rows and columns.
#[inline(always)]
pub(super) fn transpose<S: Simd>(simd: S, square: &mut [S::f32s; WIDEST]) {
    #[cfg(target_arch = "x86_64")]
    if let fearless_simd::Level::Avx2(avx2) = simd.level() {
        return transpose_eight::<S>(avx2, simd, square);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = simd;
    let half = S::f32s::LEN / 2;
    for _ in 0..S::f32s::LEN.trailing_zeros() {
        let old = *square;
        for i in 0..half {
            (square[2 * i], square[2 * i + 1]) = old[i].interleave(old[i + half]);
        }
    }
}

/// [`transpose`] with AVX2 shuffles within vector halves: half as many operations.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_eight<S: Simd>(avx2: fearless_simd::x86::Avx2, simd: S, square: &mut [S::f32s; WIDEST]) {
    use core::arch::x86_64::*;
    fearless_simd::kernel!(
        #[inline(always)]
        fn transposed(_avx2: Avx2, r: [__m256; 8]) -> [__m256; 8] {
            let [mut pairs, mut fours, mut out] = [r; 3];
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in [0, 1, 4, 5] {
                let to = i / 4 * 4 + i % 4 * 2;
                fours[to] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
                fours[to + 1] = _mm256_shuffle_ps::<0xEE>(pairs[i], pairs[i + 2]);
            }
            for i in 0..4 {
                out[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
                out[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
            }
            out
        }
    );
    let row = |i: usize| -> __m256 { f32x8::from_slice(avx2, square[i].as_slice()).into() };
    let columns = transposed(avx2, [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)]);
    for (square, column) in square.iter_mut().zip(columns) {
        let column: f32x8<_> = column.simd_into(avx2);
        *square = S::f32s::from_slice(simd, column.as_slice());
    }
}

/// The lanes as an array.
#[inline(always)]
pub(super) fn numbers<S: Simd>(v: S::f32s) -> [f32; WIDEST] {
    let mut out = [0.0; WIDEST];
    v.store_slice(&mut out[..S::f32s::LEN]);
    out
}

/// `a` in lanes where `mask` is set, `b` in the others.
#[inline(always)]
pub(super) fn pick<S: Simd>(mask: S::mask32s, a: S::f32s, b: S::f32s) -> S::f32s {
    mask.select(a, b)
}

/// The value of largest magnitude of every sub-block, with its sign; the first of equals, and +0 if all are
/// 0.
#[inline(always)]
pub(super) fn signed_absmax<S: Simd, const N: usize, const G: usize>(
    simd: S,
    x: &TransposedLanes<S, N, G>,
) -> [S::f32s; G] {
    // Magnitudes are compared as integers, so that a step does not depend on the selection of the step
    // before.
    let (mut max, mut max_magnitude) = ([S::f32s::splat(simd, 0.0); G], [S::i32s::splat(simd, 0); G]);
    for x in x {
        for g in 0..G {
            let magnitude = x[g].abs().bitcast::<S::i32s>();
            max[g] = pick::<S>(magnitude.simd_gt(max_magnitude[g]), x[g], max[g]);
            max_magnitude[g] = max_magnitude[g].max(magnitude);
        }
    }
    max
}
