//! IEEE binary16. Knows nothing of who stores it. Equal to ggml's `GGML_FP32_TO_FP16` without F16C.

/// Widens a binary16; exact. NaN keeps its payload and becomes quiet.
#[inline(always)]
pub fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let rest = u32::from(h & 0x7FFF) << 13;
    // A subnormal is counted in its own unit: arithmetic on binary32 subnormals would be slow.
    let subnormal = f32::from(h & 0x03FF) * f32::from_bits(0x3380_0000);
    let finite = if rest < 0x0080_0000 { subnormal.to_bits() } else { rest + 0x3800_0000 };
    let quiet = if rest > 0x0F80_0000 { 0x0040_0000 } else { 0 };
    let special = 0x7F80_0000 | (rest & 0x007F_FFFF) | quiet;
    f32::from_bits(sign | if rest < 0x0F80_0000 { finite } else { special })
}

/// Narrows to binary16: nearest, ties to even, subnormals kept, overflow to infinity, NaN to
/// `sign | 0x7E00` (the payload is lost, as ggml loses it).
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let abs = bits & 0x7FFF_FFFF;
    // Below 2^-14 the unit of binary16 is 2^-24, which is the unit of binary32 at 0.5: the sum rounds for us.
    let small = (f32::from_bits(abs) + 0.5).to_bits().wrapping_sub(0x3F00_0000);
    let odd = (abs >> 13) & 1;
    let normal = abs.wrapping_add(0x0FFF + odd).wrapping_sub(0x3800_0000) >> 13;
    let finite = if abs < 0x3880_0000 { small } else { normal };
    let special = if abs > 0x7F80_0000 { 0x7E00 } else { 0x7C00 };
    (sign | if abs < 0x477F_F000 { finite } else { special }) as u16
}

/// Whether the pattern is neither NaN nor infinite.
#[inline(always)]
pub fn f16_is_finite(h: u16) -> bool {
    h & 0x7C00 != 0x7C00
}
