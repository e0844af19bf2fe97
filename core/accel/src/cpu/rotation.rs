//! Rotations. The rounds of small strides are done in registers, by perfect shuffles; columns are copied out in strips,
//! so that a vector's values lie together. Every value sees the definition's operations in the definition's order.

use fearless_simd::{Simd, f32x16, prelude::*};
use quantoscope_core::rotation::Rotation;

/// Values in two registers, and the stride that their rounds reach.
const TAKEN: usize = 32;

/// Columns of a strip: what a row of it takes is a line of the cache.
const STRIP: usize = 16;

/// The rounds of strides 1 to 16, where there are that many.
///
/// Taking the even values apart from the odd ones brings values that are a stride apart into one lane of two registers,
/// where they are added and subtracted; the next time it is those of twice the stride. After five times, each has come
/// back to its place.
#[inline(always)]
fn near<S: Simd>(simd: S, x: &mut [f32], doubled: usize) -> usize {
    if doubled < TAKEN {
        return 1;
    }
    for values in x.as_chunks_mut::<TAKEN>().0 {
        let (low, high) = values.split_at_mut(TAKEN / 2);
        let mut a = f32x16::from_slice(simd, low);
        let mut b = f32x16::from_slice(simd, high);
        for _ in 0..5 {
            let (even, odd) = simd.deinterleave_f32x16(a, b);
            (a, b) = (even + odd, even - odd);
        }
        a.store_slice(low);
        b.store_slice(high);
    }
    TAKEN
}

/// Rotates, in every row of `stride` values, the vector that begins at `at`.
#[inline(always)]
pub fn rows<S: Simd>(simd: S, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
    for row in x.chunks_exact_mut(stride.max(1)) {
        if let Some(vector) = row.get_mut(at..).and_then(|r| r.get_mut(..rotation.len())) {
            rotation.row_after(
                vector,
                #[inline(always)]
                |x, doubled| near(simd, x, doubled),
            );
        }
    }
}

/// Rotates every column of `x`, rows of `width` values.
#[inline(always)]
pub fn columns(rotation: &Rotation, x: &mut [f32], width: usize) {
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
