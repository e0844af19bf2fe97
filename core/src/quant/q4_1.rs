//! ggml's Q4_1: `f16 d`, `f16 m`, 32 nibbles; `w = d * q + m`. Knows nothing but its 20 bytes.
//!
//! `quantize_row_q4_1_ref`: `m` is the least value, `d = (max - min) / 15`;
//! `q = min(15, trunc((x - min) * (1/d) + 0.5))` with the unrounded `min` and `1/d`. A constant block: `d = 0`,
//! codes 0; of zeros, `m` has the sign of the first. `1/d` infinite: codes 0 (undefined in C, 0 on x86).
//!
//! `quantize_row_q4_1_impl`: with importance ([`super::imatrix_weights`]; whole rows only) scale, minimum and codes are those of
//! [`ScaleSearch::asymmetric`]. All zeros: everything 0, but `m` has the sign of the first.

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, codes, decode_all, encode_all, extremes, field, larger_magnitude,
    pack_halves, read_field, reciprocal, scale_field, unpack_halves,
};
use super::imatrix_weights::{self, encode_rows};
use super::scale_search::{AffineFit, ScaleSearch, SearchWeights};

const BYTES: usize = 20;

#[inline(always)]
pub fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let Some(importance) = importance else { return encode_all(src, out, encode_block) };
    let search = |x: &[BlockValues], weights: SearchWeights<'_, LEN>, fits: &mut [AffineFit]| {
        searches.asymmetric(&imatrix_weights::grid(15), x, weights, fits);
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
    let q = fit.codes(values, (0, 15));
    out[..2].copy_from_slice(&scale_field(fit.scale, values)?);
    out[2..4].copy_from_slice(&scale_field(-fit.min, values)?);
    out[4..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
fn encode_block(values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let (min, max) = extremes(values);
    let d = (max - min) / 15.0;
    let id = reciprocal(d);
    let q = codes(values, id, 15, |x| (x - min) * id + 0.5);
    out[..2].copy_from_slice(&field(d, values, larger_magnitude(min, max))?);
    out[2..4].copy_from_slice(&field(min, values, min)?);
    out[4..].copy_from_slice(&pack_halves(&q));
    Ok(())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let (d, m) = (read_field(bytes, 0), read_field(bytes, 2));
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[4..])) {
        *x = f32::from(q) * d + m;
    }
}
