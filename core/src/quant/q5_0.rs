//! ggml's Q5_0: `f16 d`, 32 fifth bits, 32 nibbles; `w = d * (q - 16)`. Knows nothing but its 22 bytes.
//!
//! `quantize_row_q5_0_ref`: as Q4_0 with -16 in place of -8, and `q = min(31, trunc(x * (1/d) + 16.5))`.
//!
//! `quantize_row_q5_0_impl`: with importance ([`super::imatrix_weights`]; whole rows only) the scale and the codes are those of
//! [`ScaleSearch::symmetric`]. All zeros: everything 0.

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, codes, decode_all, encode_all, field, fifth_bits, pack_halves, read_field,
    reciprocal, scale_field, signed_absmax, unpack_halves, with_fifth_bits,
};
use super::imatrix_weights::encode_rows;
use super::scale_search::{AffineFit, ScaleSearch, SearchWeights};

const BYTES: usize = 22;

#[inline(always)]
pub fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let Some(importance) = importance else { return encode_all(src, out, encode_block) };
    let search = |x: &[BlockValues], weights: SearchWeights<'_, LEN>, fits: &mut [AffineFit]| {
        searches.symmetric(16, x, weights, fits);
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
    let q = fit.codes(values, (-16, 15));
    out[..2].copy_from_slice(&scale_field(fit.scale, values)?);
    out[2..6].copy_from_slice(&fifth_bits(&q));
    out[6..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
fn encode_block(values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let max = signed_absmax(values);
    let d = max / -16.0;
    let id = reciprocal(d);
    let q = codes(values, id, 31, |x| x * id + 16.5);
    out[..2].copy_from_slice(&field(d, values, max)?);
    out[2..6].copy_from_slice(&fifth_bits(&q));
    out[6..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    let q = with_fifth_bits(unpack_halves(&bytes[6..]), [bytes[2], bytes[3], bytes[4], bytes[5]]);
    for (x, &q) in values.iter_mut().zip(&q) {
        *x = f32::from(q as i8 - 16) * d;
    }
}
