//! ggml's IQ3_XXS: `f16 d`, 64 bytes, each an entry of a grid of 256 for 4 values, and for each 32 values four bytes of
//! signs (seven bits for 8 values, see [`even_signs`]) with the scale in their uppermost four bits;
//! `w = d * (scale + 1/2) / 2 * level`, where a grid has eight levels from 4 to 62. Knows nothing but its 98 bytes.

use super::block::{decode_all, read_field};
use super::grids::{IQ3_XXS, IQ3_XXS_LEVELS};
use super::spread::{even_signs, put_iq3};
use super::wide::Values;

const BYTES: usize = 98;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        let words = bytes[66..].as_chunks::<4>().0;
        let entries = bytes[2..66].as_chunks::<2>().0;
        for (k, (out, at)) in values.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
            let word = u32::from_le_bytes(words[k / 4]);
            let step = d * (0.5 + (word >> 28) as f32) * 0.5;
            let signs = even_signs((word >> (7 * (k % 4))) as u8);
            put_iq3(out, &IQ3_XXS_LEVELS, at.map(|i| IQ3_XXS[usize::from(i)]), step, signs);
        }
    });
}
