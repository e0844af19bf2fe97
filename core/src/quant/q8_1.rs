//! ggml's Q8_1: `f16 d`, `f16 s` (`d` times the sum of the codes), 32 signed bytes; `w = d * q`. Activations are
//! kept so while a model runs; a file has none, and nothing here writes it. Knows nothing but its 36 bytes.
//!
//! ggml has no decoder for it. Ours is that of Q8_0, which has the same codes under the same `d`.

use super::block::{BlockValues, decode_all, read_field};

const BYTES: usize = 36;

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&bytes[4..]) {
        *x = f32::from(q as i8) * d;
    }
}
