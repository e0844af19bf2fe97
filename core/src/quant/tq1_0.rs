//! ggml's TQ1_0: 48 bytes of five ternary digits, four bytes of four, `f16 d`; `w = d * (digit - 1)`.
//! Knows nothing but its 54 bytes.
//!
//! A byte is the fraction `digits / 3^5`, rounded up, in 256ths: the first digit comes out by multiplying with 3
//! and looking above the byte, the next ones after multiplying what is left by 3 again.

use super::block::{decode_all, read_field};
use super::wide::Values;

const BYTES: usize = 54;

/// The stretches of bytes: where they begin, how many bytes, how many digits in each. Digit `n` of byte `m` is
/// the value `n * bytes + m` of the stretch.
const STRETCHES: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 52);
        let mut rest: &mut [f32] = values;
        for (at, count, digits) in STRETCHES {
            let (here, after) = rest.split_at_mut(count * digits);
            decode_stretch(&bytes[at..at + count], d, here);
            rest = after;
        }
    });
}

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
