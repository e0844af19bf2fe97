//! ggml's Q4_K: `f16 d`, `f16 dmin`, twelve bytes of 8 scales and 8 minima, 128 bytes of nibbles;
//! `w = d * scale * q - dmin * min`, one scale and minimum for 32 values. Knows nothing but its 144 bytes.
//!
//! `quantize_row_q4_K_ref`: each sub-block is fitted with the weights `sqrt(mean square) + |x|`, scales and minima are
//! shared out to 63 steps of their greatest, and codes are chosen anew from the stored ones. Where a stored scale is
//! 0 the codes stay those of the search. All zeros: everything 0.

use super::Refused;
use super::block::{Overflow, decode_all, encode_all, read_field};
use super::search::{Grid, share};
use super::six_bits;
use super::wide::{Codes, Values, pack_nibbles, recode, unpack_nibbles};

const BYTES: usize = 144;
const GRID: Grid = Grid { top: 15, first: -1.0, step: 0.1, count: 20, absolute: false };

pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_all(src, out, encode_block)
}

fn encode_block(values: &Values, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let codes = encode_with_minimum(values, &GRID, out)?;
    pack_nibbles::<32>(&codes, &mut out[16..]);
    Ok(())
}

/// The codes, and the sixteen bytes of header that Q4_K and Q5_K have in common.
pub(super) fn encode_with_minimum<const B: usize>(
    values: &Values,
    grid: &Grid,
    out: &mut [u8; B],
) -> Result<Codes, Overflow> {
    let mut codes = [0; 256];
    let fits = grid.fit_all::<32, 8>(values, &mut codes, loudness)?;
    let (d_field, d, scales) = share(fits.map(|f| f.scale), 63.0, values)?;
    let (m_field, dmin, mins) = share(fits.map(|f| f.min), 63.0, values)?;
    // A negative scale, cast to a byte, is large: ggml stores it as 63.
    let (scales, mins) = (scales.map(|s| s.min(63)), mins.map(|m| m.min(63)));
    recode::<32>(values, &mut codes, (0, grid.top), |j| {
        (d * f32::from(scales[j]), dmin * f32::from(mins[j]))
    });
    out[..2].copy_from_slice(&d_field);
    out[2..4].copy_from_slice(&m_field);
    out[4..16].copy_from_slice(&six_bits::pack_pairs(&scales, &mins));
    Ok(codes)
}

/// What each value of a sub-block counts.
fn loudness(x: &[f32; 32]) -> [f32; 32] {
    let average = libm::sqrtf(x.iter().fold(0.0, |sum, &x| sum + x * x) / 32.0);
    x.map(|x| average + x.abs())
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut Values) {
    decode_with_minimum(bytes, &unpack_nibbles::<32>(&bytes[16..]), values);
}

/// The values of codes under the sixteen bytes of header that Q4_K and Q5_K have in common.
#[inline(always)]
pub(super) fn decode_with_minimum<const B: usize>(bytes: &[u8; B], codes: &Codes, values: &mut Values) {
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
