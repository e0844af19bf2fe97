//! ggml's TQ2_0: 64 bytes of two-bit codes, `f16 d`; `w = d * (q - 1)`. Knows nothing but its 66 bytes.

use super::block::{decode_all, read_field};
use super::wide::{Values, unpack_quarters};

const BYTES: usize = 66;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 64);
        for (x, &q) in values.iter_mut().zip(&unpack_quarters(&bytes[..64])) {
            *x = f32::from(q as i8 - 1) * d;
        }
    });
}
