//! ggml's IQ3_S: `f16 d`, 64 bytes, each the low bits of an entry of a grid of 512 for 4 values, eight bytes of the
//! entries' upper bits, 32 of signs, four of scales, a nibble for 32 values; `w = d * (2 * scale + 1) * level`, where a
//! grid has the eight odd levels up to 15. Knows nothing but its 110 bytes.

use super::block::{decode_all, read_field};
use super::grids::{IQ3_S, IQ3_S_LEVELS};
use super::spread::put_iq3;
use super::wide::Values;

const BYTES: usize = 110;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        let entries = bytes[2..66].as_chunks::<2>().0;
        for (k, (out, low)) in values.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
            let upper = bytes[66 + k / 4] >> (2 * (k % 4));
            let at = |low: u8, upper: u8| IQ3_S[usize::from(u16::from(upper & 1) << 8 | u16::from(low))];
            let scale = bytes[106 + k / 8] >> (4 * (k / 4 % 2)) & 15;
            let step = d * f32::from(2 * scale + 1);
            put_iq3(out, &IQ3_S_LEVELS, [at(low[0], upper), at(low[1], upper >> 1)], step, bytes[74 + k]);
        }
    });
}
