//! Powers of two in a byte, and the logarithm they are chosen by. Knows nothing of the floats that are scaled.
//! OCP Microscaling Formats (MX) 1.0; `ggml_e8m0_to_fp32_half` of ggml 0.25.

/// Half of what the byte stands for, `2^(e - 128)`; exact. 255, which OCP calls NaN, is a number here as in ggml.
#[inline(always)]
pub fn e8m0_half_to_f32(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// `floorf(log2f(x))` of a positive finite `x`, as a correctly rounded `log2f` gives it.
///
/// Just below a power of two the rounded logarithm is that power's already: the value `2^k (1 - n 2^-24)` has the
/// logarithm `k - n 2^-24 / ln 2`, which rounds to `k` while it is within half a unit of `k`, that is `2^p` times
/// `2^-24` for `p` the octave of `k`. So the limit of `n` is `2^p ln 2`; it is never near an integer.
#[inline(always)]
pub fn floor_log2(x: f32) -> i32 {
    // Subnormal numbers are made normal; the product is exact.
    let (bits, bias) =
        if x < f32::MIN_POSITIVE { ((x * 16_777_216.0).to_bits(), 151) } else { (x.to_bits(), 127) };
    let floor = (bits >> 23) as i32 - bias;
    let short = 0x0080_0000 - (bits & 0x007F_FFFF);
    let power = floor + 1;
    // The spacing below a positive number is that of the octave below it, and away from zero that of its own.
    let octave = match power {
        0 | 1 => return floor,
        2.. => (power - 1).ilog2(),
        _ => power.unsigned_abs().ilog2(),
    };
    if short <= (45_426 << octave) >> 16 { power } else { floor }
}
