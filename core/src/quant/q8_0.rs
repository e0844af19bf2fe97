//! ggml's Q8_0: `f16 d`, 32 signed bytes; `w = d * q`. Knows nothing but its 34 bytes.
//!
//! `quantize_row_q8_0_ref`: `d = absmax / 127`, codes from the unrounded `1/d`, `roundf` (half away from zero).
//! All zeros (of either sign): `d = +0`, codes 0. `1/d` infinite: codes 0 (undefined in C, 0 on x86).

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, absmax, decode_all, encode_all, field, read_field, reciprocal,
};
use crate::float::round_half_away;

const BYTES: usize = 34;

#[inline(always)]
pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
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

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&bytes[2..]) {
        *x = f32::from(q as i8) * d;
    }
}
