//! The OCP 8-bit floats E4M3 and E5M2, and the unsigned E4M3 scales of NVFP4. Knows no tensor scales.
//!
//! Sources: OCP 8-bit Floating Point Specification (OFP8) 1.0; `ggml_ue4m3_to_fp32` and `ggml_fp32_to_ue4m3`
//! of ggml 0.25.

use super::f16_to_f32;

/// Value of the lower seven bits of an E4M3, without special patterns.
///
/// Subnormals are converted as integers times 2^-9: arithmetic on binary32 subnormals would be slow.
#[inline(always)]
fn magnitude(b: u8) -> f32 {
    let rest = b & 0x7F;
    let subnormal = f32::from(rest) * f32::from_bits(0x3B00_0000);
    if rest < 8 { subnormal } else { f32::from_bits((u32::from(rest) << 20) + 0x3C00_0000) }
}

/// Widens an E4M3 (bias 7, no infinity, NaN is `S.1111.111`) to binary32; exact.
#[inline(always)]
pub fn f8_e4m3_to_f32(b: u8) -> f32 {
    let sign = u32::from(b & 0x80) << 24;
    f32::from_bits(sign | if b & 0x7F == 0x7F { 0x7FC0_0000 } else { magnitude(b).to_bits() })
}

/// Widens an E5M2 to binary32; exact. An E5M2 is the upper half of a binary16, infinities and NaN included.
#[inline(always)]
pub fn f8_e5m2_to_f32(b: u8) -> f32 {
    f16_to_f32(u16::from(b) << 8)
}

/// Widens an unsigned E4M3 scale of NVFP4 as ggml does: the sign bit is ignored, 0x7F is 0, and all other
/// patterns (0xFF too) are numbers.
#[inline(always)]
pub fn ue4m3_to_f32(b: u8) -> f32 {
    if b == 0x7F { 0.0 } else { magnitude(b) }
}

/// Rounds a binary32 to an unsigned E4M3, halves up, as ggml chooses the scales of NVFP4.
///
/// Values that are 256 or round to it become 448. Subnormals never round up to a normal number. Zero,
/// negative values and NaN become 0.
#[inline(always)]
pub fn f32_to_ue4m3(x: f32) -> u8 {
    const TOP: u8 = 0x7E;
    /// Code of 256, from which on ggml writes [`TOP`].
    const LIMIT: u32 = 0x78;
    /// The smallest normal number, 2^-6.
    const NORMAL: f32 = 0.015_625;
    // Both cases are computed, so that the function vectorizes. The cast turns negative values and NaN into
    // 0.
    let subnormal = ((x * 512.0 + 0.5) as u8).min(7);
    // Exponent and mantissa of the E4M3, and the first dropped bit, which rounds.
    let fields = (x.to_bits() >> 19).saturating_sub(120 << 4);
    let rounded = fields.div_ceil(2);
    let normal = if rounded < LIMIT { rounded as u8 } else { TOP };
    if x < NORMAL { subnormal } else { normal }
}
