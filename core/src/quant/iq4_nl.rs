//! ggml's IQ4_NL: `f16 d`, 32 nibbles; `w = d * level(q)` with sixteen levels that lie closer around zero.
//! Knows nothing but its 18 bytes.
//!
//! `quantize_iq4_nl`, which searches (`quantize_row_iq4_nl_ref` does not): the scale is [`fit_iq4`]'s, the codes are
//! those of `x * (1/d)` with the unrounded `d`, which may be negative. All zeros: `d = +0`, codes 8.

use super::Refused;
use super::block::{
    Overflow, Values, decode_all, encode_all, pack_halves, read_field, reciprocal, scale_field, unpack_halves,
};
use super::codebook::{IQ4, fit_iq4, nearest_iq4};

const BYTES: usize = 18;

pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_all(src, out, encode_block)
}

fn encode_block(values: &Values, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = fit_iq4(values);
    let id = reciprocal(d);
    out[..2].copy_from_slice(&scale_field(d, values)?);
    out[2..].copy_from_slice(&pack_halves(&values.map(|x| nearest_iq4(x * id))));
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut Values) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[2..])) {
        *x = d * IQ4[usize::from(q & 15)];
    }
}
