//! Q6_K (ggml): codes of 6 bits, 16 sub-blocks of 16 weights with one scale; 210 bytes, 6.5625 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..128 | low nibbles: 64 bytes hold those of 64 codes and of the next 64 |
//! | 128..192 | two upper bits of each code, four in a byte (see [`pack_quarters`]) |
//! | 192..208 | scales, i8 |
//! | 208..210 | `d`, binary16 |
//!
//! Dequantizes to `d * scale * (q - 32)`. Source: `block_q6_K`.
//!
//! Encoder: `quantize_row_q6_K_ref`. The sub-block scale of largest magnitude (the first of equal ones)
//! becomes -128 steps. Codes are computed again from the stored scales; if a stored scale is 0, the codes of
//! the search are kept. If every scale is below 1e-15, the super-block is 210 zero bytes. With importance
//! weights (`quantize_row_q6_K_impl`) the weight of a value is the importance itself.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::imatrix_weights::ColumnWeights;
use super::scale_search::{AffineFit, EPSILON, ScaleSearch, SearchWeights};
use super::super_block::{SuperBlockValues, pack_nibbles, pack_quarters, unpack_nibbles, unpack_quarters};
use super::super_block_encode::{BATCH, check_fits, each, encode_batches, recode, signed_max};
use crate::float::{f16_to_f32, nearest_even};

/// Bytes of a super-block.
const BYTES: usize = 210;

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
    let columns = importance.map(|importance| ColumnWeights::<256>::new(importance, src));
    let search = |first, values: &[SuperBlockValues], fits: &mut [[AffineFit; 16]]| {
        let x = values.as_flattened().as_chunks::<16>().0;
        let Some(columns) = columns else {
            return searches.symmetric(32, x, SearchWeights::Square, fits.as_flattened_mut());
        };
        let mut weights = [[0.0; 256]; BATCH];
        columns.copy(first, &mut weights[..values.len()]);
        let weights = SearchWeights::Given(weights.as_flattened().as_chunks().0);
        searches.symmetric(32, x, weights, fits.as_flattened_mut());
    };
    encode_batches(
        src,
        out,
        [[AffineFit::ZERO; 16]; BATCH],
        search,
        #[inline(always)]
        |values, found, out| write(found, values, out),
    )
}

/// Writes a super-block with these fits.
#[inline(always)]
fn write(fits: &[AffineFit; 16], values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    check_fits(fits, values)?;
    let max = signed_max(&each(fits, |f| f.scale));
    if max.abs() < EPSILON {
        *out = [0; BYTES];
        return Ok(());
    }
    let inverse = -128.0 / max;
    let scales = each(fits, |f| nearest_even(inverse * f.scale).min(127) as i8);
    let field = scale_field(1.0 / inverse, values)?;
    let d = f16_to_f32(u16::from_le_bytes(field));
    let stored = |j: usize| (d * f32::from(scales[j]), 0.0);
    let mut codes = [0; 256];
    recode::<16>(values, (-32, 31), stored, |j, x| fits[j].codes(x, (-32, 31)), &mut codes);
    pack_nibbles::<64>(&codes, &mut out[..128]);
    pack_quarters(&each(&codes, |q| q >> 4), &mut out[128..192]);
    out[192..208].copy_from_slice(&each(&scales, |s| s as u8));
    out[208..].copy_from_slice(&field);
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_q6_K`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 208);
    let mut codes = unpack_nibbles::<64>(&bytes[..128]);
    for (q, high) in codes.iter_mut().zip(unpack_quarters(&bytes[128..192])) {
        *q |= high << 4;
    }
    let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
    for ((values, codes), &scale) in parts.zip(&bytes[192..208]) {
        let d = d * f32::from(scale as i8);
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * f32::from(q as i8 - 32);
        }
    }
}
