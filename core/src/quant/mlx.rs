//! MLX's affine mode: groups of 32, 64 or 128 values, codes of 2, 3, 4, 5, 6 or 8 bits, scale and bias.
//!
//! | bytes | content |
//! |---|---|
//! | `0..group * bits / 8` | codes: a stream of bits, the first code in the lowest bits of the first byte |
//! | then 2 or 4 | scale, in the float type of the weight |
//! | then 2 or 4 | bias |
//!
//! Dequantizes to `scale * q + bias`. The encoder is that of `mx.quantize` on a CPU (MLX 0.32), in binary32: the
//! value of the group that is farthest from zero is stored without error, and so is zero where the range allows it.
//! Codes are chosen with scale and bias before these are rounded to their type.

use super::{DecodeFn, EncodeError, EncodeFn, check_finite};
use crate::dtype::{MlxFloat, MlxType};
use crate::float::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// The most values of a group.
const MOST: usize = 128;

/// The least magnitude of a scale before it is fitted.
const LEAST_SCALE: f32 = 1e-7;

/// The encoder of a type, as a function of its own.
pub(super) fn encoder(of: MlxType) -> Option<EncodeFn> {
    ENCODERS.get(of.index()).copied()
}

/// The decoder of a type, as a function of its own.
pub(super) fn decoder(of: MlxType) -> Option<DecodeFn> {
    DECODERS.get(of.index()).copied()
}

macro_rules! functions {
    ($($index:literal)*) => {
        static ENCODERS: [EncodeFn; MlxType::COUNT] = [$(encode_nth::<$index>,)*];
        static DECODERS: [DecodeFn; MlxType::COUNT] = [$(decode_nth::<$index>,)*];
    };
}

functions! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26
    27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53
}

fn encode_nth<const N: usize>(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_plain(MlxType::nth(N).ok_or(EncodeError::NoCodec)?, src, out)
}

fn decode_nth<const N: usize>(src: &[u8], out: &mut [f32]) {
    if let Some(of) = MlxType::nth(N) {
        decode_plain(of, src, out);
    }
}

/// [`encode`], once for all functions above.
#[inline(never)]
fn encode_plain(of: MlxType, src: &[f32], out: &mut [u8]) -> Result<(), EncodeError> {
    encode(of, src, out)
}

/// [`decode`], once for all functions above.
#[inline(never)]
fn decode_plain(of: MlxType, src: &[u8], out: &mut [f32]) {
    decode(of, src, out);
}

/// Encodes whole groups.
///
/// Refuses NaN, infinity, and groups whose scale or bias its type cannot hold.
#[inline(always)]
pub(super) fn encode(of: MlxType, src: &[f32], out: &mut [u8]) -> Result<(), EncodeError> {
    match of.bits() {
        2 => encode_groups::<2>(of, src, out),
        3 => encode_groups::<3>(of, src, out),
        4 => encode_groups::<4>(of, src, out),
        5 => encode_groups::<5>(of, src, out),
        6 => encode_groups::<6>(of, src, out),
        _ => encode_groups::<8>(of, src, out),
    }
}

#[inline(always)]
fn encode_groups<const BITS: usize>(of: MlxType, src: &[f32], out: &mut [u8]) -> Result<(), EncodeError> {
    check_finite(src)?;
    let (group, codes) = (of.group() as usize, of.code_bytes() as usize);
    let float = (of.float().dtype().block_bytes()) as usize;
    assert!(
        src.len() / group * (codes + 2 * float) == out.len() && src.len().is_multiple_of(group),
        "blocks"
    );
    for (index, (values, block)) in
        src.chunks_exact(group).zip(out.chunks_exact_mut(codes + 2 * float)).enumerate()
    {
        let (bytes, fields) = block.split_at_mut(codes);
        let (scale, bias) = fit::<BITS>(values);
        let held = put(of.float(), scale, &mut fields[..float]) & put(of.float(), bias, &mut fields[float..]);
        if !held {
            return Err(overflow(of.float(), index * group + farthest(values)));
        }
        pack::<BITS>(values, scale, bias, bytes);
    }
    Ok(())
}

/// Scale and bias of a group.
#[inline(always)]
fn fit<const BITS: usize>(values: &[f32]) -> (f32, f32) {
    let steps = ((1_u32 << BITS) - 1) as f32;
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for eight in values.as_chunks::<8>().0 {
        for lane in 0..8 {
            low[lane] = if eight[lane] < low[lane] { eight[lane] } else { low[lane] };
            high[lane] = if eight[lane] > high[lane] { eight[lane] } else { high[lane] };
        }
    }
    let min = low.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a });
    let max = high.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let negative = min.abs() > max.abs();
    let range = (max - min) / steps;
    let size = if range < LEAST_SCALE { LEAST_SCALE } else { range };
    let (scale, edge) = if negative { (size, min) } else { (-size, max) };
    let at = libm::rintf(edge / scale);
    if at == 0.0 { (scale, 0.0) } else { (edge / at, edge) }
}

/// Packs the codes of a group.
#[inline(always)]
fn pack<const BITS: usize>(values: &[f32], scale: f32, bias: f32, out: &mut [u8]) {
    let most = ((1_u32 << BITS) - 1) as f32;
    let mut codes = [0_u8; MOST];
    for (code, &x) in codes.iter_mut().zip(values) {
        *code = nearest_code((x - bias) / scale, most);
    }
    // Eight codes fill as many bytes as they have bits.
    for (bytes, eight) in out.chunks_exact_mut(BITS).zip(codes.as_chunks::<8>().0) {
        let mut stream = 0_u64;
        for (k, &code) in eight.iter().enumerate() {
            stream |= u64::from(code) << (k * BITS);
        }
        bytes.copy_from_slice(&stream.to_le_bytes()[..BITS]);
    }
}

/// The code nearest to `x`, ties to even, within `0..=most`. NaN is 0.
#[inline(always)]
fn nearest_code(x: f32, most: f32) -> u8 {
    // Adding 1.5 * 2^23 rounds to an integer, ties to even; the clamp before it changes no result within the range.
    const ROUND: f32 = 12_582_912.0;
    let low = if x > 0.0 { x } else { 0.0 };
    let clamped = if low < most { low } else { most };
    ((clamped + ROUND) - ROUND) as u8
}

/// Writes a field; false if the value is too large for its type.
#[inline(always)]
fn put(float: MlxFloat, x: f32, out: &mut [u8]) -> bool {
    match float {
        MlxFloat::F32 => {
            out.copy_from_slice(&x.to_le_bytes());
            x.is_finite()
        }
        MlxFloat::F16 => {
            let bits = f32_to_f16(x);
            out.copy_from_slice(&bits.to_le_bytes());
            f16_to_f32(bits).is_finite()
        }
        MlxFloat::Bf16 => {
            let bits = f32_to_bf16(x);
            out.copy_from_slice(&bits.to_le_bytes());
            bf16_to_f32(bits).is_finite()
        }
    }
}

/// The refusal of a group whose scale or bias is too large.
#[cold]
fn overflow(float: MlxFloat, index: usize) -> EncodeError {
    match float {
        MlxFloat::F32 => EncodeError::F32Overflow { index },
        MlxFloat::F16 => EncodeError::F16Overflow { index },
        MlxFloat::Bf16 => EncodeError::BF16Overflow { index },
    }
}

/// The position of the value with the largest magnitude.
#[cold]
fn farthest(values: &[f32]) -> usize {
    let mut at = 0;
    for (index, x) in values.iter().enumerate() {
        if x.abs() > values[at].abs() {
            at = index;
        }
    }
    at
}

/// Decodes whole groups.
#[inline(always)]
pub(super) fn decode(of: MlxType, src: &[u8], out: &mut [f32]) {
    match of.bits() {
        2 => decode_groups::<2>(of, src, out),
        3 => decode_groups::<3>(of, src, out),
        4 => decode_groups::<4>(of, src, out),
        5 => decode_groups::<5>(of, src, out),
        6 => decode_groups::<6>(of, src, out),
        _ => decode_groups::<8>(of, src, out),
    }
}

#[inline(always)]
fn decode_groups<const BITS: usize>(of: MlxType, src: &[u8], out: &mut [f32]) {
    let (group, codes) = (of.group() as usize, of.code_bytes() as usize);
    let float = (of.float().dtype().block_bytes()) as usize;
    assert!(
        out.len() / group * (codes + 2 * float) == src.len() && out.len().is_multiple_of(group),
        "blocks"
    );
    for (values, block) in out.chunks_exact_mut(group).zip(src.chunks_exact(codes + 2 * float)) {
        let (bytes, fields) = block.split_at(codes);
        let (scale, bias) = (get(of.float(), &fields[..float]), get(of.float(), &fields[float..]));
        for (eight, bytes) in values.as_chunks_mut::<8>().0.iter_mut().zip(bytes.chunks_exact(BITS)) {
            let mut stream = [0; 8];
            stream[..BITS].copy_from_slice(bytes);
            let stream = u64::from_le_bytes(stream);
            for (k, x) in eight.iter_mut().enumerate() {
                let code = (stream >> (k * BITS)) as u32 & ((1 << BITS) - 1);
                *x = scale * code as f32 + bias;
            }
        }
    }
}

/// Reads a field.
#[inline(always)]
fn get(float: MlxFloat, bytes: &[u8]) -> f32 {
    match (float, bytes) {
        (MlxFloat::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (MlxFloat::F16, &[a, b]) => f16_to_f32(u16::from_le_bytes([a, b])),
        (MlxFloat::Bf16, &[a, b]) => bf16_to_f32(u16::from_le_bytes([a, b])),
        _ => f32::NAN,
    }
}
