//! The two OCP 8-bit floats, widened. Knows nothing of scales: those belong to the format that uses them.
//! OCP 8-bit Floating Point Specification (OFP8) 1.0.

use super::f16_to_f32;

/// Widens an E4M3 (bias 7, no infinity, NaN is `S.1111.111`); exact.
#[inline]
pub fn f8_e4m3_to_f32(b: u8) -> f32 {
    let sign = u32::from(b & 0x80) << 24;
    let rest = u32::from(b & 0x7F);
    // As in binary16: read in binary32's fields the value is 2^-120 too small, and the product is exact.
    let finite = (f32::from_bits(rest << 20) * f32::from_bits(0x7B80_0000)).to_bits();
    f32::from_bits(sign | if rest == 0x7F { 0x7FC0_0000 } else { finite })
}

/// Widens an E5M2; exact. It is the upper half of a binary16, infinities and NaN included.
#[inline]
pub fn f8_e5m2_to_f32(b: u8) -> f32 {
    f16_to_f32(u16::from(b) << 8)
}
