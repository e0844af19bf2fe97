//! MXFP4 (OCP, ggml): 32 E2M1 floats with a power-of-two scale; 17 bytes, 4.25 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | scale, E8M0 |
//! | 1..17 | codes: byte `j` holds code `j` (low nibble) and code `j + 16` |
//!
//! Dequantizes to `2^(e - 127) * float(q)` ([`E2M1`]). Source: `block_mxfp4`. The order of the nibbles is
//! that of ggml, not that of OCP containers, which pack neighbours.
//!
//! Encoder: `quantize_row_mxfp4_ref`. `e = floorf(log2f(absmax)) - 2 + 127`, cut to a byte; this only affects
//! blocks below 2^-125, which become zeros with any scale. `log2f` rounds up to an integer just below a power
//! of two. Codes are the nearest, of equally near ones the smaller magnitude. A block of zeros is 17 zero
//! bytes. No finite value is too large.

use super::EncodeError;
use super::block::{BlockValues, Overflow, absmax, decode_all, encode_all, pack_halves, unpack_halves};
use super::codebook::{E2M1, nearest_e2m1};
use crate::float::{e8m0_half_to_f32, floor_log2};

/// Bytes of a block.
const BYTES: usize = 17;

/// Encodes whole blocks. Refuses NaN and infinity.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
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

/// Decodes whole blocks (`dequantize_row_mxfp4`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = e8m0_half_to_f32(bytes[0]);
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[1..])) {
        *x = E2M1[usize::from(q & 15)] * d;
    }
}
