//! ggml's Q1_0: `f16 d`, 128 signs; `w = d` where the bit is set, else `-d`. Knows nothing but its 18 bytes.

use super::block::{decode_all, read_field};

const BYTES: usize = 18;
/// Values in a block.
const LEN: usize = 128;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut [f32; LEN]| {
        let d = read_field(bytes, 0);
        for (values, &byte) in values.as_chunks_mut::<8>().0.iter_mut().zip(&bytes[2..]) {
            for (k, x) in values.iter_mut().enumerate() {
                *x = if byte >> k & 1 == 1 { d } else { -d };
            }
        }
    });
}
