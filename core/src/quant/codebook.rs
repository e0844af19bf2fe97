//! The two codebooks of four bits, the one of the IQ4 types and the E2M1 floats of MXFP4 and NVFP4, and how values
//! find their codes. Knows no block.
//!
//! Provenance: the IQ4 levels are the sixteen values that ggml 0.25's `dequantize_row_iq4_nl` makes of a block
//! with scale 1; the E2M1 levels are those of the OCP Microscaling specification 1.0, doubled to be integers.

/// The levels of IQ4_NL and IQ4_XS, rising.
pub const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// Twice the levels of an E2M1 float; code 8 is a plain zero, as ggml decodes it.
pub const E2M1: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// Halfway between neighbouring levels of [`IQ4`].
pub const HALFWAY: [f32; 15] = {
    let mut all = [0.0; 15];
    let mut k = 0;
    while k < 15 {
        all[k] = (IQ4[k] + IQ4[k + 1]) / 2.0;
        k += 1;
    }
    all
};

/// The code of the level nearest to `x`; of two equally near, the higher.
///
/// The reference compares the rounded distances to both neighbours. Levels are so small that next to a midpoint
/// both distances are exact, so comparing with the midpoint is the same.
#[inline(always)]
pub fn nearest_iq4(x: f32) -> u8 {
    HALFWAY.iter().map(|&h| u8::from(x >= h)).sum()
}

/// The code whose level times `d` is nearest to `x`; of equally near ones the smaller level, so never 8.
#[inline(always)]
pub fn nearest_e2m1(x: f32, d: f32) -> u8 {
    let (mut code, mut best) = (0, x.abs());
    for (k, &level) in (1..8).zip(&E2M1[1..8]) {
        let off = (level * d - x.abs()).abs();
        if off < best {
            (code, best) = (k, off);
        }
    }
    if code > 0 && x < 0.0 { code | 8 } else { code }
}
