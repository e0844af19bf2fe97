//! ggml's MXFP4: a power of two, 32 E2M1 floats; `w = 2^(e - 127) * float(q)`. Knows nothing but its 17 bytes.
//!
//! Nibbles lie as in ggml's other types (byte `j` holds `j` and `j + 16`), not as in OCP containers.
//!
//! `quantize_row_mxfp4_ref`: `e = floorf(log2f(absmax)) - 2 + 127` cut to a byte (which only values below 2^-125 need,
//! and those become zeros by any scale), with `log2f` rounding up to a power of two from just below it; codes
//! are the nearest, of equally near ones the smaller magnitude. All zeros: everything 0. Nothing is too large.

use super::EncodeError;
use super::block::{BlockValues, Overflow, absmax, decode_all, encode_all, pack_halves, unpack_halves};
use super::codebook::{E2M1, nearest_e2m1};
use crate::float::{e8m0_half_to_f32, floor_log2};

const BYTES: usize = 17;

#[inline(always)]
pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let top = absmax(values);
    out[0] = if top > 0.0 { (floor_log2(top) + 125) as u8 } else { 0 };
    let d = e8m0_half_to_f32(out[0]);
    out[1..].copy_from_slice(&pack_halves(&values.map(|x| nearest_e2m1(x, d))));
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = e8m0_half_to_f32(bytes[0]);
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[1..])) {
        *x = E2M1[usize::from(q & 15)] * d;
    }
}
