//! ggml's Q6_K: 128 bytes of low nibbles, 64 bytes of upper bits, 16 signed scales, `f16 d`;
//! `w = d * scale * (q - 32)`, one scale for 16 values. Knows nothing but its 210 bytes.

use super::block::{decode_all, read_field};
use super::wide::{Values, unpack_nibbles, unpack_quarters};

const BYTES: usize = 210;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 208);
        let mut codes = unpack_nibbles::<64>(&bytes[..128]);
        for (q, high) in codes.iter_mut().zip(unpack_quarters(&bytes[128..192])) {
            *q |= high << 4;
        }
        let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
        for ((values, codes), &scale) in parts.zip(&bytes[192..208]) {
            let d = d * f32::from(scale as i8);
            for (x, &q) in values.iter_mut().zip(codes) {
                *x = d * f32::from(q as i8 - 32);
            }
        }
    });
}
