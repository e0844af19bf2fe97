//! Q2_0 (ggml): 64 codes of 2 bits with one scale; 18 bytes, 2.25 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | codes: byte `j` holds the codes `4 j` to `4 j + 3`, the first in the lowest bits |
//!
//! Dequantizes to `d * (q - 1)`. Source: `block_q2_0`.
//!
//! Encoder: `quantize_row_q2_0_ref`. `d = absmax`; codes are `roundf(x * (1/d)) + 1` with the unrounded
//! `1/d`, so code 3 is never written. A block of zeros has `d = +0` and codes 1. If `1/d` is infinite, the
//! codes are 1 (undefined in C).

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all, read_field, reciprocal, scale_field};
use crate::float::round_half_away;

/// Bytes of a block.
const BYTES: usize = 18;
/// Values of a block.
const LEN: usize = 64;

/// Encodes whole blocks. Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
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

/// Decodes whole blocks (`dequantize_row_q2_0`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
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
