//! TQ2_0 (ggml): ternary codes of 2 bits with one scale; 66 bytes, 2.0625 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..64 | codes, four in a byte (see [`pack_quarters`]) |
//! | 64..66 | `d`, binary16 |
//!
//! Dequantizes to `d * (q - 1)`. Source: `block_tq2_0`.
//!
//! Encoder: `quantize_row_tq2_0_ref`; the codes are the digits of [`super::tq1_0`], so code 3 is never
//! written.

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all, read_field, scale_field};
use super::super_block::{SuperBlockValues, pack_quarters, unpack_quarters};
use super::tq1_0::digits;

/// Bytes of a super-block.
const BYTES: usize = 66;

/// Encodes super-blocks. Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = absmax(values);
    pack_quarters(&digits(values, d), &mut out[..64]);
    out[64..].copy_from_slice(&scale_field(d, values)?);
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_tq2_0`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 64);
    for (x, &q) in values.iter_mut().zip(&unpack_quarters(&bytes[..64])) {
        *x = f32::from(q as i8 - 1) * d;
    }
}
