//! IQ4_NL (ggml): 32 codes of 4 bits into a fixed codebook with one scale; 18 bytes, 4.5 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | codes: byte `j` holds code `j` (low nibble) and code `j + 16` |
//!
//! Dequantizes to `d * IQ4[q]` ([`IQ4`]), with levels that are denser around zero. Source: `block_iq4_nl`.
//!
//! Encoder: `quantize_iq4_nl`, which searches for the scale ([`ScaleSearch::iq4`]); `quantize_row_iq4_nl_ref`
//! does not. Codes are the nearest levels to `x * (1/d)` with the unrounded `d`, which may be negative. A
//! block of zeros, or of zero weights, has `d = +0` and codes 8. Importance weights:
//! [`super::imatrix_weights`], with twice the mean square of the block.

use super::EncodeError;
use super::block::{
    BlockValues, LEN, Overflow, decode_all, pack_halves, read_field, reciprocal, scale_field, unpack_halves,
};
use super::codebook::{IQ4, nearest_iq4};
use super::imatrix_weights::{ColumnWeights, block_squares, weigh_blocks};
use super::scale_search::{ScaleSearch, SearchWeights};
use super::super_block_encode::{SMALL_BATCH, each, encode_batches};

/// Bytes of a block.
const BYTES: usize = 18;

/// Encodes whole blocks, with or without the importance weights of their columns.
///
/// Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode<S: ScaleSearch>(
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
        let sigma2 = block_squares(values).map(|sum| sum * (2.0 / 32.0));
        let mut weights = [[0.0; LEN]; SMALL_BATCH];
        weigh_blocks(searches, columns, first, values, &sigma2, &mut weights);
        searches.iq4(values, SearchWeights::Given(&weights), scales);
        // The mean square is not finite: the block is refused, whatever the search found.
        for (scale, _) in scales.iter_mut().zip(sigma2).filter(|(_, sigma2)| !sigma2.is_finite()) {
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

/// Writes the block with scale `d`.
#[inline(always)]
fn write(&d: &f32, values: &BlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let id = reciprocal(d);
    out[..2].copy_from_slice(&scale_field(d, values)?);
    out[2..].copy_from_slice(&pack_halves(&each(values, |x| nearest_iq4(x * id))));
    Ok(())
}

/// Decodes whole blocks (`dequantize_row_iq4_nl`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[2..])) {
        *x = d * IQ4[usize::from(q & 15)];
    }
}
