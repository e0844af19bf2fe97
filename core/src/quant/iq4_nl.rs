//! ggml's IQ4_NL: `f16 d`, 32 nibbles; `w = d * level(q)` with sixteen levels that lie closer around zero.
//! Knows nothing but its 18 bytes.

use super::block::{Values, decode_all, read_field, unpack_halves};
use super::codebook::IQ4;

const BYTES: usize = 18;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[2..])) {
            *x = d * IQ4[usize::from(q & 15)];
        }
    });
}
