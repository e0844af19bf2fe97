//! Q3_K (ggml): codes of 3 bits, 16 sub-blocks of 16 weights with one scale; 110 bytes, 3.4375 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | upper bit of each code (see [`pack_plane`]) |
//! | 32..96 | two lower bits of each code, four in a byte (see [`pack_quarters`]) |
//! | 96..108 | 6-bit scales (see [`pack_sixteen`]) |
//! | 108..110 | `d`, binary16 |
//!
//! Dequantizes to `d * (scale - 32) * (q - 4)`. Source: `block_q3_K`.
//!
//! Encoder: `quantize_row_q3_K_ref`. The sub-block scale of largest magnitude (the first of equal ones)
//! becomes -32 steps. Codes are computed again from the stored scales; if a stored scale is 0, the codes of
//! the search are kept. A super-block of zeros is 110 zero bytes, packed scales included. With importance
//! weights: `quantize_row_q3_K_impl`; sub-blocks and their scales are fitted symmetrically around zero, see
//! [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::imatrix_weights::{ColumnWeights, SuperBlockWeights, searchable};
use super::scale_search::{AffineFit, RefinedFit, ScaleSearch, SearchWeights};
use super::six_bits::{pack_sixteen, unpack_sixteen};
use super::super_block::{SuperBlockValues, add_plane, pack_plane, pack_quarters, unpack_quarters};
use super::super_block_encode::{
    BATCH, check_fits, each, encode_batches, overflow_at_absmax, recode, signed_max,
};
use crate::float::{f16_to_f32, nearest_even};

/// Bytes of a super-block.
const BYTES: usize = 110;

/// Super-blocks that are searched together: more than elsewhere, because in later rounds of the search few
/// codes still change.
const LARGE_BATCH: usize = 4 * BATCH;
/// Search result of a super-block without importance weights.
type RefinedBlock = [RefinedFit<16>; 16];

/// Search result of a super-block with importance weights.
#[derive(Clone, Copy)]
struct WeightedQ3K {
    /// Fits of the sub-blocks.
    fits: [AffineFit; 16],
    /// Fit of their scales.
    scale: AffineFit,
}

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
    let Some(importance) = importance else {
        let search = |_, values: &[SuperBlockValues], found: &mut [RefinedBlock]| {
            searches.q3_refine(4, values.as_flattened().as_chunks::<16>().0, found.as_flattened_mut());
        };
        return encode_batches(
            src,
            out,
            [[RefinedFit { scale: 0.0, codes: [0; 16] }; 16]; LARGE_BATCH],
            search,
            #[inline(always)]
            |values, found, out| write(found, values, out),
        );
    };
    let columns = ColumnWeights::new(importance, src);
    let search = |first, values: &[SuperBlockValues], found: &mut [WeightedQ3K]| {
        let block_weights =
            SuperBlockWeights::new::<16, S>(searches, columns, first, values, |sum| 2.0 * sum / 256.0);
        search_weighted(searches, values, &block_weights, found);
    };
    let blank = [WeightedQ3K { fits: [AffineFit::ZERO; 16], scale: AffineFit::ZERO }; BATCH];
    encode_batches(
        src,
        out,
        blank,
        search,
        #[inline(always)]
        |values, found, out| write_weighted(found, values, out),
    )
}

/// Fits the sub-blocks symmetrically, then their scales, with the summed weights of the sub-blocks.
#[inline(always)]
fn search_weighted<S: ScaleSearch>(
    searches: S,
    values: &[SuperBlockValues],
    block_weights: &SuperBlockWeights<16>,
    found: &mut [WeightedQ3K],
) {
    let mut fits = [[AffineFit::ZERO; 16]; BATCH];
    let x = values.as_flattened().as_chunks::<16>().0;
    searches.symmetric(4, x, block_weights.given(), &mut fits.as_flattened_mut()[..x.len()]);
    let scales = fits.map(|fits| each(&fits, |f| searchable(f.scale)));
    let mut scale_fits = [AffineFit::ZERO; BATCH];
    let count = values.len();
    searches.symmetric(
        32,
        &scales[..count],
        SearchWeights::Given(&block_weights.sums),
        &mut scale_fits[..count],
    );
    for ((found, fits), scale) in found.iter_mut().zip(fits).zip(scale_fits) {
        *found = WeightedQ3K { fits, scale };
    }
    block_weights.invalidate_overflows(found, |found| &mut found.fits[0].scale);
}

/// Writes a super-block that was searched with importance weights.
#[inline(always)]
fn write_weighted(
    found: &WeightedQ3K,
    values: &SuperBlockValues,
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    let WeightedQ3K { fits, scale } = found;
    check_fits(fits, values)?;
    let scales = scale.codes(&each(fits, |f| f.scale), (-32, 31));
    finish(values, &scales, scale.scale, |j, x| fits[j].codes(x, (-4, 3)), out)
}

/// Writes a super-block that was searched without importance weights.
#[inline(always)]
fn write(found: &RefinedBlock, values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let found_scales = each(found, |f| f.scale);
    // ggml writes invalid blocks for values so large that the sums overflow.
    if !found_scales.iter().all(|s| s.is_finite()) {
        return Err(overflow_at_absmax(values));
    }
    let max = signed_max(&found_scales);
    let (mut d, mut scales) = (0.0, [0; 16]);
    if max != 0.0 {
        let inverse = -32.0 / max;
        scales = each(&found_scales, |s| (nearest_even(inverse * s).clamp(-32, 31) + 32) as u8);
        d = 1.0 / inverse;
    }
    finish(values, &scales, d, |j, _| found[j].codes, out)
}

/// Writes a super-block.
///
/// - `scales`: integer scales plus 32, in units of `d`.
/// - `left(j, x)`: codes of the search for sub-block `j`.
#[inline(always)]
fn finish(
    values: &SuperBlockValues,
    scales: &[u8; 16],
    d: f32,
    left: impl Fn(usize, &[f32; 16]) -> [u8; 16],
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    let field = scale_field(d, values)?;
    let d = f16_to_f32(u16::from_le_bytes(field));
    let stored = |j: usize| (d * f32::from(scales[j] as i8 - 32), 0.0);
    let mut codes = [0; 256];
    recode::<16>(values, (-4, 3), stored, left, &mut codes);
    out[..32].copy_from_slice(&pack_plane(&codes, 2));
    pack_quarters(&codes, &mut out[32..96]);
    out[96..108].copy_from_slice(&pack_sixteen(scales));
    out[108..].copy_from_slice(&field);
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_q3_K`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 108);
    let mut codes = unpack_quarters(&bytes[32..96]);
    add_plane(&mut codes, &bytes[..32], 2);
    let mut packed = [0; 12];
    packed.copy_from_slice(&bytes[96..108]);
    let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
    for ((values, codes), scale) in parts.zip(unpack_sixteen(packed)) {
        let d = d * f32::from(scale as i8 - 32);
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * f32::from(q as i8 - 4);
        }
    }
}
