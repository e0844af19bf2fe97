//! NVFP4 (NVIDIA, ggml): 64 E2M1 floats with an unsigned E4M3 scale for every 16; 36 bytes, 4.5 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | scales, unsigned E4M3 |
//! | 4..36 | codes: 8 bytes for each 16 weights, byte `j` holds code `j` (low nibble) and code `j + 8` |
//!
//! Dequantizes to `scale * float(q)` ([`E2M1`]). Source: `block_nvfp4`. The scale of the whole tensor, if a
//! model has one, is a separate tensor and not applied here.
//!
//! Encoder: `quantize_row_nvfp4_ref`. The scale is that of `absmax / 6`; from 256 on it is 448, so values
//! beyond 2688 are clipped. Codes are the nearest with the stored scale, of equally near ones the smaller
//! magnitude. A block of zeros is 36 zero bytes.

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all};
use super::codebook::{E2M1, nearest_e2m1};
use crate::float::{f32_to_ue4m3, ue4m3_to_f32};

/// Bytes of a block.
const BYTES: usize = 36;
/// Values of a block.
const LEN: usize = 64;

/// Encodes whole blocks. Refuses NaN and infinity.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &[f32; LEN], out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let (scales, packed) = out.split_at_mut(4);
    let parts = values.as_chunks::<16>().0.iter().zip(packed.as_chunks_mut::<8>().0);
    for ((values, packed), scale) in parts.zip(scales) {
        *scale = f32_to_ue4m3(absmax(values) / 6.0);
        let d = half(*scale);
        let (low, high) = values.split_at(8);
        for ((byte, &l), &h) in packed.iter_mut().zip(low).zip(high) {
            *byte = nearest_e2m1(l, d) | nearest_e2m1(h, d) << 4;
        }
    }
    Ok(())
}

/// Half the scale, since the levels of [`E2M1`] are doubled.
#[inline(always)]
fn half(scale: u8) -> f32 {
    ue4m3_to_f32(scale) * 0.5
}

/// Decodes whole blocks (`dequantize_row_nvfp4`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut [f32; LEN]) {
    let (scales, packed) = bytes.split_at(4);
    let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(packed.as_chunks::<8>().0);
    for ((values, packed), &scale) in parts.zip(scales) {
        let d = half(scale);
        let (low, high) = values.split_at_mut(8);
        for ((l, h), &byte) in low.iter_mut().zip(high).zip(packed) {
            *l = E2M1[usize::from(byte & 15)] * d;
            *h = E2M1[usize::from(byte >> 4)] * d;
        }
    }
}
