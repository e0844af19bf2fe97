//! ggml's IQ2_S: `f16 d`, 32 bytes, each the low bits of an entry of a grid of 1024 for 8 values, 32 bytes of signs,
//! eight of the entries' two upper bits, eight of scales, a nibble for 16 values;
//! `w = d * (scale + 1/2) / 4 * level`, where a grid has the levels 8, 25 and 43. Knows nothing but its 82 bytes.

use super::block::{decode_all, read_field};
use super::grids::IQ2_S;
use super::spread::put_iq2;
use super::wide::Values;

const BYTES: usize = 82;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 0);
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let upper = u16::from(bytes[66 + k / 4] >> (2 * (k % 4)) & 3);
            let scale = bytes[74 + k / 4] >> (4 * (k / 2 % 2)) & 15;
            let step = d * (0.5 + f32::from(scale)) * 0.25;
            put_iq2(out, IQ2_S[usize::from(upper << 8 | u16::from(bytes[2 + k]))], step, bytes[34 + k]);
        }
    });
}
