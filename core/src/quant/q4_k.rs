//! Q4_K (ggml): codes of 4 bits, 8 sub-blocks of 32 weights with scale and minimum; 144 bytes, 4.5 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `dmin`, binary16 |
//! | 4..16 | 6-bit scales and minima (see [`six_bits::pack_pairs`]) |
//! | 16..144 | codes: 32 bytes hold 32 codes in the low nibbles and the next 32 in the high ones |
//!
//! Dequantizes to `d * scale * q - dmin * min`. Source: `block_q4_K`.
//!
//! Encoder: `quantize_row_q4_K_ref`. Each sub-block is fitted with the weights `sqrt(mean square) + |x|`.
//! Scales and minima become multiples of 1/63 of the largest. Codes are computed again from the stored
//! scales; if a stored scale is 0, the codes of the search are kept. A super-block of zeros is 144 zero
//! bytes. With importance weights: `quantize_row_q4_K_impl`, see [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field};
use super::imatrix_weights::{self, ColumnWeights, SuperBlockWeights, WeightedFit, fit_asymmetric};
use super::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};
use super::six_bits;
use super::super_block::{SuperBlockCodes, SuperBlockValues, pack_nibbles, unpack_nibbles};
use super::super_block_encode::{
    BATCH, SharedScales, check_fits, each, encode_batches, quantize_scales, recode,
};

/// Bytes of a super-block.
const BYTES: usize = 144;
/// Candidate scales without importance weights.
const GRID: ScaleGrid = ScaleGrid { top: 15, first: -1.0, step: 0.1, count: 20, absolute: false };

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
    encode_with_header(
        searches,
        &GRID,
        src,
        importance,
        out,
        #[inline(always)]
        |found, values, out: &mut [u8; BYTES]| {
            let mut codes = [0; 256];
            write_scales(found, values, GRID.top, &mut codes, out)?;
            pack_nibbles::<32>(&codes, &mut out[16..]);
            Ok(())
        },
    )
}

/// Encodes super-blocks of Q4_K or Q5_K; `grid` has the candidate scales without importance weights, `write`
/// packs a block.
#[inline(always)]
pub(super) fn encode_with_header<S: ScaleSearch, const B: usize>(
    searches: S,
    grid: &ScaleGrid,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    write: impl Fn(&WeightedFit<8>, &SuperBlockValues, &mut [u8; B]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    let Some(importance) = importance else {
        let search = |_, values: &[SuperBlockValues], fits: &mut [[AffineFit; 8]]| {
            let x = values.as_flattened().as_chunks::<32>().0;
            searches.asymmetric(grid, x, SearchWeights::MeanMagnitude, fits.as_flattened_mut());
        };
        return encode_batches(
            src,
            out,
            [[AffineFit::ZERO; 8]; BATCH],
            search,
            #[inline(always)]
            |values, fits, out| {
                let (scales, mins) = (
                    quantize_scales(each(fits, |f| f.scale), 63.0),
                    quantize_scales(each(fits, |f| f.min), 63.0),
                );
                write(&WeightedFit { fits: *fits, scales, mins }.clamped(), values, out)
            },
        );
    };
    let columns = ColumnWeights::new(importance, src);
    let search = |first, values: &[SuperBlockValues], found: &mut [WeightedFit<8>]| {
        let block_weights =
            SuperBlockWeights::new::<32, S>(searches, columns, first, values, |sum| 2.0 * sum / 256.0);
        fit_asymmetric::<32, 8, S>(
            searches,
            &imatrix_weights::grid(grid.top),
            63,
            &block_weights,
            values,
            found,
        );
    };
    encode_batches(
        src,
        out,
        WeightedFit::BLANK,
        search,
        #[inline(always)]
        |values, found, out| write(found, values, out),
    )
}

impl WeightedFit<8> {
    /// Limits the integer scales and minima to 63, as ggml stores them.
    ///
    /// A negative scale, cast to a byte, is larger. ggml does not limit it in Q4_K with importance weights.
    #[inline(always)]
    pub(super) fn clamped(self) -> WeightedFit<8> {
        let limit = |all: SharedScales<8>| SharedScales { codes: each(&all.codes, |q: u8| q.min(63)), ..all };
        WeightedFit { scales: limit(self.scales), mins: limit(self.mins), ..self }
    }
}

/// Writes the sixteen header bytes of Q4_K and Q5_K, and computes the codes.
#[inline(always)]
pub(super) fn write_scales<const B: usize>(
    WeightedFit { fits, scales, mins }: &WeightedFit<8>,
    values: &SuperBlockValues,
    top: i32,
    codes: &mut SuperBlockCodes,
    out: &mut [u8; B],
) -> Result<(), Overflow> {
    check_fits(fits, values)?;
    let ((d_field, d), (m_field, dmin)) = (scales.field(values)?, mins.field(values)?);
    let packed = six_bits::pack_pairs(&scales.codes, &mins.codes);
    out[..2].copy_from_slice(&d_field);
    out[2..4].copy_from_slice(&m_field);
    out[4..16].copy_from_slice(&packed);
    let (scales, mins) = six_bits::unpack_pairs(packed);
    let stored = |j: usize| (d * f32::from(scales[j]), dmin * f32::from(mins[j]));
    recode::<32>(values, (0, top), stored, |j, x| fits[j].codes(x, (0, top)), codes);
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_q4_K`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    decode_with_minimum(bytes, &unpack_nibbles::<32>(&bytes[16..]), values);
}

/// Dequantizes codes with the sixteen header bytes of Q4_K and Q5_K.
#[inline(always)]
pub(super) fn decode_with_minimum<const B: usize>(
    bytes: &[u8; B],
    codes: &SuperBlockCodes,
    values: &mut SuperBlockValues,
) {
    let (d, dmin) = (read_field(bytes, 0), read_field(bytes, 2));
    let mut packed = [0; six_bits::BYTES];
    packed.copy_from_slice(&bytes[4..16]);
    let (scales, mins) = six_bits::unpack_pairs(packed);
    let parts = values.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0);
    for ((values, codes), (scale, min)) in parts.zip(scales.into_iter().zip(mins)) {
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * f32::from(q) - m;
        }
    }
}
