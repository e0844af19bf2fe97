//! ggml's IQ2_XS: `f16 d`, 32 pairs of bytes, each nine bits of an entry of a grid of 512 for 8 values and seven of
//! signs (see [`even_signs`]), eight bytes of scales, a nibble for 16 values; `w = d * (scale + 1/2) / 4 * level`, where
//! a grid has the levels 8, 25 and 43. Knows nothing but its 74 bytes.

use super::block::{decode_all, read_field};
use super::grids::IQ2_XS;
use super::spread::{even_signs, put_iq2};
use super::wide::Values;

const BYTES: usize = 74;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        let parts = values.as_chunks_mut::<8>().0.iter_mut().zip(bytes[2..66].as_chunks::<2>().0);
        for (k, (out, &pair)) in parts.enumerate() {
            let pair = u16::from_le_bytes(pair);
            let scale = bytes[66 + k / 4] >> (4 * (k / 2 % 2)) & 15;
            let step = d * (0.5 + f32::from(scale)) * 0.25;
            put_iq2(out, IQ2_XS[usize::from(pair & 511)], step, even_signs((pair >> 9) as u8));
        }
    });
}
