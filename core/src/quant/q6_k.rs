//! ggml's Q6_K: 128 bytes of low nibbles, 64 bytes of upper bits, 16 signed scales, `f16 d`;
//! `w = d * scale * (q - 32)`, one scale for 16 values. Knows nothing but its 210 bytes.
//!
//! `quantize_row_q6_K_ref`: scales are shared out so that the one of greatest magnitude (the first of equals) is -128
//! steps, and codes are chosen anew from the stored ones. Where a stored scale is 0 the codes stay those of the
//! search. Where every scale is below 1e-15 the whole super-block is zero bytes. `quantize_row_q6_K_impl`: with
//! importance, that is the weights, as it is.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::imatrix_weights::ColumnWeights;
use super::scale_search::{AffineFit, EPSILON, ScaleSearch, SearchWeights};
use super::super_block::{SuperBlockValues, pack_nibbles, pack_quarters, unpack_nibbles, unpack_quarters};
use super::super_block_encode::{BATCH, check_fits, each, encode_batches, recode, signed_max};
use crate::float::{f16_to_f32, nearest_even};

const BYTES: usize = 210;

#[inline(always)]
pub fn encode<S: ScaleSearch>(
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
        let mut given = [[0.0; 256]; BATCH];
        columns.copy(first, &mut given[..values.len()]);
        let weights = SearchWeights::Given(given.as_flattened().as_chunks().0);
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

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
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
