//! The two 4-bit codebooks, IQ4 and E2M1 (MXFP4 and NVFP4), and the search for the nearest level.
//!
//! Sources: the IQ4 levels are the sixteen values to which `dequantize_row_iq4_nl` of ggml 0.25 decodes a
//! block with scale 1. The E2M1 levels are those of the OCP Microscaling specification 1.0, doubled to be
//! integers.

/// Levels of IQ4_NL and IQ4_XS by code, ascending.
pub const IQ4: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// Levels of an E2M1 float by code, times 2. Code 8 is a positive zero, as ggml decodes it.
pub const E2M1: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

/// Midpoints between neighbouring levels of [`IQ4`].
pub const HALFWAY: [f32; 15] = {
    let mut all = [0.0; 15];
    let mut k = 0;
    while k < 15 {
        all[k] = (IQ4[k] + IQ4[k + 1]) / 2.0;
        k += 1;
    }
    all
};

/// Code of the level nearest to `x`; of two equally near levels the higher one.
///
/// ggml compares the rounded distances to both neighbours. Levels are so small that both distances are exact
/// near a midpoint, so comparing with the midpoint is equivalent.
#[inline(always)]
pub fn nearest_iq4(x: f32) -> u8 {
    HALFWAY.iter().map(|&h| u8::from(x >= h)).sum()
}

/// Code whose level times `d` is nearest to `x`; of equally near ones the smaller magnitude, so never code 8.
#[inline(always)]
pub fn nearest_e2m1(x: f32, d: f32) -> u8 {
    let (mut code, mut best) = (0, x.abs());
    for (k, &level) in (1..8).zip(&E2M1[1..8]) {
        let distance = (level * d - x.abs()).abs();
        if distance < best {
            (code, best) = (k, distance);
        }
    }
    if code > 0 && x < 0.0 { code | 8 } else { code }
}
