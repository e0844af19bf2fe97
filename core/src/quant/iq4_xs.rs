//! ggml's IQ4_XS: `f16 d`, 16 upper bits of scales, four bytes of their low nibbles, 128 bytes of nibbles;
//! `w = d * (scale - 32) * level(q)`, one scale of six bits for 32 values, the levels those of IQ4_NL.
//! Knows nothing but its 136 bytes.
//!
//! `quantize_iq4_xs`: scales are [`fit_iq4`]'s, shared out so that the one of greatest magnitude (the first of equals)
//! is -32 steps; the codes are those of `x * (1/s)`, with `s` the scale in steps of the unrounded `d`, and of 0 where
//! it is 0. All zeros: `d = -0`, scales 0 (stored as 32), codes 8.

use super::Refused;
use super::block::{Overflow, decode_all, encode_all, read_field, reciprocal, scale_field};
use super::codebook::{IQ4, fit_iq4, nearest_iq4};
use super::search::{loudest, signed_max};
use super::wide::{Values, pack_nibbles, unpack_nibbles};
use crate::float::nearest_even;

const BYTES: usize = 136;

pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_all(src, out, encode_block)
}

fn encode_block(values: &Values, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let mut fits = [0.0; 8];
    for (fit, values) in fits.iter_mut().zip(values.as_chunks::<32>().0) {
        *fit = fit_iq4(values);
    }
    // ggml writes nonsense for sub-blocks so loud that their sums overflow.
    if !fits.iter().all(|s| s.is_finite()) {
        return Err(loudest(values));
    }
    let d = -signed_max(&fits) / 32.0;
    let id = reciprocal(d);
    let scales = fits.map(|s| nearest_even(id * s).clamp(-32, 31));
    let mut codes = [0; 256];
    let parts = values.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0);
    for ((values, codes), &scale) in parts.zip(&scales) {
        let id = reciprocal(d * scale as f32);
        *codes = values.map(|x| nearest_iq4(id * x));
    }
    out[..2].copy_from_slice(&scale_field(d, values)?);
    pack_scales(scales.map(|s| (s + 32) as u8), out);
    pack_nibbles::<16>(&codes, &mut out[8..]);
    Ok(())
}

fn pack_scales(scales: [u8; 8], out: &mut [u8; BYTES]) {
    let mut upper = 0_u16;
    for (j, &scale) in scales.iter().enumerate() {
        upper |= u16::from(scale >> 4) << (2 * j);
    }
    out[2..4].copy_from_slice(&upper.to_le_bytes());
    for (byte, [low, high]) in out[4..8].iter_mut().zip(scales.as_chunks::<2>().0) {
        *byte = (low & 15) | high << 4;
    }
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut Values) {
    let d = read_field(bytes, 0);
    let codes = unpack_nibbles::<16>(&bytes[8..]);
    let parts = values.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0);
    for ((values, codes), scale) in parts.zip(unpack_scales(bytes)) {
        let d = d * f32::from(scale as i8 - 32);
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * IQ4[usize::from(q & 15)];
        }
    }
}

/// The eight scales, each 32 too large.
#[inline(always)]
fn unpack_scales(bytes: &[u8; BYTES]) -> [u8; 8] {
    let upper = u16::from_le_bytes([bytes[2], bytes[3]]);
    let mut scales = [0; 8];
    for (j, scale) in scales.iter_mut().enumerate() {
        let low = bytes[4 + j / 2] >> (4 * (j % 2)) & 15;
        *scale = low | ((upper >> (2 * j) & 3) as u8) << 4;
    }
    scales
}
