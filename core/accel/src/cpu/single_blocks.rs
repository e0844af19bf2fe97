//! Vector encoders of types whose blocks are long enough to be encoded one or a few at a time: TQ1_0, TQ2_0,
//! Q1_0, Q2_0 and NVFP4. Block layouts are documented in `quantoscope_core::quant`.

use super::groups::{INFINITE, NeedsScalar, Reference, magnitudes_of_four, rounded};
use super::small_blocks::{bytes, e2m1};
use fearless_simd::{Simd, f32x16, i32x16, prelude::*, u8x16, u8x64, u32x16, u64x2};
use quantoscope_core::float::{f16_is_finite, f32_to_f16, f32_to_ue4m3, ue4m3_to_f32};
use quantoscope_core::quant::EncodeError;

/// An encoder of `N` values (whole blocks) to `B` bytes.
pub(super) trait SingleEncoder<const N: usize, const B: usize> {
    /// Encodes one unit, or leaves it to the CPU reference.
    fn encode<S: Simd>(simd: S, values: &[f32; N], out: &mut [u8; B]) -> Result<(), NeedsScalar>;
}

/// Encodes all units. Units that need it, and the remainder, are encoded by `reference`.
///
/// # Errors
/// Those of `reference`.
#[inline(always)]
pub(super) fn encode<T: SingleEncoder<N, B>, S: Simd, const N: usize, const B: usize>(
    simd: S,
    reference: Reference<'_>,
    src: &[f32],
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let whole = (src.len() / N).min(out.len() / B);
    let (values, rest) = src.split_at(whole * N);
    let (bytes, rest_out) = out.split_at_mut(whole * B);
    let mut accepted = true;
    for (values, bytes) in values.as_chunks::<N>().0.iter().zip(bytes.as_chunks_mut::<B>().0) {
        if T::encode(simd, values, bytes).is_err() {
            accepted &= reference(values, bytes).is_ok();
        }
    }
    // The reference is one large function for all types: calling it for nothing would cost as much as a tile.
    let no_rest = rest.is_empty() && rest_out.is_empty();
    if accepted && (no_rest || reference(rest, rest_out).is_ok()) {
        return Ok(());
    }
    // The error must name the index in the whole input.
    reference(src, out)
}

/// Loads sixteen values.
#[inline(always)]
fn sixteen<S: Simd>(simd: S, values: &[f32; 16]) -> f32x16<S> {
    f32x16::load_array_ref(simd, values)
}

/// The largest magnitude.
#[inline(always)]
fn absmax<S: Simd>(simd: S, values: &[f32]) -> Result<f32, NeedsScalar> {
    let mut top = i32x16::splat(simd, 0);
    for x in values.as_chunks::<16>().0 {
        top = top.max(sixteen(simd, x).abs().bitcast::<i32x16<S>>());
    }
    let (a, b) = top.split();
    let (a, b) = a.max(b).split();
    let top = a.max(b).to_array().into_iter().fold(0, i32::max);
    if top >= INFINITE { Err(NeedsScalar) } else { Ok(f32::from_bits(top as u32)) }
}

/// The F16 of a scale; needs the reference if infinite.
#[inline(always)]
fn f16_bytes(d: f32) -> Result<[u8; 2], NeedsScalar> {
    let bits = f32_to_f16(d);
    if f16_is_finite(bits) { Ok(bits.to_le_bytes()) } else { Err(NeedsScalar) }
}

/// The reciprocal, and 0 of 0; needs the reference if infinite.
#[inline(always)]
fn reciprocal(d: f32) -> Result<f32, NeedsScalar> {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    if inverse.is_infinite() { Err(NeedsScalar) } else { Ok(inverse) }
}

/// Ternary digits of 64 values: 0, 1 and 2 for -1, 0 and 1 times the scale.
#[inline(always)]
fn digits<S: Simd>(simd: S, values: &[[f32; 16]], inverse: f32) -> u8x64<S> {
    let mut codes = [i32x16::splat(simd, 0); 4];
    for (codes, x) in codes.iter_mut().zip(values) {
        *codes = rounded(simd, sixteen(simd, x) * inverse) + 1;
    }
    let [a, b, c, d] = bytes(codes);
    a.combine(b).combine(c.combine(d))
}

/// Encoder of TQ2_0.
pub(super) struct Tq20Encoder;

impl SingleEncoder<256, 66> for Tq20Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, values: &[f32; 256], out: &mut [u8; 66]) -> Result<(), NeedsScalar> {
        let d = absmax(simd, values)?;
        let inverse = reciprocal(d)?;
        out[64..].copy_from_slice(&f16_bytes(d)?);
        let half_scales = values.as_chunks::<16>().0.as_chunks::<8>().0;
        for (half, out) in half_scales.iter().zip(out.as_chunks_mut::<32>().0) {
            let (a, b) = digits(simd, &half[..4], inverse).split();
            let (c, d) = digits(simd, &half[4..], inverse).split();
            (a | (b << 2) | (c << 4) | (d << 6)).store_slice(out);
        }
        Ok(())
    }
}

/// Encoder of TQ1_0.
pub(super) struct Tq10Encoder;

impl SingleEncoder<256, 54> for Tq10Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, values: &[f32; 256], out: &mut [u8; 54]) -> Result<(), NeedsScalar> {
        let d = absmax(simd, values)?;
        let inverse = reciprocal(d)?;
        out[52..].copy_from_slice(&f16_bytes(d)?);
        let mut all = [0; 256];
        for (values, codes) in
            values.as_chunks::<16>().0.as_chunks::<4>().0.iter().zip(all.as_chunks_mut::<64>().0)
        {
            digits(simd, values, inverse).store_slice(codes);
        }
        fractions::<32>(&all[..160], &mut out[..32]);
        fractions::<16>(&all[160..240], &mut out[32..48]);
        fractions::<4>(&all[240..], &mut out[48..52]);
        Ok(())
    }
}

/// Packs five digits, `N` apart, into the fraction of a byte; missing digits are 0.
#[inline(always)]
fn fractions<const N: usize>(digits: &[u8], out: &mut [u8]) {
    let mut numbers = [0_u16; N];
    for n in 0..5 {
        for (m, number) in numbers.iter_mut().enumerate() {
            *number = *number * 3 + u16::from(digits.get(n * N + m).copied().unwrap_or(0));
        }
    }
    for (byte, number) in out.iter_mut().zip(numbers) {
        *byte = (number * 256).div_ceil(243) as u8;
    }
}

/// Encoder of Q2_0.
pub(super) struct Q20Encoder;

impl SingleEncoder<64, 18> for Q20Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, values: &[f32; 64], out: &mut [u8; 18]) -> Result<(), NeedsScalar> {
        let d = absmax(simd, values)?;
        let codes: u32x16<S> = digits(simd, values.as_chunks::<16>().0, reciprocal(d)?).bitcast();
        // Four neighbouring codes are the bytes of a 32-bit lane.
        let both = codes | (codes >> 6);
        let packed = (both | (both >> 12)).to_array();
        out[..2].copy_from_slice(&f16_bytes(d)?);
        for (byte, number) in out[2..].iter_mut().zip(packed) {
            *byte = number as u8;
        }
        Ok(())
    }
}

/// Encoder of Q1_0, eight blocks at a time: their sums run side by side, each in index order.
pub(super) struct Q10Encoder;

impl SingleEncoder<1024, 144> for Q10Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, values: &[f32; 1024], out: &mut [u8; 144]) -> Result<(), NeedsScalar> {
        absmax(simd, values)?;
        let blocks = values.as_chunks::<128>().0;
        let mut sums = [0.0_f32; 8];
        for j in 0..128 {
            for (sum, block) in sums.iter_mut().zip(blocks) {
                *sum += block[j].abs();
            }
        }
        for ((block, sum), out) in blocks.iter().zip(sums).zip(out.as_chunks_mut::<18>().0) {
            out[..2].copy_from_slice(&f16_bytes(sum / 128.0)?);
            for (x, out) in block.as_chunks::<16>().0.iter().zip(out[2..].as_chunks_mut::<2>().0) {
                *out = (sixteen(simd, x).simd_ge(0.0).to_bitmask() as u16).to_le_bytes();
            }
        }
        Ok(())
    }
}

/// Encoder of NVFP4.
pub(super) struct Nvfp4Encoder;

impl SingleEncoder<64, 36> for Nvfp4Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, values: &[f32; 64], out: &mut [u8; 36]) -> Result<(), NeedsScalar> {
        let values = values.as_chunks::<4>().0.as_chunks::<4>().0;
        let mut parts = [f32x16::splat(simd, 0.0); 4];
        for (part, x) in parts.iter_mut().zip(values) {
            *part = f32x16::from_slice(simd, x.as_flattened());
        }
        let tops = magnitudes_of_four(parts);
        let (mut scales, mut half_scales, mut needs_scalar) = ([0; 4], [0.0; 4], false);
        for k in 0..4 {
            let top = f32::from_bits(tops[k] as u32);
            scales[k] = f32_to_ue4m3(top / 6.0);
            half_scales[k] = ue4m3_to_f32(scales[k]) * 0.5;
            // Far above the levels, all distances of the reference round to the same number.
            needs_scalar |= tops[k] >= INFINITE || (half_scales[k] > 0.0 && top > 65_536.0 * half_scales[k]);
        }
        if needs_scalar {
            return Err(NeedsScalar);
        }
        out[..4].copy_from_slice(&scales);
        let mut codes = [i32x16::splat(simd, 0); 4];
        for ((codes, part), d) in codes.iter_mut().zip(parts).zip(half_scales) {
            // No value exceeds a NaN midpoint: with a scale of 0 all codes are 0.
            *codes = e2m1(simd, part, if d == 0.0 { f32::NAN } else { d });
        }
        for (codes, out) in bytes(codes).into_iter().zip(out[4..].as_chunks_mut::<8>().0) {
            let half_scales: u64x2<S> = u8x16::bitcast(codes);
            *out = (half_scales[0] | half_scales[1] << 4).to_le_bytes();
        }
        Ok(())
    }
}
