//! Q1_0 (ggml): 128 signs with one scale; 18 bytes, 1.125 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | signs: bit `k` of byte `j` belongs to weight `8 j + k`, set for `+` |
//!
//! Dequantizes to `d` or `-d`. Source: `block_q1_0`.
//!
//! Encoder: `quantize_row_q1_0_ref`. `d` is the mean magnitude, summed in order; the bit is set if `x >= 0`,
//! also for -0.

use super::EncodeError;
use super::block::{Overflow, decode_all, encode_all, read_field, scale_field};

/// Bytes of a block.
const BYTES: usize = 18;
/// Values of a block.
const LEN: usize = 128;

/// Encodes whole blocks. Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &[f32; LEN], out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = values.iter().fold(0.0, |sum, x| sum + x.abs()) / LEN as f32;
    for (byte, values) in out[2..].iter_mut().zip(values.as_chunks::<8>().0) {
        *byte = (0..8).zip(values).fold(0, |bits, (k, &x)| bits | u8::from(x >= 0.0) << k);
    }
    out[..2].copy_from_slice(&scale_field(d, values)?);
    Ok(())
}

/// Decodes whole blocks (`dequantize_row_q1_0`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut [f32; LEN]) {
    let d = read_field(bytes, 0);
    for (values, &byte) in values.as_chunks_mut::<8>().0.iter_mut().zip(&bytes[2..]) {
        for (k, x) in values.iter_mut().enumerate() {
            *x = if byte >> k & 1 == 1 { d } else { -d };
        }
    }
}
