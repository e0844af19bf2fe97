//! Q8_1 (ggml): 32 codes of 8 bits, scale and block sum; 36 bytes. Decoded only.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `s`, binary16: `d` times the sum of the codes |
//! | 4..36 | codes, i8 |
//!
//! Dequantizes to `d * q`. Source: `block_q8_1`. ggml uses the type for activations at run time, so files do
//! not contain it, and it has no decoder; this one is that of Q8_0, which has the same codes with the same
//! `d`.

use super::block::{BlockValues, decode_all, read_field};

/// Bytes of a block.
const BYTES: usize = 36;

/// Decodes whole blocks.
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&bytes[4..]) {
        *x = f32::from(q as i8) * d;
    }
}
