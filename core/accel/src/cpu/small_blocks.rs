//! Vector encoders of the types of 32 values without a scale search: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, the two
//! lattice schemes, and MXFP4. Block layouts are documented in `quantoscope_core::quant`.

use super::groups::{
    BlockGroup, GROUP, GroupEncoder, NeedsScalar, PerBlock, absmax, four_lanes, half, ranges, rounded,
    signed_absmax, truncated,
};
use fearless_simd::{Simd, f32x16, i8x16, i32x16, prelude::*, u8x16, u16x8, u16x32, u32x16, u64x8};
use quantoscope_core::float::{e8m0_half_to_f32, f16_is_finite, f32_to_f16, floor_log2};

/// The two bytes of an F16.
type HalfBytes = [u8; 2];

/// The F16 of each number; needs the reference if one overflows.
#[inline(always)]
fn f16_bytes(numbers: &PerBlock<f32>) -> Result<PerBlock<HalfBytes>, NeedsScalar> {
    let (mut all, mut needs_scalar) = ([[0; 2]; GROUP], false);
    for (field, &x) in all.iter_mut().zip(numbers) {
        let bits = f32_to_f16(x);
        needs_scalar |= !f16_is_finite(bits);
        *field = bits.to_le_bytes();
    }
    if needs_scalar { Err(NeedsScalar) } else { Ok(all) }
}

/// The reciprocal of each scale, and 0 of 0; needs the reference if one is infinite.
#[inline(always)]
fn reciprocals(scales: &PerBlock<f32>) -> Result<PerBlock<f32>, NeedsScalar> {
    let (mut all, mut needs_scalar) = ([0.0; GROUP], false);
    for (inverse, &d) in all.iter_mut().zip(scales) {
        *inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        needs_scalar |= inverse.is_infinite();
    }
    if needs_scalar { Err(NeedsScalar) } else { Ok(all) }
}

/// Each number divided by `by`.
#[inline(always)]
fn divided(numbers: &PerBlock<f32>, by: f32) -> PerBlock<f32> {
    let mut all = *numbers;
    for x in &mut all {
        *x /= by;
    }
    all
}

/// Maximum minus minimum of each block; +0 for a block of zeros of any signs.
#[inline(always)]
fn spans(min: &PerBlock<f32>, max: &PerBlock<f32>) -> PerBlock<f32> {
    let mut all = *max;
    for (x, &min) in all.iter_mut().zip(min) {
        *x = *x - min + 0.0;
    }
    all
}

/// Writes an F16 of every block at byte `at`.
#[inline(always)]
fn put_f16<const B: usize>(out: &mut [[u8; B]; GROUP], at: usize, fields: &PerBlock<HalfBytes>) {
    for (block, field) in out.iter_mut().zip(fields) {
        block[at..at + 2].copy_from_slice(field);
    }
}

/// The function from values to codes of a type.
trait Coder {
    /// Codes of half of block `b`, not yet limited to [`Coder::top`].
    fn codes<S: Simd>(&self, simd: S, b: usize, x: f32x16<S>) -> i32x16<S>;

    /// The largest code, if codes must still be limited to it; that is cheaper once they are bytes.
    #[inline(always)]
    fn top(&self) -> Option<i8> {
        None
    }
}

/// `trunc(x * inverse + offset)`, at most `top`; never negative.
struct SymmetricCoder<'a> {
    inverse: &'a PerBlock<f32>,
    offset: f32,
    top: i8,
}

impl Coder for SymmetricCoder<'_> {
    #[inline(always)]
    fn codes<S: Simd>(&self, _: S, b: usize, x: f32x16<S>) -> i32x16<S> {
        truncated(x * self.inverse[b] + self.offset)
    }

    #[inline(always)]
    fn top(&self) -> Option<i8> {
        Some(self.top)
    }
}

/// `trunc((x - min) * inverse + 0.5)`, at most `top`; never negative.
struct AffineCoder<'a> {
    min: &'a PerBlock<f32>,
    inverse: &'a PerBlock<f32>,
    top: i8,
}

impl Coder for AffineCoder<'_> {
    #[inline(always)]
    fn codes<S: Simd>(&self, _: S, b: usize, x: f32x16<S>) -> i32x16<S> {
        truncated((x - self.min[b]) * self.inverse[b] + 0.5)
    }

    #[inline(always)]
    fn top(&self) -> Option<i8> {
        Some(self.top)
    }
}

/// `round((x - min) * inverse) + offset` within `0..=15`, ties away from zero.
struct RoundingCoder<'a> {
    min: &'a PerBlock<f32>,
    inverse: &'a PerBlock<f32>,
    offset: i32,
}

impl Coder for RoundingCoder<'_> {
    #[inline(always)]
    fn codes<S: Simd>(&self, simd: S, b: usize, x: f32x16<S>) -> i32x16<S> {
        let code = rounded(simd, (x - self.min[b]) * self.inverse[b]) + self.offset;
        code.max(i32x16::splat(simd, 0)).min(i32x16::splat(simd, 15))
    }
}

/// E2M1 codes for levels times `d`: the number of midpoints between levels that the magnitude exceeds. Of two
/// equally near levels, the smaller one is taken.
///
/// The CPU reference compares rounded distances to the levels. Near a midpoint both distances are exact,
/// since neighbouring levels differ by at most a factor of two, and so is the midpoint, since scales have few
/// bits. So the codes are the same.
#[inline(always)]
pub(super) fn e2m1<S: Simd>(simd: S, x: f32x16<S>, d: f32) -> i32x16<S> {
    const MIDPOINTS: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    let (size, zero, one) = (x.abs(), i32x16::splat(simd, 0), i32x16::splat(simd, 1));
    let mut code = zero;
    for midpoint in MIDPOINTS {
        code += size.simd_gt(midpoint * d).select(one, zero);
    }
    let negative = (x.bitcast::<u32x16<S>>() >> 28).bitcast::<i32x16<S>>() & 8;
    code | code.simd_gt(0).select(negative, zero)
}

/// [`e2m1`] with the scale of each block.
struct E2m1Coder<'a> {
    d: &'a PerBlock<f32>,
}

impl Coder for E2m1Coder<'_> {
    #[inline(always)]
    fn codes<S: Simd>(&self, simd: S, b: usize, x: f32x16<S>) -> i32x16<S> {
        e2m1(simd, x, self.d[b])
    }
}

/// Narrows numbers of four blocks to bytes.
#[inline(always)]
pub(super) fn bytes<S: Simd>([a, b, c, d]: [i32x16<S>; 4]) -> [u8x16<S>; 4] {
    let low: u16x32<S> = a.relaxed_narrow(b).bitcast();
    let (low, high) = low.relaxed_narrow(c.relaxed_narrow(d).bitcast()).split();
    let ((a, b), (c, d)) = (low.split(), high.split());
    [a, b, c, d]
}

/// Narrows sixteen numbers to signed bytes, in vectors of four lanes.
#[inline(always)]
fn signed_bytes<S: Simd>(numbers: i32x16<S>) -> i8x16<S> {
    let (low, high) = numbers.split();
    let ((a, b), (c, d)) = (low.split(), high.split());
    // Truncated, not saturated: for the latter, LLVM emits a clamp and a shuffle on WebAssembly.
    a.narrow(b).relaxed_narrow(c.narrow(d))
}

/// [`put_codes`] one block at a time, in vectors of four lanes.
#[inline(always)]
fn put_codes_by_block<S: Simd, const B: usize>(
    simd: S,
    group: &BlockGroup,
    coder: &impl Coder,
    out: &mut [[u8; B]; GROUP],
    fifth: Option<usize>,
    at: usize,
) {
    for (b, (values, out)) in group.iter().zip(out).enumerate() {
        let mut low = signed_bytes(coder.codes(simd, b, half(simd, values, 0)));
        let mut high = signed_bytes(coder.codes(simd, b, half(simd, values, 1)));
        if let Some(top) = coder.top() {
            let top = i8x16::splat(simd, top);
            (low, high) = (low.min(top), high.min(top));
        }
        if let Some(fifth) = fifth {
            let bits = low.simd_gt(15).to_bitmask() | high.simd_gt(15).to_bitmask() << 16;
            out[fifth..fifth + 4].copy_from_slice(&(bits as u32).to_le_bytes());
            (low, high) = (low & 15, high & 15);
        }
        // A nibble stays in its byte whichever lane width the shift has.
        let above = (high.bitcast::<u16x8<S>>() << 4).bitcast::<i8x16<S>>();
        (low | above).bitcast::<u8x16<S>>().store_slice(&mut out[at..at + 16]);
    }
}

/// Writes the nibbles of every block from byte `at` on, with the second half of a block in the high nibbles,
/// and the fifth bits from byte `fifth` on, if the type has them.
#[inline(always)]
fn put_codes<S: Simd, const B: usize>(
    simd: S,
    group: &BlockGroup,
    coder: &impl Coder,
    out: &mut [[u8; B]; GROUP],
    fifth: Option<usize>,
    at: usize,
) {
    if four_lanes::<S>() {
        return put_codes_by_block(simd, group, coder, out, fifth, at);
    }
    for n in (0..GROUP).step_by(4) {
        let mut both = [i32x16::splat(simd, 0); 4];
        for (b, both) in (n..).zip(&mut both) {
            let mut low = coder.codes(simd, b, half(simd, &group[b], 0));
            let mut high = coder.codes(simd, b, half(simd, &group[b], 1));
            if let Some(top) = coder.top() {
                let top = i32x16::splat(simd, top.into());
                (low, high) = (low.min(top), high.min(top));
            }
            *both = low | (high << 4);
            if let Some(fifth) = fifth {
                let bits = low.simd_gt(15).to_bitmask() | high.simd_gt(15).to_bitmask() << 16;
                out[b][fifth..fifth + 4].copy_from_slice(&(bits as u32).to_le_bytes());
                *both = (low & 15) | ((high & 15) << 4);
            }
        }
        for (packed, block) in bytes(both).iter().zip(&mut out[n..]) {
            packed.store_slice(&mut block[at..at + 16]);
        }
    }
}

/// Writes the nibbles of every block from byte 4 on, with neighbouring values in one byte.
#[inline(always)]
fn put_pairs<S: Simd>(simd: S, group: &BlockGroup, coder: &impl Coder, out: &mut [[u8; 20]; GROUP]) {
    for n in (0..GROUP).step_by(4) {
        let mut both = [i32x16::splat(simd, 0); 4];
        for (b, both) in (n..).zip(&mut both) {
            let pairs = |v: i32x16<S>| {
                let v: u64x8<S> = v.bitcast();
                ((v | (v >> 28)) & 0xFF).bitcast::<i32x16<S>>()
            };
            let low = pairs(coder.codes(simd, b, half(simd, &group[b], 0)));
            *both = low.unzip_low(pairs(coder.codes(simd, b, half(simd, &group[b], 1))));
        }
        for (packed, block) in bytes(both).iter().zip(&mut out[n..]) {
            packed.store_slice(&mut block[4..]);
        }
    }
}

/// Encoder of Q4_0.
pub(super) struct Q4_0Encoder;

impl GroupEncoder<18> for Q4_0Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 18]; GROUP]) -> Result<(), NeedsScalar> {
        let d = divided(&signed_absmax(simd, group)?, -8.0);
        let inverse = &reciprocals(&d)?;
        put_f16(out, 0, &f16_bytes(&d)?);
        put_codes(simd, group, &SymmetricCoder { inverse, offset: 8.5, top: 15 }, out, None, 2);
        Ok(())
    }
}

/// Encoder of Q5_0.
pub(super) struct Q5_0Encoder;

impl GroupEncoder<22> for Q5_0Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 22]; GROUP]) -> Result<(), NeedsScalar> {
        let d = divided(&signed_absmax(simd, group)?, -16.0);
        let inverse = &reciprocals(&d)?;
        put_f16(out, 0, &f16_bytes(&d)?);
        put_codes(simd, group, &SymmetricCoder { inverse, offset: 16.5, top: 31 }, out, Some(2), 6);
        Ok(())
    }
}

/// Encoder of Q4_1.
pub(super) struct Q4_1Encoder;

impl GroupEncoder<20> for Q4_1Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 20]; GROUP]) -> Result<(), NeedsScalar> {
        let (min, max) = &ranges(simd, group)?;
        let d = divided(&spans(min, max), 15.0);
        let inverse = &reciprocals(&d)?;
        put_f16(out, 0, &f16_bytes(&d)?);
        put_f16(out, 2, &f16_bytes(min)?);
        put_codes(simd, group, &AffineCoder { min, inverse, top: 15 }, out, None, 4);
        Ok(())
    }
}

/// Encoder of Q5_1.
pub(super) struct Q5_1Encoder;

impl GroupEncoder<24> for Q5_1Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 24]; GROUP]) -> Result<(), NeedsScalar> {
        let (min, max) = &ranges(simd, group)?;
        let d = divided(&spans(min, max), 31.0);
        let inverse = &reciprocals(&d)?;
        put_f16(out, 0, &f16_bytes(&d)?);
        put_f16(out, 2, &f16_bytes(min)?);
        put_codes(simd, group, &AffineCoder { min, inverse, top: 31 }, out, Some(4), 8);
        Ok(())
    }
}

/// Encoder of Q8_0.
pub(super) struct Q8_0Encoder;

/// Q8_0 codes of half `k` of a block.
#[inline(always)]
fn q8_codes<S: Simd>(simd: S, block: &[f32; 32], k: usize, inverse: f32) -> i32x16<S> {
    rounded(simd, half(simd, block, k) * inverse)
}

impl GroupEncoder<34> for Q8_0Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 34]; GROUP]) -> Result<(), NeedsScalar> {
        let d = divided(&absmax(simd, group)?, 127.0);
        let inverse = reciprocals(&d)?;
        put_f16(out, 0, &f16_bytes(&d)?);
        if four_lanes::<S>() {
            for k in 0..2 {
                for ((block, out), &inverse) in group.iter().zip(&mut *out).zip(&inverse) {
                    let (codes, at) = (signed_bytes(q8_codes(simd, block, k, inverse)), 2 + 16 * k);
                    codes.bitcast::<u8x16<S>>().store_slice(&mut out[at..at + 16]);
                }
            }
            return Ok(());
        }
        for n in (0..GROUP).step_by(2) {
            let mut codes = [[i32x16::splat(simd, 0); 2]; 2];
            for (b, codes) in (n..).zip(&mut codes) {
                for (k, codes) in codes.iter_mut().enumerate() {
                    *codes = q8_codes(simd, &group[b], k, inverse[b]);
                }
            }
            let [[a, b], [c, d]] = codes;
            let packed = a.relaxed_narrow(b).relaxed_narrow(c.relaxed_narrow(d));
            let (first, second) = packed.bitcast::<fearless_simd::u8x64<S>>().split();
            first.store_slice(&mut out[n][2..]);
            second.store_slice(&mut out[n + 1][2..]);
        }
        Ok(())
    }
}

/// Encoder of MXFP4.
pub(super) struct Mxfp4Encoder;

impl GroupEncoder<17> for Mxfp4Encoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 17]; GROUP]) -> Result<(), NeedsScalar> {
        let tops = absmax(simd, group)?;
        let mut d = [0.0; GROUP];
        for ((block, d), &top) in out.iter_mut().zip(&mut d).zip(&tops) {
            block[0] = if top > 0.0 { (floor_log2(top) + 125) as u8 } else { 0 };
            *d = e8m0_half_to_f32(block[0]);
        }
        put_codes(simd, group, &E2m1Coder { d: &d }, out, None, 1);
        Ok(())
    }
}

/// Each scale, or 1 if F16 would store it as 0.
#[inline(always)]
fn nonzero_scales(scales: &PerBlock<f32>) -> PerBlock<f32> {
    let mut all = *scales;
    for s in &mut all {
        *s = if *s < 1.0 && f32_to_f16(*s) == 0 { 1.0 } else { *s };
    }
    all
}

/// Encoder of lattice blocks with a minimum.
pub(super) struct LatticeAsymEncoder;

impl GroupEncoder<20> for LatticeAsymEncoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 20]; GROUP]) -> Result<(), NeedsScalar> {
        let (min, max) = &ranges(simd, group)?;
        let scale = nonzero_scales(&divided(&spans(min, max), 15.0));
        let inverse = &reciprocals(&scale)?;
        put_f16(out, 0, &f16_bytes(&scale)?);
        put_f16(out, 2, &f16_bytes(min)?);
        put_pairs(simd, group, &RoundingCoder { min, inverse, offset: 0 }, out);
        Ok(())
    }
}

/// Encoder of symmetric lattice blocks.
pub(super) struct LatticeSymEncoder;

impl GroupEncoder<20> for LatticeSymEncoder {
    #[inline(always)]
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; 20]; GROUP]) -> Result<(), NeedsScalar> {
        let scale = nonzero_scales(&divided(&absmax(simd, group)?, 7.0));
        let inverse = &reciprocals(&scale)?;
        let mut bias = scale;
        for x in &mut bias {
            *x *= -8.0;
        }
        put_f16(out, 0, &f16_bytes(&scale)?);
        put_f16(out, 2, &f16_bytes(&bias)?);
        put_pairs(simd, group, &RoundingCoder { min: &[0.0; GROUP], inverse, offset: 8 }, out);
        Ok(())
    }
}
