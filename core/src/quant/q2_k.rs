//! ggml's Q2_K: 16 bytes of scale and minimum (a nibble each), 64 bytes of two-bit codes, `f16 d`, `f16 dmin`;
//! `w = d * scale * q - dmin * min`, one scale and minimum for 16 values. Knows nothing but its 84 bytes.
//!
//! `quantize_row_q2_K_ref`: each sub-block is fitted with the magnitudes as weights and judged by magnitudes, scales
//! and minima are shared out to 15 steps of their greatest, and codes are chosen anew from the stored ones. Where a
//! stored scale is 0 the codes stay those of the search. All zeros: everything 0. `quantize_row_q2_K_impl`: with
//! importance, the grids and the sharing out are those of [`super::imatrix_weights`].

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field};
use super::imatrix_weights::{self, ColumnWeights, SuperBlockWeights, WeightedFit, with_minimum};
use super::scale_search::{AffineFit, ScaleGrid, ScaleSearch, SearchWeights};
use super::super_block::{SuperBlockValues, pack_quarters, unpack_quarters};
use super::super_block_encode::{BATCH, SharedScales, check_fits, each, encode_batches, recode, share};

const BYTES: usize = 84;
const GRID: ScaleGrid = ScaleGrid { top: 3, first: -0.5, step: 0.1, count: 15, absolute: true };

#[inline(always)]
pub fn encode<S: ScaleSearch>(
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
                let (scales, mins) =
                    (share(each(fits, |f| f.scale), 15.0), share(each(fits, |f| f.min), 15.0));
                write(values, fits, &scales, &mins, out)
            },
        );
    };
    let columns = ColumnWeights::new(importance, src);
    let search = |first, values: &[SuperBlockValues], found: &mut [WeightedFit<16>]| {
        let weighed = SuperBlockWeights::new::<16, S>(searches, columns, first, values, |sum| sum / 256.0);
        with_minimum::<16, 16, S>(searches, &imatrix_weights::grid(3), 15, &weighed, values, found);
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

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
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
