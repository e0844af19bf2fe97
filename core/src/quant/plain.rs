//! Types without blocks: each value on its own. Knows nothing of what the values mean.

use super::{Refused, check_finite};
use crate::float::{bf16_to_f32, f8_e4m3_to_f32, f8_e5m2_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// Writes each value by `put`.
#[inline(always)]
fn encode_each<const B: usize>(src: &[f32], out: &mut [u8], put: impl Fn(f32) -> [u8; B]) {
    let (out, over) = out.as_chunks_mut::<B>();
    assert!(over.is_empty() && src.len() == out.len(), "values and their bytes");
    for (bytes, &x) in out.iter_mut().zip(src) {
        *bytes = put(x);
    }
}

/// Reads each value by `get`.
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
fn check_f16_range(src: &[f32]) -> Result<(), Refused> {
    let over = |x: &f32| (0x477F_F000..0x7F80_0000).contains(&(x.to_bits() & 0x7FFF_FFFF));
    for (n, stretch) in src.chunks(256).enumerate() {
        if stretch.iter().fold(false, |any, x| any | over(x)) {
            let within = stretch.iter().position(over).unwrap_or(0);
            return Err(Refused::F16Overflow { index: n * 256 + within });
        }
    }
    Ok(())
}

/// As it is; NaN and infinity pass.
#[inline(always)]
pub fn encode_f32(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_each(src, out, f32::to_le_bytes);
    Ok(())
}

/// Nearest; NaN and infinity pass with ggml's patterns, a finite value never becomes infinite.
#[inline(always)]
pub fn encode_f16(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    check_f16_range(src)?;
    encode_each(src, out, |x| f32_to_f16(x).to_le_bytes());
    Ok(())
}

/// As [`encode_f16`], with NaN and infinity refused; what stands first is named.
#[inline(always)]
pub fn encode_f16_finite(src: &[f32], weights: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    match (check_finite(src), check_f16_range(src)) {
        (Err(Refused::NonFinite { index }), Err(Refused::F16Overflow { index: over })) if over < index => {
            Err(Refused::F16Overflow { index: over })
        }
        (Err(bad), _) => Err(bad),
        _ => encode_f16(src, weights, out),
    }
}

/// Nearest; NaN and infinity pass with ggml's patterns, as do the few values that round to infinity.
#[inline(always)]
pub fn encode_bf16(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), Refused> {
    encode_each(src, out, |x| f32_to_bf16(x).to_le_bytes());
    Ok(())
}

/// Nearest; the only decoder that rounds.
#[inline(always)]
pub fn decode_f64(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |b| f64::from_le_bytes(b) as f32);
}

/// As it is.
#[inline(always)]
pub fn decode_f32(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, f32::from_le_bytes);
}

/// Widened.
#[inline(always)]
pub fn decode_f16(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |b| f16_to_f32(u16::from_le_bytes(b)));
}

/// Widened.
#[inline(always)]
pub fn decode_bf16(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |b| bf16_to_f32(u16::from_le_bytes(b)));
}

/// Widened, without any scale that a model keeps in another tensor.
#[inline(always)]
pub fn decode_f8_e4m3(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |[b]| f8_e4m3_to_f32(b));
}

/// Widened, without any scale that a model keeps in another tensor.
#[inline(always)]
pub fn decode_f8_e5m2(src: &[u8], out: &mut [f32]) {
    decode_each(src, out, |[b]| f8_e5m2_to_f32(b));
}
