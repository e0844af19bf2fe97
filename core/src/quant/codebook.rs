//! The two codebooks of four bits: the one of the IQ4 types, and the E2M1 floats of MXFP4 and NVFP4.
//! Knows no block and no scale.
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
