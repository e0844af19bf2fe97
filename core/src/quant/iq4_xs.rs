//! IQ4_XS (ggml): 4-bit codes into the codebook of IQ4_NL, 8 sub-blocks of 32 weights; 136 bytes, 4.25 bits
//! per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | 2 upper bits of each sub-block scale |
//! | 4..8 | low nibbles of the scales |
//! | 8..136 | codes: 16 bytes for each sub-block, byte `j` holds code `j` and code `j + 16` |
//!
//! Dequantizes to `d * (scale - 32) * IQ4[q]` ([`IQ4`]). Source: `block_iq4_xs`.
//!
//! Encoder: `quantize_iq4_xs`. Sub-block scales are those of [`ScaleSearch::iq4`]; the one of largest
//! magnitude (the first of equal ones) becomes -32 steps. Codes are the nearest levels to `x * (1/s)`, with
//! `s` the integer scale times the unrounded `d`; of 0 if `s` is 0. A super-block of zeros, or of zero
//! weights, has `d = -0`, scales 0 (stored as 32) and codes 8. Importance weights:
//! [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, reciprocal, scale_field};
use super::codebook::{IQ4, nearest_iq4};
use super::imatrix_weights::{ColumnWeights, SuperBlockWeights};
use super::scale_search::{ScaleSearch, SearchWeights};
use super::super_block::{SuperBlockValues, pack_nibbles, unpack_nibbles};
use super::super_block_encode::{BATCH, each, encode_batches, overflow_at_absmax, signed_max};
use crate::float::nearest_even;

/// Bytes of a super-block.
const BYTES: usize = 136;

/// Encodes super-blocks, with or without the importance weights of their columns.
///
/// Refuses NaN, infinity, and values whose sums or `d` exceed their range.
#[inline(always)]
pub(super) fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let columns = importance.map(|importance| ColumnWeights::new(importance, src));
    let search = |first, values: &[SuperBlockValues], scales: &mut [[f32; 8]]| {
        let (x, all) = (values.as_flattened().as_chunks::<32>().0, scales.as_flattened_mut());
        let Some(columns) = columns else { return searches.iq4(x, SearchWeights::Square, all) };
        let sigma2 = |sum: f32| sum * (2.0 / 256.0);
        let block_weights = SuperBlockWeights::<8>::new::<32, S>(searches, columns, first, values, sigma2);
        searches.iq4(x, block_weights.given(), all);
        block_weights.invalidate_overflows(scales, |scales| &mut scales[0]);
    };
    encode_batches(
        src,
        out,
        [[0.0; 8]; BATCH],
        search,
        #[inline(always)]
        |values, found, out| write(found, values, out),
    )
}

/// Writes the super-block with these sub-block scales.
#[inline(always)]
fn write(found: &[f32; 8], values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    // ggml writes invalid blocks for values so large that the sums overflow.
    if !found.iter().all(|s| s.is_finite()) {
        return Err(overflow_at_absmax(values));
    }
    let d = -signed_max(found) / 32.0;
    let id = reciprocal(d);
    let scales = each(found, |s| nearest_even(id * s).clamp(-32, 31));
    let mut codes = [0; 256];
    let parts = values.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    for ((values, codes), &scale) in parts.zip(&scales) {
        let id = reciprocal(d * scale as f32);
        *codes = each(values, |x| nearest_iq4(id * x));
    }
    out[..2].copy_from_slice(&scale_field(d, values)?);
    pack_scales(each(&scales, |s| (s + 32) as u8), out);
    pack_nibbles::<16>(&codes, &mut out[8..]);
    Ok(())
}

/// Packs the 6-bit scales.
fn pack_scales(scales: [u8; 8], out: &mut [u8; BYTES]) {
    let mut upper = 0_u16;
    for (j, &scale) in scales.iter().enumerate() {
        upper |= u16::from(scale >> 4) << (2 * j);
    }
    out[2..4].copy_from_slice(&upper.to_le_bytes());
    for (byte, [low, high]) in out[4..8].iter_mut().zip(scales.as_chunks::<2>().0) {
        *byte = (low & 15) | high << 4;
    }
}

/// Decodes super-blocks (`dequantize_row_iq4_xs`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 0);
    let codes = unpack_nibbles::<16>(&bytes[8..]);
    let parts = values.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0);
    for ((values, codes), scale) in parts.zip(unpack_scales(bytes)) {
        let d = d * f32::from(scale as i8 - 32);
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * IQ4[usize::from(q & 15)];
        }
    }
}

/// The stored scales, 32 larger than their values.
#[inline(always)]
fn unpack_scales(bytes: &[u8; BYTES]) -> [u8; 8] {
    let upper = u16::from_le_bytes([bytes[2], bytes[3]]);
    let mut scales = [0; 8];
    for (j, scale) in scales.iter_mut().enumerate() {
        let low = bytes[4 + j / 2] >> (4 * (j % 2)) & 15;
        *scale = low | ((upper >> (2 * j) & 3) as u8) << 4;
    }
    scales
}
