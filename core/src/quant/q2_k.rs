//! ggml's Q2_K: 16 bytes of scale and minimum (a nibble each), 64 bytes of two-bit codes, `f16 d`, `f16 dmin`;
//! `w = d * scale * q - dmin * min`, one scale and minimum for 16 values. Knows nothing but its 84 bytes.
//!
//! `quantize_row_q2_K_ref`: each sub-block is fitted with the magnitudes as weights and judged by magnitudes, scales
//! and minima are shared out to 15 steps of their greatest, and codes are chosen anew from the stored ones. Where a
//! stored scale is 0 the codes stay those of the search. All zeros: everything 0.

use super::Refused;
use super::block::{Overflow, decode_all, encode_all, read_field};
use super::search::{Grid, share};
use super::wide::{Values, pack_quarters, recode, unpack_quarters};

const BYTES: usize = 84;
const GRID: Grid = Grid { top: 3, first: -0.5, step: 0.1, count: 15, absolute: true };

pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_all(src, out, encode_block)
}

fn encode_block(values: &Values, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let mut codes = [0; 256];
    let fits = GRID.fit_all::<16, 16>(values, &mut codes, |x| x.map(f32::abs))?;
    let (d_field, d, scales) = share(fits.map(|f| f.scale), 15.0, values)?;
    let (m_field, dmin, mins) = share(fits.map(|f| f.min), 15.0, values)?;
    for ((both, scale), min) in out[..16].iter_mut().zip(scales).zip(mins) {
        *both = scale | min << 4;
    }
    let stored = |j: usize| (d * f32::from(out[j] & 15), dmin * f32::from(out[j] >> 4));
    recode::<16>(values, &mut codes, (0, 3), stored);
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
fn decode_block(bytes: &[u8; BYTES], values: &mut Values) {
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
