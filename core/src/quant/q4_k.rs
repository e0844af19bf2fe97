//! ggml's Q4_K: `f16 d`, `f16 dmin`, twelve bytes of 8 scales and 8 minima, 128 bytes of nibbles;
//! `w = d * scale * q - dmin * min`, one scale and minimum for 32 values. Knows nothing but its 144 bytes.
//!
//! `quantize_row_q4_K_ref`: each sub-block is fitted with the weights `sqrt(mean square) + |x|`, scales and minima are
//! shared out to 63 steps of their greatest, and codes are chosen anew from the stored ones. Where a stored scale is
//! 0 the codes stay those of the search. All zeros: everything 0. `quantize_row_q4_K_impl`: with importance, the
//! grids and the sharing out are those of [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field};
use super::imatrix_weights::{self, ColumnWeights, SuperBlockWeights, WeightedFit, with_minimum};
use super::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};
use super::six_bits;
use super::super_block::{SuperBlockCodes, SuperBlockValues, pack_nibbles, unpack_nibbles};
use super::super_block_encode::{BATCH, SharedScales, check_fits, each, encode_batches, recode, share};

const BYTES: usize = 144;
const GRID: ScaleGrid = ScaleGrid { top: 15, first: -1.0, step: 0.1, count: 20, absolute: false };

#[inline(always)]
pub fn encode<S: ScaleSearch>(
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

/// Finds what Q4_K and Q5_K write for each super-block; without importance with the grids given.
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
                let (scales, mins) =
                    (share(each(fits, |f| f.scale), 63.0), share(each(fits, |f| f.min), 63.0));
                write(&WeightedFit { fits: *fits, scales, mins }.limited(), values, out)
            },
        );
    };
    let columns = ColumnWeights::new(importance, src);
    let search = |first, values: &[SuperBlockValues], found: &mut [WeightedFit<8>]| {
        let weighed =
            SuperBlockWeights::new::<32, S>(searches, columns, first, values, |sum| 2.0 * sum / 256.0);
        with_minimum::<32, 8, S>(searches, &imatrix_weights::grid(grid.top), 63, &weighed, values, found);
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
    /// A negative scale, cast to a byte, is large: ggml stores it as 63, but not in Q4_K when importance is given.
    #[inline(always)]
    pub(super) fn limited(self) -> WeightedFit<8> {
        let limit = |all: SharedScales<8>| SharedScales { codes: each(&all.codes, |q: u8| q.min(63)), ..all };
        WeightedFit { scales: limit(self.scales), mins: limit(self.mins), ..self }
    }
}

/// Writes the sixteen bytes of header that Q4_K and Q5_K have in common, and finds the codes.
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

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    decode_with_minimum(bytes, &unpack_nibbles::<32>(&bytes[16..]), values);
}

/// The values of codes under the sixteen bytes of header that Q4_K and Q5_K have in common.
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
