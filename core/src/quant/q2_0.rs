//! ggml's Q2_0: `f16 d`, 64 codes of two bits, four neighbours to a byte; `w = d * (q - 1)`.
//! Knows nothing but its 18 bytes.
//!
//! `quantize_row_q2_0_ref`: `d = absmax`, codes `roundf(x * (1/d)) + 1` with the unrounded `1/d`; code 3 is never
//! written. All zeros: `d = +0`, codes 1. `1/d` infinite: codes 1 (undefined in C).

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all, read_field, reciprocal, scale_field};
use crate::float::round_half_away;

const BYTES: usize = 18;
/// Values in a block.
const LEN: usize = 64;

#[inline(always)]
pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &[f32; LEN], out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = absmax(values);
    let id = reciprocal(d);
    let code = |x: f32| if id.is_finite() { (round_half_away(x * id) + 1).clamp(0, 3) as u8 } else { 1 };
    for (byte, values) in out[2..].iter_mut().zip(values.as_chunks::<4>().0) {
        *byte = (0..4).zip(values).fold(0, |bits, (k, &x)| bits | code(x) << (2 * k));
    }
    out[..2].copy_from_slice(&scale_field(d, values)?);
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut [f32; LEN]) {
    let d = read_field(bytes, 0);
    for (values, &byte) in values.as_chunks_mut::<4>().0.iter_mut().zip(&bytes[2..]) {
        for (k, x) in values.iter_mut().enumerate() {
            *x = f32::from((byte >> (2 * k) & 3) as i8 - 1) * d;
        }
    }
}
