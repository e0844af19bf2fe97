//! Q2_K (ggml): codes of 2 bits, 16 sub-blocks of 16 weights with scale and minimum; 84 bytes, 2.625 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..16 | for each sub-block 4-bit scale (low nibble) and 4-bit minimum |
//! | 16..80 | codes, four in a byte (see [`pack_quarters`]) |
//! | 80..82 | `d`, binary16 |
//! | 82..84 | `dmin`, binary16 |
//!
//! Dequantizes to `d * scale * q - dmin * min`. Source: `block_q2_K`.
//!
//! Encoder: `quantize_row_q2_K_ref`. Each sub-block is fitted with magnitudes as weights and the sum of
//! absolute errors as criterion. Scales and minima become multiples of 1/15 of the largest. Codes are
//! computed again from the stored scales; if a stored scale is 0, the codes of the search are kept. A
//! super-block of zeros is 84 zero bytes. With importance weights: `quantize_row_q2_K_impl`, see
//! [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field};
use super::imatrix_weights::{self, ColumnWeights, SuperBlockWeights, WeightedFit, fit_asymmetric};
use super::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};
use super::super_block::{SuperBlockValues, pack_quarters, unpack_quarters};
use super::super_block_encode::{
    BATCH, SharedScales, check_fits, each, encode_batches, quantize_scales, recode,
};

/// Bytes of a super-block.
const BYTES: usize = 84;
/// Candidate scales without importance weights.
const GRID: ScaleGrid = ScaleGrid { top: 3, first: -0.5, step: 0.1, count: 15, absolute: true };

/// Encodes super-blocks, with or without the importance weights of their columns.
///
/// Refuses NaN, infinity, and values whose sums, `d` or `dmin` exceed their range.
#[inline(always)]
pub(super) fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let Some(importance) = importance else {
        let search = |_, values: &[SuperBlockValues], fits: &mut [[AffineFit; 16]]| {
            let x = values.as_flattened().as_chunks::<16>().0;
            searches.asymmetric(&GRID, x, SearchWeights::Magnitude, fits.as_flattened_mut());
        };
        return encode_batches(
            src,
            out,
            [[AffineFit::ZERO; 16]; BATCH],
            search,
            #[inline(always)]
            |values, fits, out| {
                let (scales, mins) = (
                    quantize_scales(each(fits, |f| f.scale), 15.0),
                    quantize_scales(each(fits, |f| f.min), 15.0),
                );
                write(values, fits, &scales, &mins, out)
            },
        );
    };
    let columns = ColumnWeights::new(importance, src);
    let search = |first, values: &[SuperBlockValues], found: &mut [WeightedFit<16>]| {
        let block_weights =
            SuperBlockWeights::new::<16, S>(searches, columns, first, values, |sum| sum / 256.0);
        fit_asymmetric::<16, 16, S>(searches, &imatrix_weights::grid(3), 15, &block_weights, values, found);
    };
    encode_batches(
        src,
        out,
        WeightedFit::BLANK,
        search,
        #[inline(always)]
        |values, found, out| write(values, &found.fits, &found.scales, &found.mins, out),
    )
}

/// Writes a super-block with these fits and quantized scales.
#[inline(always)]
fn write(
    values: &SuperBlockValues,
    fits: &[AffineFit; 16],
    scales: &SharedScales<16>,
    mins: &SharedScales<16>,
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    check_fits(fits, values)?;
    let ((d_field, d), (m_field, dmin)) = (scales.field(values)?, mins.field(values)?);
    for ((both, scale), min) in out[..16].iter_mut().zip(scales.codes).zip(mins.codes) {
        *both = scale | min << 4;
    }
    let stored = |j: usize| (d * f32::from(out[j] & 15), dmin * f32::from(out[j] >> 4));
    let mut codes = [0; 256];
    recode::<16>(values, (0, 3), stored, |j, x| fits[j].codes(x, (0, 3)), &mut codes);
    pack_quarters(&codes, &mut out[16..80]);
    out[80..82].copy_from_slice(&d_field);
    out[82..84].copy_from_slice(&m_field);
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_q2_K`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let (d, dmin) = (read_field(bytes, 80), read_field(bytes, 82));
    let codes = unpack_quarters(&bytes[16..80]);
    let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
    for ((values, codes), &both) in parts.zip(&bytes[..16]) {
        let (d, m) = (d * f32::from(both & 15), dmin * f32::from(both >> 4));
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * f32::from(q) - m;
        }
    }
}
