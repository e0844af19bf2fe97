//! Vector decoders of the types of 32 and 64 values: unpack, widen and scale sixteen codes at a time. Block
//! layouts are documented in `quantoscope_core::quant`. Knows no super-block type.

use fearless_simd::{Simd, f32x16, i8x16, i32x16, mask8x16, prelude::*, u8x16, u64x2};
use quantoscope_core::float::{e8m0_half_to_f32, f16_to_f32, ue4m3_to_f32};
use quantoscope_core::quant::codebook::{E2M1, IQ4};

/// A decoder of blocks of `N` values in `B` bytes.
pub(super) trait VectorDecoder<const N: usize, const B: usize> {
    /// Decodes one block.
    fn decode<S: Simd>(simd: S, bytes: &[u8; B], values: &mut [f32; N]);
}

/// Decodes all blocks of `src`.
#[inline(always)]
pub(super) fn decode<T: VectorDecoder<N, B>, S: Simd, const N: usize, const B: usize>(
    simd: S,
    src: &[u8],
    out: &mut [f32],
) {
    let (src, rest) = src.as_chunks::<B>();
    let (out, over) = out.as_chunks_mut::<N>();
    assert!(rest.is_empty() && over.is_empty() && src.len() == out.len(), "whole blocks and their bytes");
    for (bytes, values) in src.iter().zip(out) {
        T::decode(simd, bytes, values);
    }
}

/// Sixteen bytes from offset `at`.
#[inline(always)]
pub(super) fn bytes<S: Simd>(simd: S, from: &[u8], at: usize) -> u8x16<S> {
    u8x16::from_slice(simd, &from[at..at + 16])
}

/// Unsigned codes as floats.
#[inline(always)]
pub(super) fn widened<S: Simd>(codes: u8x16<S>) -> f32x16<S> {
    let (a, b) = codes.widen();
    let (a, b) = a.combine(b).widen();
    a.combine(b).bitcast::<i32x16<S>>().to_float()
}

/// Signed codes as floats.
#[inline(always)]
pub(super) fn widened_signed<S: Simd>(codes: i8x16<S>) -> f32x16<S> {
    let (a, b) = codes.widen();
    let (a, b) = a.combine(b).widen();
    a.combine(b).to_float()
}

/// Stores sixteen values at index `16 * k`.
#[inline(always)]
pub(super) fn put<S: Simd, const N: usize>(values: &mut [f32; N], k: usize, v: f32x16<S>) {
    v.store_slice(&mut values[16 * k..16 * (k + 1)]);
}

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn widened_field(_token: Avx2, bits: u16) -> f32 {
        use core::arch::x86_64::{_mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32};
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits.into())))
    }
);

/// The F16 at byte `at`, as F32.
#[inline(always)]
pub(super) fn f16_at<S: Simd>(simd: S, bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = simd.level().as_avx2() {
        return widened_field(token, bits);
    }
    let _ = simd;
    f16_to_f32(bits)
}

/// Low and high nibbles of sixteen bytes from offset `at`.
#[inline(always)]
pub(super) fn nibbles<S: Simd>(simd: S, from: &[u8], at: usize) -> [u8x16<S>; 2] {
    let both = bytes(simd, from, at);
    [both & 15, both >> 4]
}

/// A codebook whose levels are small integers.
#[inline(always)]
pub(super) fn codebook<S: Simd>(simd: S, levels: &[f32; 16]) -> i8x16<S> {
    i8x16::load_array(simd, levels.map(|level| level as i8))
}

/// Adds the fifth bits of the four bytes from offset `at` to nibbles.
#[inline(always)]
fn five_bits<S: Simd>(simd: S, from: &[u8], at: usize, low: [u8x16<S>; 2]) -> [u8x16<S>; 2] {
    let bit = |a: usize| {
        let bits = u16::from_le_bytes([from[at + a], from[at + a + 1]]);
        let (set, clear) = (u8x16::splat(simd, 16), u8x16::splat(simd, 0));
        mask8x16::from_bitmask(simd, bits.into()).select(set, clear)
    };
    [low[0] | bit(0), low[1] | bit(2)]
}

/// Defines a decoder of 32 values by the codes of its halves and the value of a code.
macro_rules! halves {
    ($name:ident, $bytes:literal, |$simd:ident, $from:ident| $codes:expr, |$code:ident| $value:expr, $($let:ident = $part:expr),+) => {
        /// Decoder of the type in its name.
        pub(super) struct $name;

        impl VectorDecoder<32, $bytes> for $name {
            #[inline(always)]
            fn decode<S: Simd>($simd: S, $from: &[u8; $bytes], values: &mut [f32; 32]) {
                $(let $let = $part;)+
                let [low, high] = $codes;
                let $code = low;
                put(values, 0, $value);
                let $code = high;
                put(values, 1, $value);
            }
        }
    };
}

halves!(
    Q4_0Decoder,
    18,
    |simd, from| nibbles(simd, from, 2),
    |q| (widened(q) - 8.0) * d,
    d = f16_at(simd, from, 0)
);
halves!(
    Q8_0Decoder,
    34,
    |simd, from| [bytes(simd, from, 2), bytes(simd, from, 18)],
    |q| widened_signed(q.bitcast()) * d,
    d = f16_at(simd, from, 0)
);
halves!(
    Q4_1Decoder,
    20,
    |simd, from| nibbles(simd, from, 4),
    |q| widened(q) * d + m,
    d = f16_at(simd, from, 0),
    m = f16_at(simd, from, 2)
);
halves!(
    Q5_0Decoder,
    22,
    |simd, from| five_bits(simd, from, 2, nibbles(simd, from, 6)),
    |q| (widened(q) - 16.0) * d,
    d = f16_at(simd, from, 0)
);
halves!(
    Q5_1Decoder,
    24,
    |simd, from| five_bits(simd, from, 4, nibbles(simd, from, 8)),
    |q| widened(q) * d + m,
    d = f16_at(simd, from, 0),
    m = f16_at(simd, from, 2)
);
halves!(
    LatticeDecoder,
    20,
    |simd, from| pairs(nibbles(simd, from, 4)),
    |q| widened(q) * d + m,
    d = f16_at(simd, from, 0),
    m = f16_at(simd, from, 2)
);
halves!(
    Iq4NlDecoder,
    18,
    |simd, from| nibbles(simd, from, 2),
    |q| widened_signed(levels.swizzle_dyn(q)) * d,
    d = f16_at(simd, from, 0),
    levels = codebook(simd, &IQ4)
);
halves!(
    Mxfp4Decoder,
    17,
    |simd, from| nibbles(simd, from, 1),
    |q| widened_signed(levels.swizzle_dyn(q)) * d,
    d = e8m0_half_to_f32(from[0]),
    levels = codebook(simd, &E2M1)
);

/// Interleaves low and high nibbles, for types where neighbouring values share a byte.
#[inline(always)]
fn pairs<S: Simd>([low, high]: [u8x16<S>; 2]) -> [u8x16<S>; 2] {
    [low.zip_low(high), low.zip_high(high)]
}

/// Decoder of NVFP4.
pub(super) struct Nvfp4Decoder;

impl VectorDecoder<64, 36> for Nvfp4Decoder {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8; 36], values: &mut [f32; 64]) {
        let levels = codebook(simd, &E2M1);
        for k in 0..2 {
            // Eight bytes hold sixteen values: first the low nibbles, then the high ones.
            let [low, high] = nibbles(simd, from, 4 + 16 * k).map(|v| v.bitcast::<u64x2<S>>());
            for (j, codes) in [low.zip_low(high), low.zip_high(high)].into_iter().enumerate() {
                let d = ue4m3_to_f32(from[2 * k + j]) * 0.5;
                put(values, 2 * k + j, widened_signed(levels.swizzle_dyn(codes.bitcast::<u8x16<S>>())) * d);
            }
        }
    }
}
