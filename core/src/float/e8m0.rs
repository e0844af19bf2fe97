//! Power-of-two scales in one byte (E8M0), and the logarithm that selects them.
//!
//! Sources: OCP Microscaling Formats (MX) Specification 1.0; `ggml_e8m0_to_fp32_half` of ggml 0.25.

/// Returns half of the scale that the byte encodes, `2^(e - 128)`; exact.
///
/// The half belongs to codebooks whose levels are doubled to be integers. 255, a NaN in OCP's specification,
/// is a number here, as in ggml.
#[inline(always)]
pub fn e8m0_half_to_f32(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Returns `floorf(log2f(x))` of a positive finite `x`, for a correctly rounded `log2f`.
///
/// Just below a power of two the rounded logarithm is already that of the power. The value `2^k (1 - n
/// 2^-24)` has the logarithm `k - n 2^-24 / ln 2`. That rounds to `k` while it is within half a unit in the
/// last place of `k`, which is `2^p 2^-24` for `p` the octave of `k`. So the limit of `n` is `2^p ln 2`; it
/// is never near an integer.
#[inline(always)]
pub fn floor_log2(x: f32) -> i32 {
    // Subnormals are scaled to normal numbers; the product is exact.
    let (bits, bias) =
        if x < f32::MIN_POSITIVE { ((x * 16_777_216.0).to_bits(), 151) } else { (x.to_bits(), 127) };
    let floor = (bits >> 23) as i32 - bias;
    let short = 0x0080_0000 - (bits & 0x007F_FFFF);
    let power = floor + 1;
    // Below a positive number, floats are spaced as in the octave below it; a negative number has the spacing
    // of its own octave.
    let octave = match power {
        0 | 1 => return floor,
        2.. => (power - 1).ilog2(),
        _ => power.unsigned_abs().ilog2(),
    };
    if short <= (45_426 << octave) >> 16 { power } else { floor }
}

/// Returns the scale that the byte encodes, `2^(e - 127)`; exact. 255 is NaN, as in OCP's specification.
#[inline(always)]
pub fn e8m0_to_f32(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        e => f32::from_bits(u32::from(e) << 23),
    }
}
