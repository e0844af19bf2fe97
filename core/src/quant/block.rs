//! Shared code of the block types: iteration over blocks, extremes, reciprocals, and packing of 32 codes.
//!
//! The extremes equal those of ggml's sequential loops to the bit, in a form that vectorizes: first by lanes;
//! then ties (equal magnitudes of both signs, zeros of both signs) are resolved by index, as the sequential
//! loop resolves them. Knows no layout of a single type.

use super::{EncodeError, check_finite};
use crate::float::{f16_is_finite, f16_to_f32, f32_to_f16};

/// Values of a small block.
pub(super) const LEN: usize = 32;
/// Values of a small block.
pub(super) type BlockValues = [f32; LEN];
/// Codes of a small block, one per byte.
pub(super) type BlockCodes = [u8; LEN];

/// A binary16 field of the block would be infinite; holds the index of the value that causes it.
pub(super) struct Overflow(pub usize);

/// Encodes `src` block by block.
///
/// # Errors
///
/// [`EncodeError::NonFinite`] for NaN or infinity anywhere in `src`, then [`EncodeError::F16Overflow`] for
/// the first block with an [`Overflow`].
#[inline(always)]
pub(super) fn encode_all<const N: usize, const B: usize>(
    src: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; N], &mut [u8; B]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    check_finite(src)?;
    let (src, rest) = src.as_chunks::<N>();
    let (out, over) = out.as_chunks_mut::<B>();
    assert!(rest.is_empty() && over.is_empty() && src.len() == out.len(), "whole blocks and their bytes");
    for (n, (values, bytes)) in src.iter().zip(out).enumerate() {
        encode(values, bytes).map_err(|Overflow(at)| EncodeError::F16Overflow { index: n * N + at })?;
    }
    Ok(())
}

/// Decodes `src` block by block.
#[inline(always)]
pub(super) fn decode_all<const N: usize, const B: usize>(
    src: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let (src, rest) = src.as_chunks::<B>();
    let (out, over) = out.as_chunks_mut::<N>();
    assert!(rest.is_empty() && over.is_empty() && src.len() == out.len(), "whole blocks and their bytes");
    for (bytes, values) in src.iter().zip(out) {
        decode(bytes, values);
    }
}

/// Lanes of [`fold`].
const LANES: usize = 8;

/// Reduces a block by lanes, with an operation that does not depend on the order.
#[inline(always)]
fn fold<const N: usize>(values: &[f32; N], op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&values[..LANES]);
    for row in values.as_chunks::<LANES>().0 {
        for (lane, &x) in lanes.iter_mut().zip(row) {
            *lane = op(*lane, x);
        }
    }
    lanes.iter().copied().fold(lanes[0], op)
}

/// Smallest and largest value; of equal ones (zeros of both signs) the first.
#[inline(always)]
pub(super) fn extremes<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    let min = fold(values, |a, b| if b < a { b } else { a });
    let max = fold(values, |a, b| if b > a { b } else { a });
    // Only zeros can be equal and differ in their bits.
    let first = |v: f32| if v == 0.0 { values.iter().copied().find(|&x| x == 0.0).unwrap_or(v) } else { v };
    (first(min), first(max))
}

/// Whichever of minimum and maximum is farther from zero: the cause of a range that is too large.
#[inline(always)]
pub(super) fn larger_magnitude(min: f32, max: f32) -> f32 {
    if -min > max { min } else { max }
}

/// Largest magnitude.
#[inline(always)]
pub(super) fn absmax<const N: usize>(values: &[f32; N]) -> f32 {
    fold(values, |a, b| if b.abs() > a.abs() { b } else { a }).abs()
}

/// The value of largest magnitude, with its sign; of equal ones the first, and +0 for a block of zeros.
#[inline(always)]
pub(super) fn signed_absmax<const N: usize>(values: &[f32; N]) -> f32 {
    let (min, max) = extremes(values);
    if max > -min {
        max
    } else if max < -min {
        min
    } else if max == 0.0 {
        0.0
    } else {
        values.iter().copied().find(|x| x.abs() == max).unwrap_or(max)
    }
}

/// `1 / d`, or 0 for `d == 0`, so that every code becomes that of zero.
///
/// For `|d| <= 2^-128` the quotient is infinite, and converting the products to integers is undefined in C.
/// x86 code converts them to 0, so [`codes`] sets every code of such a block to 0.
#[inline(always)]
pub(super) fn reciprocal(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Codes of a block: `code(x)` truncated and limited to `0..=top`; all 0 if `id` is infinite.
#[inline(always)]
pub(super) fn codes(values: &BlockValues, id: f32, top: u8, code: impl Fn(f32) -> f32) -> BlockCodes {
    let mut out = [0; LEN];
    if id.is_finite() {
        for (q, &x) in out.iter_mut().zip(values) {
            *q = (code(x) as i32).clamp(0, i32::from(top)) as u8;
        }
    }
    out
}

/// Encodes `x` as binary16.
///
/// # Errors
///
/// [`Overflow`] with the index of `culprit` in `values` if the field would be infinite.
#[inline(always)]
pub(super) fn field(x: f32, values: &[f32], culprit: f32) -> Result<[u8; 2], Overflow> {
    let h = f32_to_f16(x);
    if f16_is_finite(h) {
        return Ok(h.to_le_bytes());
    }
    Err(Overflow(values.iter().position(|&v| v == culprit).unwrap_or(0)))
}

/// Encodes `x` as binary16.
///
/// # Errors
///
/// [`Overflow`] with the index of the value of largest magnitude if the field would be infinite.
#[inline(always)]
pub(super) fn scale_field<const N: usize>(x: f32, values: &[f32; N]) -> Result<[u8; 2], Overflow> {
    let h = f32_to_f16(x);
    // The value of largest magnitude is only searched for the error.
    if f16_is_finite(h) { Ok(h.to_le_bytes()) } else { field(x, values, signed_absmax(values)) }
}

/// Reads the binary16 at byte `at`.
#[inline(always)]
pub(super) fn read_field<const B: usize>(bytes: &[u8; B], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Packs codes as ggml does: byte `j` holds code `j` in the low nibble and code `j + 16` in the high one.
/// Higher bits are dropped.
#[inline(always)]
pub(super) fn pack_halves(codes: &BlockCodes) -> [u8; LEN / 2] {
    let (low, high) = codes.split_at(LEN / 2);
    let mut out = [0; LEN / 2];
    for ((byte, &l), &h) in out.iter_mut().zip(low).zip(high) {
        *byte = (l & 15) | (h << 4);
    }
    out
}

/// Inverse of [`pack_halves`] for codes of 4 bits; ignores bytes after the sixteenth.
#[inline(always)]
pub(super) fn unpack_halves(packed: &[u8]) -> BlockCodes {
    let mut out = [0; LEN];
    let (low, high) = out.split_at_mut(LEN / 2);
    for ((&byte, l), h) in packed.iter().zip(low).zip(high) {
        *l = byte & 15;
        *h = byte >> 4;
    }
    out
}

/// Fifth bits of the codes: bit `j` belongs to code `j`.
#[inline(always)]
pub(super) fn fifth_bits(codes: &BlockCodes) -> [u8; 4] {
    let mut bits = 0_u32;
    for (j, &q) in codes.iter().enumerate() {
        bits |= u32::from(q >> 4 & 1) << j;
    }
    bits.to_le_bytes()
}

/// Adds the fifth bits to codes of 4 bits; inverse of [`fifth_bits`].
#[inline(always)]
pub(super) fn with_fifth_bits(mut codes: BlockCodes, bits: [u8; 4]) -> BlockCodes {
    let bits = u32::from_le_bytes(bits);
    for (j, q) in codes.iter_mut().enumerate() {
        *q |= ((bits >> j & 1) as u8) << 4;
    }
    codes
}
