//! ggml's TQ2_0: 64 bytes of two-bit codes, `f16 d`; `w = d * (q - 1)`. Knows nothing but its 66 bytes.
//!
//! `quantize_row_tq2_0_ref`: as [`super::tq1_0`], the digits being the codes; code 3 is never written.

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all, read_field, scale_field};
use super::super_block::{SuperBlockValues, pack_quarters, unpack_quarters};
use super::tq1_0::digits;

const BYTES: usize = 66;

#[inline(always)]
pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = absmax(values);
    pack_quarters(&digits(values, d), &mut out[..64]);
    out[64..].copy_from_slice(&scale_field(d, values)?);
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 64);
    for (x, &q) in values.iter_mut().zip(&unpack_quarters(&bytes[..64])) {
        *x = f32::from(q as i8 - 1) * d;
    }
}
