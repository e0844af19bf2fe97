//! ggml's IQ4_XS: `f16 d`, 16 upper bits of scales, four bytes of their low nibbles, 128 bytes of nibbles;
//! `w = d * (scale - 32) * level(q)`, one scale of six bits for 32 values, the levels those of IQ4_NL.
//! Knows nothing but its 136 bytes.

use super::block::{decode_all, read_field};
use super::codebook::IQ4;
use super::wide::{Values, unpack_nibbles};

const BYTES: usize = 136;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        let codes = unpack_nibbles::<16>(&bytes[8..]);
        let parts = values.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0);
        for ((values, codes), scale) in parts.zip(unpack_scales(bytes)) {
            let d = d * f32::from(scale as i8 - 32);
            for (x, &q) in values.iter_mut().zip(codes) {
                *x = d * IQ4[usize::from(q & 15)];
            }
        }
    });
}

/// The eight scales, each 32 too large.
fn unpack_scales(bytes: &[u8; BYTES]) -> [u8; 8] {
    let upper = u16::from_le_bytes([bytes[2], bytes[3]]);
    let mut scales = [0; 8];
    for (j, scale) in scales.iter_mut().enumerate() {
        let low = bytes[4 + j / 2] >> (4 * (j % 2)) & 15;
        *scale = low | ((upper >> (2 * j) & 3) as u8) << 4;
    }
    scales
}
