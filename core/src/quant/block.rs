//! What the block types share: walking blocks of any length, extremes, reciprocals, and the packing of 32 codes.
//!
//! Knows no layout of any one type. The scans give what ggml's sequential loops give, bit for bit, in a form
//! that the compiler vectorises: first by lanes, then the rare ties (equal magnitudes of both signs, zeros
//! of both signs) are settled by index as the sequential loop settles them.

use super::{EncodeError, check_finite};
use crate::float::{f16_is_finite, f16_to_f32, f32_to_f16};

/// Values in a small block.
pub const LEN: usize = 32;
/// The values of a small block.
pub type BlockValues = [f32; LEN];
/// The codes of a small block, one per byte.
pub type BlockCodes = [u8; LEN];

/// A header field would be infinite because of the value at this place in the block.
pub struct Overflow(pub usize);

/// Encodes block after block, after refusing NaN and infinity in all of `src`.
#[inline(always)]
pub fn encode_all<const N: usize, const B: usize>(
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

/// Decodes block after block.
#[inline(always)]
pub fn decode_all<const N: usize, const B: usize>(
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

const LANES: usize = 8;

/// Folds the block by lanes with an operation whose order does not matter.
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

/// Least and greatest value; zeros of both signs count as equal, and the first of equals is it.
#[inline(always)]
pub fn extremes<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    let min = fold(values, |a, b| if b < a { b } else { a });
    let max = fold(values, |a, b| if b > a { b } else { a });
    // Only zeros are equal without being the same.
    let first = |v: f32| if v == 0.0 { values.iter().copied().find(|&x| x == 0.0).unwrap_or(v) } else { v };
    (first(min), first(max))
}

/// Which of the extremes is to blame for a range that is too large: the one farther from zero.
#[inline(always)]
pub fn larger_magnitude(min: f32, max: f32) -> f32 {
    if -min > max { min } else { max }
}

/// The greatest magnitude.
#[inline(always)]
pub fn absmax<const N: usize>(values: &[f32; N]) -> f32 {
    fold(values, |a, b| if b.abs() > a.abs() { b } else { a }).abs()
}

/// The value of greatest magnitude with its sign; the first of equals, and +0 for a block of zeros.
#[inline(always)]
pub fn signed_absmax<const N: usize>(values: &[f32; N]) -> f32 {
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

/// `1 / d`, and 0 for `d == 0`: then every code is that of zero.
///
/// For `|d| <= 2^-128` the quotient is infinite and C's cast of the products is undefined; what x86 code
/// makes of them is 0, so [`codes`] pins every code of such a block to 0.
#[inline(always)]
pub fn reciprocal(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The codes of a block: `code(x)` truncated, at most `top`; all 0 where `id` is infinite.
#[inline(always)]
pub fn codes(values: &BlockValues, id: f32, top: u8, code: impl Fn(f32) -> f32) -> BlockCodes {
    let mut out = [0; LEN];
    if id.is_finite() {
        for (q, &x) in out.iter_mut().zip(values) {
            *q = (code(x) as i32).clamp(0, i32::from(top)) as u8;
        }
    }
    out
}

/// The binary16 of `x`, or the place of `culprit` in the block where that would be infinite.
#[inline(always)]
pub fn field(x: f32, values: &[f32], culprit: f32) -> Result<[u8; 2], Overflow> {
    let h = f32_to_f16(x);
    if f16_is_finite(h) {
        return Ok(h.to_le_bytes());
    }
    Err(Overflow(values.iter().position(|&v| v == culprit).unwrap_or(0)))
}

/// The binary16 of `x`, or the place of the loudest value of the block where that would be infinite.
#[inline(always)]
pub fn scale_field<const N: usize>(x: f32, values: &[f32; N]) -> Result<[u8; 2], Overflow> {
    let h = f32_to_f16(x);
    // The loudest value is looked for only to be named.
    if f16_is_finite(h) { Ok(h.to_le_bytes()) } else { field(x, values, signed_absmax(values)) }
}

/// The binary16 at `at`, widened.
#[inline(always)]
pub fn read_field<const B: usize>(bytes: &[u8; B], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// ggml's nibbles: byte `j` holds code `j` low and code `j + 16` high; bits above the fourth are left out.
#[inline(always)]
pub fn pack_halves(codes: &BlockCodes) -> [u8; LEN / 2] {
    let (low, high) = codes.split_at(LEN / 2);
    let mut out = [0; LEN / 2];
    for ((byte, &l), &h) in out.iter_mut().zip(low).zip(high) {
        *byte = (l & 15) | (h << 4);
    }
    out
}

/// The inverse of [`pack_halves`], for codes of four bits; ignores bytes past the sixteenth.
#[inline(always)]
pub fn unpack_halves(packed: &[u8]) -> BlockCodes {
    let mut out = [0; LEN];
    let (low, high) = out.split_at_mut(LEN / 2);
    for ((&byte, l), h) in packed.iter().zip(low).zip(high) {
        *l = byte & 15;
        *h = byte >> 4;
    }
    out
}

/// The fifth bits of the codes, bit `j` for code `j`.
#[inline(always)]
pub fn fifth_bits(codes: &BlockCodes) -> [u8; 4] {
    let mut bits = 0_u32;
    for (j, &q) in codes.iter().enumerate() {
        bits |= u32::from(q >> 4 & 1) << j;
    }
    bits.to_le_bytes()
}

/// Puts the fifth bits back.
#[inline(always)]
pub fn with_fifth_bits(mut codes: BlockCodes, bits: [u8; 4]) -> BlockCodes {
    let bits = u32::from_le_bytes(bits);
    for (j, q) in codes.iter_mut().enumerate() {
        *q |= ((bits >> j & 1) as u8) << 4;
    }
    codes
}
