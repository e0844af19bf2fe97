//! ggml's Q2_K: 16 bytes of scale and minimum (a nibble each), 64 bytes of two-bit codes, `f16 d`, `f16 dmin`;
//! `w = d * scale * q - dmin * min`, one scale and minimum for 16 values. Knows nothing but its 84 bytes.

use super::block::{decode_all, read_field};
use super::wide::{Values, unpack_quarters};

const BYTES: usize = 84;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let (d, dmin) = (read_field(bytes, 80), read_field(bytes, 82));
        let codes = unpack_quarters(&bytes[16..80]);
        let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
        for ((values, codes), &both) in parts.zip(&bytes[..16]) {
            let (d, m) = (d * f32::from(both & 15), dmin * f32::from(both >> 4));
            for (x, &q) in values.iter_mut().zip(codes) {
                *x = d * f32::from(q) - m;
            }
        }
    });
}
