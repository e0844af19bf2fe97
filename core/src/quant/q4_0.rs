//! ggml's Q4_0: `f16 d`, 32 nibbles; `w = d * (q - 8)`. Knows nothing but its 18 bytes.
//!
//! `quantize_row_q4_0_ref`: `d` is the value of greatest magnitude (the first of ties) over -8, so `d` may be
//! negative; `q = min(15, trunc(x * (1/d) + 8.5))` with the unrounded `1/d`. All zeros (of either sign):
//! `d = 0 / -8 = -0`, codes 8. `d` that underflows to 0: codes 8. `1/d` infinite: codes 0 (undefined in C,
//! 0 on x86).
//!
//! `quantize_row_q4_0_impl`: with importance ([`super::imatrix_weights`]; whole rows only) the scale and the codes are those of
//! [`ScaleSearch::symmetric`]. All zeros: everything 0.

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, codes, decode_all, encode_all, field, pack_halves, read_field, reciprocal,
    scale_field, signed_absmax, unpack_halves,
};
use super::imatrix_weights::encode_rows;
use super::scale_search::{AffineFit, ScaleSearch, SearchWeights};

const BYTES: usize = 18;

#[inline(always)]
pub fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let Some(importance) = importance else { return encode_all(src, out, encode_block) };
    let search = |x: &[BlockValues], weights: SearchWeights<'_, LEN>, fits: &mut [AffineFit]| {
        searches.symmetric(8, x, weights, fits);
    };
    encode_rows(
        searches,
        src,
        importance,
        out,
        search,
        #[inline(always)]
        |values, fit, out| write_fit(fit, values, out),
    )
}

#[inline(always)]
fn write_fit(fit: &AffineFit, values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let q = fit.codes(values, (-8, 7));
    out[..2].copy_from_slice(&scale_field(fit.scale, values)?);
    out[2..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
fn encode_block(values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let max = signed_absmax(values);
    let d = max / -8.0;
    let id = reciprocal(d);
    let q = codes(values, id, 15, |x| x * id + 8.5);
    out[..2].copy_from_slice(&field(d, values, max)?);
    out[2..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[2..])) {
        *x = f32::from(q as i8 - 8) * d;
    }
}
