//! Q8_0 (ggml): 32 codes of 8 bits with one scale; 34 bytes, 8.5 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..34 | codes, i8 |
//!
//! Dequantizes to `d * q`. Source: `block_q8_0`.
//!
//! Encoder: `quantize_row_q8_0_ref`. `d = absmax / 127`; codes are `roundf(x * (1/d))` with the unrounded
//! `1/d`, halves away from zero. A block of zeros of either sign has `d = +0` and codes 0. If `1/d` is
//! infinite, the codes are 0 (undefined in C, 0 on x86).

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, absmax, decode_all, encode_all, field, read_field, reciprocal,
};
use crate::float::round_half_away;

/// Bytes of a block.
const BYTES: usize = 34;

/// Encodes whole blocks. Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let top = absmax(values);
    let d = top / 127.0;
    let id = reciprocal(d);
    let mut codes = [0_u8; LEN];
    if id.is_finite() {
        for (q, &x) in codes.iter_mut().zip(values) {
            *q = round_half_away(x * id) as u8;
        }
    }
    let culprit = if values.contains(&top) { top } else { -top };
    out[..2].copy_from_slice(&field(d, values, culprit)?);
    out[2..].copy_from_slice(&codes);
    Ok(())
}

/// Decodes whole blocks (`dequantize_row_q8_0`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&bytes[2..]) {
        *x = f32::from(q as i8) * d;
    }
}
