//! ggml's IQ1_M: 32 bytes, each the low bits of an entry of the grid of [`IQ1_S`] for 8 values, 16 bytes with a nibble
//! for each (its three upper bits, and whether the shift is negative), and four pairs of bytes, each with four scales of
//! three bits for 16 values and four bits of an `f16 d`, the lowest first;
//! `w = d * (2 * scale + 1) * (level + shift)`, with the levels -1, 0, 1 and a shift of an eighth.
//! Knows nothing but its 56 bytes.

use super::block::decode_all;
use super::grids::IQ1_S;
use super::spread::put_iq1;
use super::wide::Values;
use crate::float::f16_to_f32;

const BYTES: usize = 56;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let word = |k: usize| u16::from_le_bytes([bytes[48 + 2 * k], bytes[49 + 2 * k]]);
        let words = [word(0), word(1), word(2), word(3)];
        let d = f16_to_f32((0..4).fold(0, |field, k| field | words[k] >> 12 << (4 * k)));
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let scale = words[k / 8] >> (3 * (k / 2 % 4)) & 7;
            let upper = u16::from(bytes[32 + k / 2] >> (4 * (k % 2)));
            let at = (upper & 7) << 8 | u16::from(bytes[k]);
            put_iq1(out, IQ1_S[usize::from(at)], d * f32::from(2 * scale + 1), upper & 8 != 0);
        }
    });
}
