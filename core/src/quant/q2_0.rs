//! ggml's Q2_0: `f16 d`, 64 codes of two bits, four neighbours to a byte; `w = d * (q - 1)`.
//! Knows nothing but its 18 bytes.

use super::block::{decode_all, read_field};

const BYTES: usize = 18;
/// Values in a block.
const LEN: usize = 64;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut [f32; LEN]| {
        let d = read_field(bytes, 0);
        for (values, &byte) in values.as_chunks_mut::<4>().0.iter_mut().zip(&bytes[2..]) {
            for (k, x) in values.iter_mut().enumerate() {
                *x = f32::from((byte >> (2 * k) & 3) as i8 - 1) * d;
            }
        }
    });
}
