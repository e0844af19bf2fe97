//! The two OCP 8-bit floats, widened. Knows nothing of scales: those belong to the format that uses them.
//! OCP 8-bit Floating Point Specification (OFP8) 1.0.

use super::f16_to_f32;

/// The seven lower bits of an E4M3 as a number, each pattern taken for one.
///
/// A subnormal is counted in its own unit: arithmetic on binary32 subnormals would be slow.
#[inline(always)]
fn magnitude(b: u8) -> f32 {
    let rest = b & 0x7F;
    let subnormal = f32::from(rest) * f32::from_bits(0x3B00_0000);
    if rest < 8 { subnormal } else { f32::from_bits((u32::from(rest) << 20) + 0x3C00_0000) }
}

/// Widens an E4M3 (bias 7, no infinity, NaN is `S.1111.111`); exact.
#[inline(always)]
pub fn f8_e4m3_to_f32(b: u8) -> f32 {
    let sign = u32::from(b & 0x80) << 24;
    f32::from_bits(sign | if b & 0x7F == 0x7F { 0x7FC0_0000 } else { magnitude(b).to_bits() })
}

/// Widens an E5M2; exact. It is the upper half of a binary16, infinities and NaN included.
#[inline(always)]
pub fn f8_e5m2_to_f32(b: u8) -> f32 {
    f16_to_f32(u16::from(b) << 8)
}

/// Widens an unsigned E4M3 as ggml reads the scales of NVFP4: the sign bit is nothing, 0x7F is 0, and every other
/// pattern (0xFF too) is a number.
#[inline(always)]
pub fn ue4m3_to_f32(b: u8) -> f32 {
    if b == 0x7F { 0.0 } else { magnitude(b) }
}

/// The nearest unsigned E4M3 below 256, halves up; 448 for all that is 256 or rounds to it, as ggml chooses the
/// scales of NVFP4; subnormals never round up to a normal number; 0 for what is not positive.
#[inline(always)]
pub fn f32_to_ue4m3(x: f32) -> u8 {
    const TOP: u8 = 0x7E;
    /// 256, which is where ggml begins to write the top.
    const LIMIT: u32 = 0x78;
    /// The least normal number.
    const NORMAL: f32 = 0.015_625;
    // Both are computed, so that it vectorises. Not positive becomes 0 by the cast, and NaN does too.
    let subnormal = ((x * 512.0 + 0.5) as u8).min(7);
    // The fields as in binary32, with the first bit that is dropped added to those that stay.
    let fields = (x.to_bits() >> 19).saturating_sub(120 << 4);
    let rounded = fields.div_ceil(2);
    let normal = if rounded < LIMIT { rounded as u8 } else { TOP };
    if x < NORMAL { subnormal } else { normal }
}
