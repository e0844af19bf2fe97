//! ggml's IQ4_NL: `f16 d`, 32 nibbles; `w = d * level(q)` with sixteen levels that lie closer around zero.
//! Knows nothing but its 18 bytes.
//!
//! `quantize_iq4_nl`, which searches (`quantize_row_iq4_nl_ref` does not): the scale is that of [`ScaleSearch::iq4`], the codes are
//! those of `x * (1/d)` with the unrounded `d`, which may be negative. All zeros, or none that counts: `d = +0`,
//! codes 8. Importance: [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, decode_all, pack_halves, read_field, reciprocal, scale_field, unpack_halves,
};
use super::codebook::{IQ4, nearest_iq4};
use super::imatrix_weights::{ColumnWeights, block_squares, weigh_blocks};
use super::scale_search::{ScaleSearch, SearchWeights};
use super::super_block_encode::{SMALL_BATCH, each, encode_batches};

const BYTES: usize = 18;

#[inline(always)]
pub fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let Some(importance) = importance else {
        let search = |_, values: &[BlockValues], scales: &mut [f32]| {
            searches.iq4(values, SearchWeights::Square, scales)
        };
        return encode_batches(
            src,
            out,
            [0.0; SMALL_BATCH],
            search,
            #[inline(always)]
            |values, found, out| write(found, values, out),
        );
    };
    let columns = ColumnWeights::new(importance, src);
    let search = |first, values: &[BlockValues], scales: &mut [f32]| {
        let spreads = block_squares(values).map(|sum| sum * (2.0 / 32.0));
        let mut weights = [[0.0; LEN]; SMALL_BATCH];
        weigh_blocks(searches, columns, first, values, &spreads, &mut weights);
        searches.iq4(values, SearchWeights::Given(&weights), scales);
        // Too loud for a spread: refused, whatever the search made of it.
        for (scale, _) in scales.iter_mut().zip(spreads).filter(|(_, spread)| !spread.is_finite()) {
            *scale = f32::NAN;
        }
    };
    encode_batches(
        src,
        out,
        [0.0; SMALL_BATCH],
        search,
        #[inline(always)]
        |values, found, out| write(found, values, out),
    )
}

#[inline(always)]
fn write(&d: &f32, values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let id = reciprocal(d);
    out[..2].copy_from_slice(&scale_field(d, values)?);
    out[2..].copy_from_slice(&pack_halves(&each(values, |x| nearest_iq4(x * id))));
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
        *x = d * IQ4[usize::from(q & 15)];
    }
}
