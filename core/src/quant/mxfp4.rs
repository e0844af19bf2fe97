//! ggml's MXFP4: a power of two, 32 E2M1 floats; `w = 2^(e - 127) * float(q)`. Knows nothing but its 17 bytes.
//!
//! Nibbles lie as in ggml's other types (byte `j` holds `j` and `j + 16`), not as in OCP containers.

use super::block::{Values, decode_all, unpack_halves};
use super::codebook::E2M1;

const BYTES: usize = 17;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = half_power(bytes[0]);
        for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[1..])) {
            *x = E2M1[usize::from(q & 15)] * d;
        }
    });
}

/// `2^(e - 128)`: half the scale, for levels that are doubled. 255, which OCP calls NaN, is a number in ggml.
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}
