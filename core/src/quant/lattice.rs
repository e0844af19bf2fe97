//! The lattice block (`.q4`, version 2): 32 codes of 4 bits with scale and bias; 20 bytes, 5 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `scale`, binary16 |
//! | 2..4 | `bias`, binary16 |
//! | 4..20 | codes: byte `b` holds code `2 b` (low nibble) and code `2 b + 1` |
//!
//! Dequantizes to `scale * q + bias`. Little-endian on every host (the original writes the order of its
//! host). Blocks run over the flattened tensor, so the last may be partial. Source: the encoder in
//! <https://github.com/ohdearquant/lattice>, with the rule for partial blocks fixed. The file around the
//! blocks belongs to [`crate::format`].
//!
//! Codes are computed in binary32 from the unrounded scale and minimum: multiplied by the reciprocal of the
//! scale, rounded with halves away from zero, limited to 0..=15.
//! - Asymmetric: minimum and maximum of the real values (the first of equal ones, so zeros keep their sign),
//!   `scale = (max - min) / 15`, `q = round((w - min) / scale)`, `bias = min`.
//! - Symmetric: `scale = max|w| / 7` of the real values, `q = round(w / scale) + 8`, `bias = -8 scale`.
//!
//! A scale below 1 that binary16 rounds to zero is replaced by 1, because loaders require a positive scale;
//! every code is then that of the bias, or of zero. A scale or bias that would be infinite in binary16 is
//! refused. Slots after the end of a partial block hold the code of 0.0: 8 if symmetric, the limited
//! `round((0 - min) / scale)` if asymmetric.

use super::block::{BlockValues, LEN, Overflow, absmax, extremes, field, larger_magnitude, read_field};
use super::{EncodeError, check_finite};
use crate::float::{f32_to_f16, round_half_away};

/// Bytes of a block.
pub(super) const BYTES: usize = 20;

/// Encodes blocks with scale and minimum.
///
/// Refuses NaN, infinity, and values for which scale or bias exceeds binary16.
#[inline(always)]
pub(super) fn encode_asym(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_flat(src, out, asym_block)
}

/// Encodes blocks around zero.
///
/// Refuses NaN, infinity, and values for which scale or bias exceeds binary16.
#[inline(always)]
pub(super) fn encode_sym(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_flat(src, out, sym_block)
}

/// Encodes the whole blocks, then the partial one, padded with zeros.
#[inline(always)]
fn encode_flat(
    src: &[f32],
    out: &mut [u8],
    encode: impl Fn(&BlockValues, usize, &mut [u8; BYTES]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    check_finite(src)?;
    let (blocks, tail) = src.as_chunks::<LEN>();
    let (out, over) = out.as_chunks_mut::<BYTES>();
    assert!(over.is_empty() && out.len() == src.len().div_ceil(LEN), "values and their blocks");
    let mut padded = [0.0; LEN];
    padded[..tail.len()].copy_from_slice(tail);
    let last = (!tail.is_empty()).then_some((&padded, tail.len()));
    let all = blocks.iter().map(|b| (b, LEN)).chain(last);
    for (n, ((values, real), bytes)) in all.zip(out).enumerate() {
        encode(values, real, bytes)
            .map_err(|Overflow(at)| EncodeError::F16Overflow { index: n * LEN + at })?;
    }
    Ok(())
}

/// The scale to use instead of `s`: 1 if binary16 would store 0.
#[inline(always)]
fn usable(s: f32) -> f32 {
    if s < 1.0 && f32_to_f16(s) == 0 { 1.0 } else { s }
}

/// Encodes a block of which the first `real` values belong to the tensor.
#[inline(always)]
fn asym_block(values: &BlockValues, real: usize, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let (min, max) = match values.get(..real) {
        // Padding with the first value leaves the extremes of the real values.
        Some(some) if real < LEN => {
            let mut filled = [values[0]; LEN];
            filled[..real].copy_from_slice(some);
            extremes(&filled)
        }
        _ => extremes(values),
    };
    let scale = usable((max - min) / 15.0);
    let inverse = 1.0 / scale;
    out[..2].copy_from_slice(&field(scale, &values[..real], larger_magnitude(min, max))?);
    out[2..4].copy_from_slice(&field(min, &values[..real], min)?);
    pack_pairs(values, &mut out[4..], |w| round_half_away((w - min) * inverse));
    Ok(())
}

/// Encodes a block of which the first `real` values belong to the tensor.
#[inline(always)]
fn sym_block(values: &BlockValues, real: usize, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let top = absmax(values);
    let scale = usable(top / 7.0);
    let inverse = 1.0 / scale;
    let culprit = if values[..real].contains(&top) { top } else { -top };
    out[..2].copy_from_slice(&field(scale, &values[..real], culprit)?);
    out[2..4].copy_from_slice(&field(-8.0 * scale, &values[..real], culprit)?);
    pack_pairs(values, &mut out[4..], |w| round_half_away(w * inverse) + 8);
    Ok(())
}

/// Writes the codes, limited to 0..=15, two neighbours in a byte.
#[inline(always)]
fn pack_pairs(values: &BlockValues, out: &mut [u8], code: impl Fn(f32) -> i32) {
    let mut codes = [0_u8; LEN];
    for (q, &w) in codes.iter_mut().zip(values) {
        *q = code(w).clamp(0, 15) as u8;
    }
    for (byte, [low, high]) in out.iter_mut().zip(codes.as_chunks::<2>().0) {
        *byte = low | (high << 4);
    }
}

/// The 32 codes in sixteen bytes.
#[inline(always)]
pub(super) fn unpack_pairs(packed: &[u8]) -> [u8; LEN] {
    let mut codes = [0; LEN];
    for (pair, &byte) in codes.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
        *pair = [byte & 15, byte >> 4];
    }
    codes
}

/// Decodes blocks; the last one may be partial.
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    let (src, over) = src.as_chunks::<BYTES>();
    assert!(over.is_empty() && src.len() == out.len().div_ceil(LEN), "blocks and their values");
    for (bytes, values) in src.iter().zip(out.chunks_mut(LEN)) {
        let (scale, bias) = (read_field(bytes, 0), read_field(bytes, 2));
        for (w, &code) in values.iter_mut().zip(&unpack_pairs(&bytes[4..])) {
            *w = f32::from(code) * scale + bias;
        }
    }
}
