//! ggml's Q3_K: 32 bytes of upper bits, 64 bytes of two-bit codes, twelve bytes of 16 scales, `f16 d`;
//! `w = d * (scale - 32) * (q - 4)`, one scale for 16 values. Knows nothing but its 110 bytes.
//!
//! `quantize_row_q3_K_ref`: scales are shared out so that the one of greatest magnitude (the first of equals) is -32
//! steps, and codes are chosen anew from the stored ones. Where a stored scale is 0 the codes stay those of the
//! search. All zeros: everything 0, the packed scales too. `quantize_row_q3_K_impl`: with importance ([`super::imatrix_weights`])
//! the sub-blocks are fitted around zero, and so are their scales.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::imatrix_weights::{ColumnWeights, SuperBlockWeights, searchable};
use super::scale_search::{AffineFit, RefinedFit, ScaleSearch, SearchWeights};
use super::six_bits::{pack_sixteen, unpack_sixteen};
use super::super_block::{SuperBlockValues, add_plane, pack_plane, pack_quarters, unpack_quarters};
use super::super_block_encode::{BATCH, check_fits, each, encode_batches, loudest, recode, signed_max};
use crate::float::{f16_to_f32, nearest_even};

const BYTES: usize = 110;

/// Super-blocks that are searched together: more than elsewhere, for the rounds in which few codes still move.
const LARGE_BATCH: usize = 4 * BATCH;
/// What the search finds for a super-block.
type RefinedBlock = [RefinedFit<16>; 16];

/// What it finds when importance is given: the fits of the sub-blocks, and that of their scales.
#[derive(Clone, Copy)]
struct WeightedQ3K {
    fits: [AffineFit; 16],
    scale: AffineFit,
}

#[inline(always)]
pub fn encode<S: ScaleSearch>(
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
        let weighed =
            SuperBlockWeights::new::<16, S>(searches, columns, first, values, |sum| 2.0 * sum / 256.0);
        search_weighted(searches, values, &weighed, found);
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

/// The sub-blocks are fitted around zero, and so are their scales, which count as much as their values together.
#[inline(always)]
fn search_weighted<S: ScaleSearch>(
    searches: S,
    values: &[SuperBlockValues],
    weighed: &SuperBlockWeights<16>,
    found: &mut [WeightedQ3K],
) {
    let mut fits = [[AffineFit::ZERO; 16]; BATCH];
    let x = values.as_flattened().as_chunks::<16>().0;
    searches.symmetric(4, x, weighed.given(), &mut fits.as_flattened_mut()[..x.len()]);
    let scales = fits.map(|fits| each(&fits, |f| searchable(f.scale)));
    let mut shared = [AffineFit::ZERO; BATCH];
    let count = values.len();
    searches.symmetric(32, &scales[..count], SearchWeights::Given(&weighed.sums), &mut shared[..count]);
    for ((found, fits), scale) in found.iter_mut().zip(fits).zip(shared) {
        *found = WeightedQ3K { fits, scale };
    }
    weighed.spoil(found, |found| &mut found.fits[0].scale);
}

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

#[inline(always)]
fn write(found: &RefinedBlock, values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let found_scales = each(found, |f| f.scale);
    // ggml writes nonsense for sub-blocks so loud that their sums overflow.
    if !found_scales.iter().all(|s| s.is_finite()) {
        return Err(loudest(values));
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

/// Writes the block, from scales counted from -32, their unit, and the codes that the search left.
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

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
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
