//! The upper half of a binary32. Knows nothing of who stores it. Equal to ggml's `GGML_FP32_TO_BF16`.

/// Widens; exact, every bit kept.
#[inline(always)]
pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// Narrows: nearest, ties to even, subnormals kept (ggml flushed them until 2024), overflow to infinity;
/// NaN keeps the upper half of its bits and becomes quiet.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if bits & 0x7FFF_FFFF > 0x7F80_0000 { nan } else { rounded }) as u16
}
