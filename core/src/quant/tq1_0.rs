//! TQ1_0 (ggml): ternary digits, five in a byte, with one scale; 54 bytes, 1.6875 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | 160 digits: digit `n` of byte `m` belongs to weight `32 n + m` |
//! | 32..48 | 80 digits: digit `n` of byte `32 + m` belongs to weight `160 + 16 n + m` |
//! | 48..52 | 16 digits, four in a byte |
//! | 52..54 | `d`, binary16 |
//!
//! Dequantizes to `d * (digit - 1)`. Source: `block_tq1_0`. A byte is the fraction `number / 3^5` of its
//! digits in units of 1/256, rounded up: multiplying by 3 moves the first digit above the byte, and
//! multiplying the remainder by 3 the next one.
//!
//! Encoder: `quantize_row_tq1_0_ref`. `d = absmax`; digits are `roundf(x * (1/d)) + 1` with the unrounded
//! `1/d`. A super-block of zeros has `d = +0` and digits 1. If `1/d` is infinite, the digits are 1 (undefined
//! in C, 1 on x86).

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all, read_field, reciprocal, scale_field};
use super::super_block::{SuperBlockCodes, SuperBlockValues};
use crate::float::round_half_away;

/// Bytes of a super-block.
const BYTES: usize = 54;

/// Sections of the block: first byte, number of bytes, digits in a byte. Digit `n` of byte `m` is value `n *
/// bytes + m` of the section.
const SECTIONS: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

/// Encodes super-blocks. Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = absmax(values);
    let digits = digits(values, d);
    let mut rest: &[u8] = &digits;
    for (at, count, each) in SECTIONS {
        let (here, after) = rest.split_at(count * each);
        encode_section(here, &mut out[at..at + count]);
        rest = after;
    }
    out[52..].copy_from_slice(&scale_field(d, values)?);
    Ok(())
}

/// Ternary digits of the values: 0, 1 and 2 for -1, 0 and 1 times `d`.
#[inline(always)]
pub(super) fn digits(values: &SuperBlockValues, d: f32) -> SuperBlockCodes {
    let id = reciprocal(d);
    match id.is_finite() {
        true => values.map(|x| (round_half_away(x * id) + 1) as u8),
        false => [1; 256],
    }
}

/// Packs the digits of a section; missing fifth digits are 0.
#[inline(always)]
fn encode_section(digits: &[u8], out: &mut [u8]) {
    let count = out.len();
    for (m, byte) in out.iter_mut().enumerate() {
        let digit = |n: usize| digits.get(n * count + m).map_or(0, |&d| u16::from(d));
        let number = (0..5).fold(0, |number, n| number * 3 + digit(n));
        *byte = (number * 256).div_ceil(243) as u8;
    }
}

/// Decodes super-blocks (`dequantize_row_tq1_0`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 52);
    let mut rest: &mut [f32] = values;
    for (at, count, digits) in SECTIONS {
        let (here, after) = rest.split_at_mut(count * digits);
        decode_section(&bytes[at..at + count], d, here);
        rest = after;
    }
}

/// Dequantizes a section.
#[inline(always)]
fn decode_section(bytes: &[u8], d: f32, values: &mut [f32]) {
    let mut power = 1_u8;
    for row in values.chunks_mut(bytes.len()) {
        for (x, &byte) in row.iter_mut().zip(bytes) {
            let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
            *x = (f32::from(digit) - 1.0) * d;
        }
        power = power.wrapping_mul(3);
    }
}
