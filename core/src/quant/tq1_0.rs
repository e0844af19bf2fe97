//! ggml's TQ1_0: 48 bytes of five ternary digits, four bytes of four, `f16 d`; `w = d * (digit - 1)`.
//! Knows nothing but its 54 bytes.
//!
//! A byte is the fraction `digits / 3^5`, rounded up, in 256ths: the first digit comes out by multiplying with 3
//! and looking above the byte, the next ones after multiplying what is left by 3 again.
//!
//! `quantize_row_tq1_0_ref`: `d = absmax`, digits `roundf(x * (1/d)) + 1` with the unrounded `1/d`. All zeros: `d = +0`,
//! digits 1. `1/d` infinite: digits 1 (undefined in C, 1 on x86).

use super::EncodeError;
use super::block::{Overflow, absmax, decode_all, encode_all, read_field, reciprocal, scale_field};
use super::super_block::{SuperBlockCodes, SuperBlockValues};
use crate::float::round_half_away;

const BYTES: usize = 54;

/// The stretches of bytes: where they begin, how many bytes, how many digits in each. Digit `n` of byte `m` is
/// the value `n * bytes + m` of the stretch.
const STRETCHES: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

#[inline(always)]
pub fn encode(src: &[f32], _: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_all(src, out, encode_block)
}

#[inline(always)]
fn encode_block(values: &SuperBlockValues, out: &mut [u8; BYTES]) -> Result<(), Overflow> {
    let d = absmax(values);
    let digits = digits(values, d);
    let mut rest: &[u8] = &digits;
    for (at, count, each) in STRETCHES {
        let (here, after) = rest.split_at(count * each);
        encode_stretch(here, &mut out[at..at + count]);
        rest = after;
    }
    out[52..].copy_from_slice(&scale_field(d, values)?);
    Ok(())
}

/// The values as 0, 1 and 2 for -1, 0 and 1 times `d`.
#[inline(always)]
pub(super) fn digits(values: &SuperBlockValues, d: f32) -> SuperBlockCodes {
    let id = reciprocal(d);
    match id.is_finite() {
        true => values.map(|x| (round_half_away(x * id) + 1) as u8),
        false => [1; 256],
    }
}

#[inline(always)]
fn encode_stretch(digits: &[u8], out: &mut [u8]) {
    let count = out.len();
    for (m, byte) in out.iter_mut().enumerate() {
        let digit = |n: usize| digits.get(n * count + m).map_or(0, |&d| u16::from(d));
        let number = (0..5).fold(0, |number, n| number * 3 + digit(n));
        *byte = (number * 256).div_ceil(243) as u8;
    }
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = read_field(bytes, 52);
    let mut rest: &mut [f32] = values;
    for (at, count, digits) in STRETCHES {
        let (here, after) = rest.split_at_mut(count * digits);
        decode_stretch(&bytes[at..at + count], d, here);
        rest = after;
    }
}

#[inline(always)]
fn decode_stretch(bytes: &[u8], d: f32, values: &mut [f32]) {
    let mut power = 1_u8;
    for row in values.chunks_mut(bytes.len()) {
        for (x, &byte) in row.iter_mut().zip(bytes) {
            let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
            *x = (f32::from(digit) - 1.0) * d;
        }
        power = power.wrapping_mul(3);
    }
}
