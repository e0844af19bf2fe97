//! Vector decoders of the types of 256 values. Block layouts are documented in `quantoscope_core::quant`.
//!
//! Values are decoded sixteen at a time; index `k` counts sixteens, so `k / 2` counts sub-blocks of 32
//! values. Most types pack the upper bits of several sub-blocks into the same bytes.

use super::decode::{VectorDecoder, bytes, codebook, f16_at, put, widened, widened_signed};
use fearless_simd::{Simd, f32x8, prelude::*, u8x16, u16x8, u32x4};
use quantoscope_core::quant::codebook::IQ4;
use quantoscope_core::quant::six_bits::unpack_sixteen;

/// Shifts bytes in 16-bit lanes; the caller must mask the bits that cross a byte.
#[inline(always)]
fn shifted<S: Simd>(v: u8x16<S>, right: u32) -> u8x16<S> {
    (v.bitcast::<u16x8<S>>() >> right).bitcast()
}

/// Sixteen 2-bit codes; 128 values share 32 bytes.
#[inline(always)]
fn quarters<S: Simd>(simd: S, from: &[u8], at: usize, k: usize) -> u8x16<S> {
    let (half, sub_block) = (k / 8, k / 2 % 4);
    shifted(bytes(simd, from, at + 32 * half + 16 * (k % 2)), 2 * sub_block as u32) & 3
}

/// Sixteen 1-bit codes, at bit `bit` of the result.
#[inline(always)]
fn plane<S: Simd>(simd: S, from: &[u8], at: usize, k: usize, bit: u32) -> u8x16<S> {
    let set = bytes(simd, from, at + 16 * (k % 2)) & (1 << (k / 2));
    // A single bit does not leave its byte.
    match (k as u32 / 2).checked_sub(bit) {
        Some(right) => shifted(set, right),
        None => (set.bitcast::<u16x8<S>>() << (bit - k as u32 / 2)).bitcast(),
    }
}

/// Sixteen 4-bit codes; `2 * N` codes share `N` bytes.
#[inline(always)]
fn nibbles<S: Simd, const N: usize>(simd: S, from: &[u8], at: usize, k: usize) -> u8x16<S> {
    let (chunk, inside) = (16 * k / (2 * N), 16 * k % (2 * N));
    let both = bytes(simd, from, at + chunk * N + inside % N);
    if inside < N { both & 15 } else { both >> 4 }
}

/// Twelve bytes from offset `at`.
#[inline(always)]
fn twelve(from: &[u8], at: usize) -> [u8; 12] {
    let mut out = [0; 12];
    out.copy_from_slice(&from[at..at + 12]);
    out
}

/// Decoder of Q2_K.
pub(super) struct Q2KDecoder;

impl VectorDecoder<256, 84> for Q2KDecoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 84], values: &mut [f32; 256]) {
        let (d, dmin) = (f16_at(simd, from, 80), f16_at(simd, from, 82));
        for k in 0..16 {
            let (d, m) = (d * f32::from(from[k] & 15), dmin * f32::from(from[k] >> 4));
            put(values, k, widened(quarters(simd, from, 16, k)) * d - m);
        }
    }
}

/// Decoder of Q3_K.
pub(super) struct Q3KDecoder;

impl VectorDecoder<256, 110> for Q3KDecoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 110], values: &mut [f32; 256]) {
        let (d, scales) = (f16_at(simd, from, 108), unpack_sixteen(twelve(from, 96)));
        for (k, &scale) in scales.iter().enumerate() {
            let codes = quarters(simd, from, 32, k) | plane(simd, from, 0, k, 2);
            put(values, k, (widened(codes) - 4.0) * (d * f32::from(scale as i8 - 32)));
        }
    }
}

/// Decoder of Q4_K.
pub(super) struct Q4KDecoder;

impl VectorDecoder<256, 144> for Q4KDecoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 144], values: &mut [f32; 256]) {
        for_each_sixteen(simd, from, |k, d, m| {
            put(values, k, widened(nibbles::<S, 32>(simd, from, 16, k)) * d - m);
        });
    }
}

/// Decoder of Q5_K.
pub(super) struct Q5KDecoder;

impl VectorDecoder<256, 176> for Q5KDecoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 176], values: &mut [f32; 256]) {
        for_each_sixteen(simd, from, |k, d, m| {
            let codes = nibbles::<S, 32>(simd, from, 48, k) | plane(simd, from, 16, k, 4);
            put(values, k, widened(codes) * d - m);
        });
    }
}

/// Calls `sixteen(k, scale, min)` for each sixteen values, from the header of Q4_K and Q5_K.
#[inline(always)]
fn for_each_sixteen<S: Simd>(simd: S, from: &[u8], mut sixteen: impl FnMut(usize, f32, f32)) {
    let (d, dmin) = (f16_at(simd, from, 0), f16_at(simd, from, 2));
    // Four scales, and four minima, are the bytes of a word; see `six_bits::pack_pairs`.
    let word = |at: usize| u32::from_le_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
    let (low, high, both) = (word(4), word(8), word(12));
    let upper = |v: u32| v >> 2 & 0x3030_3030;
    let words = [
        low & 0x3F3F_3F3F,
        both & 0x0F0F_0F0F | upper(low),
        high & 0x3F3F_3F3F,
        both >> 4 & 0x0F0F_0F0F | upper(high),
    ];
    let codes = widened(u32x4::load_array(simd, words).bitcast());
    let steps = f32x8::splat(simd, d).combine(f32x8::splat(simd, dmin));
    let steps = (codes * steps).to_array();
    for k in 0..16 {
        sixteen(k, steps[k / 2], steps[8 + k / 2]);
    }
}

/// Decoder of Q6_K.
pub(super) struct Q6KDecoder;

impl VectorDecoder<256, 210> for Q6KDecoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 210], values: &mut [f32; 256]) {
        let d = f16_at(simd, from, 208);
        for k in 0..16 {
            let codes = nibbles::<S, 64>(simd, from, 0, k) | (quarters(simd, from, 128, k) << 4);
            put(values, k, (widened(codes) - 32.0) * (d * f32::from(from[192 + k] as i8)));
        }
    }
}

/// Decoder of IQ4_XS.
pub(super) struct Iq4XsDecoder;

impl VectorDecoder<256, 136> for Iq4XsDecoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 136], values: &mut [f32; 256]) {
        let (d, levels) = (f16_at(simd, from, 0), codebook(simd, &IQ4));
        let upper = u16::from_le_bytes([from[2], from[3]]);
        for k in 0..16 {
            let j = k / 2;
            let scale = (from[4 + j / 2] >> (4 * (j % 2)) & 15) | ((upper >> (2 * j) & 3) as u8) << 4;
            let codes = nibbles::<S, 16>(simd, from, 8, k);
            let d = d * f32::from(scale as i8 - 32);
            put(values, k, widened_signed(levels.swizzle_dyn(codes)) * d);
        }
    }
}

/// Decoder of TQ2_0.
pub(super) struct Tq20Decoder;

impl VectorDecoder<256, 66> for Tq20Decoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 66], values: &mut [f32; 256]) {
        let d = f16_at(simd, from, 64);
        for k in 0..16 {
            put(values, k, (widened(quarters(simd, from, 0, k)) - 1.0) * d);
        }
    }
}
