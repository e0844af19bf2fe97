//! ggml's Q4_1: `f16 d`, `f16 m`, 32 nibbles; `w = d * q + m`. Knows nothing but its 20 bytes.
//!
//! `quantize_row_q4_1_ref`: `m` is the least value, `d = (max - min) / 15`;
//! `q = min(15, trunc((x - min) * (1/d) + 0.5))` with the unrounded `min` and `1/d`. A constant block: `d = 0`,
//! codes 0; of zeros, `m` has the sign of the first. `1/d` infinite: codes 0 (undefined in C, 0 on x86).

use super::Refused;
use super::block::{
    Overflow, Values, codes, decode_all, encode_all, extremes, field, louder, pack_halves, read_field,
    reciprocal, unpack_halves,
};

const BYTES: usize = 20;

#[inline(always)]
pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &Values, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let (min, max) = extremes(values);
    let d = (max - min) / 15.0;
    let id = reciprocal(d);
    let q = codes(values, id, 15, |x| (x - min) * id + 0.5);
    out[..2].copy_from_slice(&field(d, values, louder(min, max))?);
    out[2..4].copy_from_slice(&field(min, values, min)?);
    out[4..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut Values) {
    let (d, m) = (read_field(bytes, 0), read_field(bytes, 2));
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[4..])) {
        *x = f32::from(q) * d + m;
    }
}
