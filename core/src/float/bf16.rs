//! bfloat16: the upper half of a binary32. Equal to ggml's `GGML_FP32_TO_BF16` and `GGML_BF16_TO_FP32`.

/// Widens a bfloat16 to binary32; exact, NaN payloads included.
#[inline(always)]
pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// Rounds a binary32 to bfloat16, ties to even.
///
/// Subnormals are kept (ggml flushed them to zero until 2024). Values beyond the range become infinite. A NaN
/// keeps the upper half of its bits and becomes quiet.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if bits & 0x7FFF_FFFF > 0x7F80_0000 { nan } else { rounded }) as u16
}
