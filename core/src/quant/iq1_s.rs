//! ggml's IQ1_S: `f16 d`, 32 bytes, each the low bits of an entry of a grid of 2048 for 8 values, and for each 32 values
//! two bytes: three upper bits of its four entries, three of the scale, and whether the shift is negative;
//! `w = d * (2 * scale + 1) * (level + shift)`, with the levels -1, 0, 1 and a shift of an eighth.
//! Knows nothing but its 50 bytes.

use super::block::{decode_all, read_field};
use super::grids::IQ1_S;
use super::spread::put_iq1;
use super::wide::Values;

const BYTES: usize = 50;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        let pairs = bytes[34..].as_chunks::<2>().0;
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let pair = u16::from_le_bytes(pairs[k / 4]);
            let step = d * f32::from(2 * (pair >> 12 & 7) + 1);
            let at = (pair >> (3 * (k % 4)) & 7) << 8 | u16::from(bytes[2 + k]);
            put_iq1(out, IQ1_S[usize::from(at)], step, pair >> 15 == 1);
        }
    });
}
