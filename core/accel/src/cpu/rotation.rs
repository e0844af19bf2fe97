//! Rotations in vectors. Butterflies of small strides run in registers, by perfect shuffles; columns are
//! copied in strips, so that their values are contiguous. Every value sees the operations of the CPU
//! reference in the same order.

use fearless_simd::{Simd, f32x16, f64x8, prelude::*};
use quantoscope_core::rotation::Rotation;

/// Values in two registers; the butterflies in registers have strides below this.
const CHUNK: usize = 32;

/// Columns per strip; a row of a strip is one cache line.
const STRIP: usize = 16;

/// Butterflies of strides 1 to 16, if the transform has that many. Returns the next stride.
///
/// Deinterleaving even and odd values moves values that are one stride apart into the same lane of two
/// registers, where they are added and subtracted; the next round does the same for twice the stride. After
/// five rounds every value is back at its position.
#[inline(always)]
fn small_strides<S: Simd>(simd: S, x: &mut [f32], doubled: usize) -> usize {
    if doubled < CHUNK {
        return 1;
    }
    for values in x.as_chunks_mut::<CHUNK>().0 {
        let (low, high) = values.split_at_mut(CHUNK / 2);
        let mut a = f32x16::from_slice(simd, low);
        let mut b = f32x16::from_slice(simd, high);
        for _ in 0..5 {
            let (even, odd) = simd.deinterleave_f32x16(a, b);
            (a, b) = (even + odd, even - odd);
        }
        a.store_slice(low);
        b.store_slice(high);
    }
    CHUNK
}

/// Rotates the vector at offset `at` of every row of `stride` values.
#[inline(always)]
pub(super) fn rows<S: Simd>(simd: S, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
    for row in x.chunks_exact_mut(stride.max(1)) {
        if let Some(vector) = row.get_mut(at..).and_then(|r| r.get_mut(..rotation.len())) {
            rotation.row_after(
                vector,
                #[inline(always)]
                |x, doubled| small_strides(simd, x, doubled),
            );
        }
    }
}

/// Rotates every column of `x`, a row-major matrix of `width` columns.
#[inline(always)]
pub(super) fn columns(rotation: &Rotation, x: &mut [f32], width: usize) {
    let mut strip = vec![[0.0; STRIP]; rotation.len()];
    for from in (0..width).step_by(STRIP) {
        let part = from..(from + STRIP).min(width);
        for (row, values) in x.chunks_exact(width.max(1)).zip(&mut strip) {
            values[..part.len()].copy_from_slice(&row[part.clone()]);
        }
        rotation.columns(strip.as_flattened_mut(), STRIP);
        for (row, values) in x.chunks_exact_mut(width).zip(&strip) {
            row[part.clone()].copy_from_slice(&values[..part.len()]);
        }
    }
}

/// Values of binary64 in two registers.
const CHUNK_F64: usize = 16;

/// Columns of binary64 per strip; a row of a strip is one cache line.
const STRIP_F64: usize = 8;

/// [`small_strides`] in binary64: strides 1 to 8.
#[inline(always)]
fn small_strides_f64<S: Simd>(simd: S, x: &mut [f64], doubled: usize) -> usize {
    if doubled < CHUNK_F64 {
        return 1;
    }
    for values in x.as_chunks_mut::<CHUNK_F64>().0 {
        let (low, high) = values.split_at_mut(CHUNK_F64 / 2);
        let mut a = f64x8::from_slice(simd, low);
        let mut b = f64x8::from_slice(simd, high);
        for _ in 0..4 {
            let (even, odd) = simd.deinterleave_f64x8(a, b);
            (a, b) = (even + odd, even - odd);
        }
        a.store_slice(low);
        b.store_slice(high);
    }
    CHUNK_F64
}

/// [`rows`] in binary64.
#[inline(always)]
pub(super) fn rows_f64<S: Simd>(simd: S, rotation: &Rotation, x: &mut [f64], stride: usize, at: usize) {
    for row in x.chunks_exact_mut(stride.max(1)) {
        if let Some(vector) = row.get_mut(at..).and_then(|r| r.get_mut(..rotation.len())) {
            rotation.row_after(
                vector,
                #[inline(always)]
                |x, doubled| small_strides_f64(simd, x, doubled),
            );
        }
    }
}

/// [`columns`] in binary64.
#[inline(always)]
pub(super) fn columns_f64(rotation: &Rotation, x: &mut [f64], width: usize) {
    let mut strip = vec![[0.0; STRIP_F64]; rotation.len()];
    for from in (0..width).step_by(STRIP_F64) {
        let part = from..(from + STRIP_F64).min(width);
        for (row, values) in x.chunks_exact(width.max(1)).zip(&mut strip) {
            values[..part.len()].copy_from_slice(&row[part.clone()]);
        }
        rotation.columns(strip.as_flattened_mut(), STRIP_F64);
        for (row, values) in x.chunks_exact_mut(width).zip(&strip) {
            row[part.clone()].copy_from_slice(&values[..part.len()]);
        }
    }
}
