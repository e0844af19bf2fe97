//! Q8_K (ggml): 256 codes of 8 bits with one scale; 292 bytes. Decoded only.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | `d`, binary32 |
//! | 4..260 | codes, i8 |
//! | 260..292 | sums of 16 codes each, i16 |
//!
//! Dequantizes to `d * q`. Source: `block_q8_K`. ggml uses the type for activations at run time, so files do
//! not contain it.

use super::block::decode_all;
use super::super_block::SuperBlockValues;

/// Bytes of a super-block.
const BYTES: usize = 292;

/// Decodes super-blocks (`dequantize_row_q8_K`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (x, &q) in values.iter_mut().zip(&bytes[4..260]) {
        *x = d * f32::from(q as i8);
    }
}
