//! ggml's IQ2_XXS: `f16 d`, then for each 32 values four bytes, each an entry of a grid of 256 for 8 values, and four
//! bytes of signs (seven bits for 8 values, see [`even_signs`]) with the scale in their uppermost four bits;
//! `w = d * (scale + 1/2) / 4 * level`, where a grid has the levels 8, 25 and 43. Knows nothing but its 66 bytes.

use super::block::{decode_all, read_field};
use super::grids::IQ2_XXS;
use super::spread::{even_signs, put_iq2};
use super::wide::Values;

const BYTES: usize = 66;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        let parts = values.as_chunks_mut::<32>().0.iter_mut().zip(bytes[2..].as_chunks::<8>().0);
        for (values, &[a, b, c, e, s0, s1, s2, s3]) in parts {
            let word = u32::from_le_bytes([s0, s1, s2, s3]);
            let step = d * (0.5 + (word >> 28) as f32) * 0.25;
            for (k, (out, at)) in values.chunks_mut(8).zip([a, b, c, e]).enumerate() {
                put_iq2(out, IQ2_XXS[usize::from(at)], step, even_signs((word >> (7 * k)) as u8));
            }
        }
    });
}
