//! Types without blocks: every value is stored separately. Knows no scales of other tensors.

use super::{EncodeError, check_finite};
use crate::float::{bf16_to_f32, f8_e4m3_to_f32, f8_e5m2_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// Writes each value with `put`.
#[inline(always)]
fn encode_each<const B: usize>(src: &[f32], out: &mut [u8], put: impl Fn(f32) -> [u8; B]) {
    let (out, over) = out.as_chunks_mut::<B>();
    assert!(over.is_empty() && src.len() == out.len(), "values and their bytes");
    for (bytes, &x) in out.iter_mut().zip(src) {
        *bytes = put(x);
    }
}

/// Reads each value with `get`.
#[inline(always)]
fn decode_each<const B: usize>(src: &[u8], out: &mut [f32], get: impl Fn([u8; B]) -> f32) {
    let (src, over) = src.as_chunks::<B>();
    assert!(over.is_empty() && src.len() == out.len(), "values and their bytes");
    for (x, bytes) in out.iter_mut().zip(src) {
        *x = get(*bytes);
    }
}

/// Refuses the first finite value that binary16 would round to infinity.
#[inline(always)]
fn check_f16_range(src: &[f32]) -> Result<(), EncodeError> {
    first_over(src, 0x477F_F000).map_or(Ok(()), |index| Err(EncodeError::F16Overflow { index }))
}

/// Refuses the first finite value that bfloat16 would round to infinity.
#[inline(always)]
fn check_bf16_range(src: &[f32]) -> Result<(), EncodeError> {
    first_over(src, 0x7F7F_8000).map_or(Ok(()), |index| Err(EncodeError::BF16Overflow { index }))
}

/// Index of the first finite value whose magnitude, as a bit pattern, is at least `least`.
#[inline(always)]
fn first_over(src: &[f32], least: u32) -> Option<usize> {
    let over = |x: &f32| (least..0x7F80_0000).contains(&(x.to_bits() & 0x7FFF_FFFF));
    for (n, chunk) in src.chunks(256).enumerate() {
        if chunk.iter().fold(false, |any, x| any | over(x)) {
            return Some(n * 256 + chunk.iter().position(over).unwrap_or(0));
        }
    }
    None
}

/// Refuses the first finite value of a binary64 source that became infinite when it was decoded to `values`.
#[inline(always)]
pub(super) fn check_f32_range(src: &[u8], values: &[f32]) -> Result<(), EncodeError> {
    let Err(EncodeError::NonFinite { .. }) = check_finite(values) else { return Ok(()) };
    let (source, _) = src.as_chunks::<8>();
    let overflowed =
        |(x, source): (&f32, &[u8; 8])| x.is_infinite() && f64::from_le_bytes(*source).is_finite();
    match values.iter().zip(source).position(overflowed) {
        Some(index) => Err(EncodeError::F32Overflow { index }),
        None => Ok(()),
    }
}

/// Stores the values unchanged, NaN and infinity included.
#[inline(always)]
pub(super) fn encode_f32(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_each(src, out, f32::to_le_bytes);
    Ok(())
}

/// Rounds to the nearest binary16. NaN and infinity are stored with ggml's bit patterns.
///
/// Refuses finite values beyond the range.
#[inline(always)]
pub(super) fn encode_f16(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    check_f16_range(src)?;
    encode_each(src, out, |x| f32_to_f16(x).to_le_bytes());
    Ok(())
}

/// Rounds to the nearest binary16. Refuses NaN, infinity and values beyond the range, whichever comes first.
#[inline(always)]
pub(super) fn encode_f16_finite(
    src: &[f32],
    weights: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    match (check_finite(src), check_f16_range(src)) {
        (Err(EncodeError::NonFinite { index }), Err(EncodeError::F16Overflow { index: over }))
            if over < index =>
        {
            Err(EncodeError::F16Overflow { index: over })
        }
        (Err(bad), _) => Err(bad),
        _ => encode_f16(src, weights, out),
    }
}

/// Rounds to the nearest bfloat16. NaN and infinity are stored with ggml's bit patterns.
///
/// Refuses finite values beyond the range.
#[inline(always)]
pub(super) fn encode_bf16(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    check_bf16_range(src)?;
    encode_each(src, out, |x| f32_to_bf16(x).to_le_bytes());
    Ok(())
}

/// Rounds binary64 to the nearest binary32; the only decoder that rounds.
///
/// Values beyond the range become infinite here and are refused by [`super::check_decoded`].
#[inline(always)]
pub(super) fn decode_f64(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |b| f64::from_le_bytes(b) as f32);
}

/// Reads binary32 values unchanged.
#[inline(always)]
pub(super) fn decode_f32(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, f32::from_le_bytes);
}

/// Widens binary16 values.
#[inline(always)]
pub(super) fn decode_f16(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |b| f16_to_f32(u16::from_le_bytes(b)));
}

/// Widens bfloat16 values.
#[inline(always)]
pub(super) fn decode_bf16(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |b| bf16_to_f32(u16::from_le_bytes(b)));
}

/// Widens E4M3 values, without the scale that a model may keep in another tensor.
#[inline(always)]
pub(super) fn decode_f8_e4m3(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |[b]| f8_e4m3_to_f32(b));
}

/// Widens E5M2 values, without the scale that a model may keep in another tensor.
#[inline(always)]
pub(super) fn decode_f8_e5m2(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |[b]| f8_e5m2_to_f32(b));
}
