//! IEEE binary16. Equal to ggml's `GGML_FP16_TO_FP32` and `GGML_FP32_TO_FP16` without F16C instructions.

/// Widens a binary16 to binary32; exact. A NaN keeps its payload and becomes quiet.
#[inline(always)]
pub fn f16_to_f32(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let rest = u32::from(h & 0x7FFF) << 13;
    // Subnormals are converted as integers times 2^-24: arithmetic on binary32 subnormals would be slow.
    let subnormal = f32::from(h & 0x03FF) * f32::from_bits(0x3380_0000);
    let finite = if rest < 0x0080_0000 { subnormal.to_bits() } else { rest + 0x3800_0000 };
    let quiet = if rest > 0x0F80_0000 { 0x0040_0000 } else { 0 };
    let special = 0x7F80_0000 | (rest & 0x007F_FFFF) | quiet;
    f32::from_bits(sign | if rest < 0x0F80_0000 { finite } else { special })
}

/// Rounds a binary32 to binary16, ties to even.
///
/// Subnormals are kept. Values beyond the range become infinite. A NaN becomes `sign | 0x7E00`; its payload
/// is lost, as in ggml.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let abs = bits & 0x7FFF_FFFF;
    // Below 2^-14 the step of binary16 is 2^-24, which is the step of binary32 at 0.5: the addition rounds.
    let small = (f32::from_bits(abs) + 0.5).to_bits().wrapping_sub(0x3F00_0000);
    let odd = (abs >> 13) & 1;
    let normal = abs.wrapping_add(0x0FFF + odd).wrapping_sub(0x3800_0000) >> 13;
    let finite = if abs < 0x3880_0000 { small } else { normal };
    let special = if abs > 0x7F80_0000 { 0x7E00 } else { 0x7C00 };
    (sign | if abs < 0x477F_F000 { finite } else { special }) as u16
}

/// True if the bit pattern is neither NaN nor infinite.
#[inline(always)]
pub fn f16_is_finite(h: u16) -> bool {
    h & 0x7C00 != 0x7C00
}
