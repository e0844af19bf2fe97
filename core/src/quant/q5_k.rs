//! ggml's Q5_K: `f16 d`, `f16 dmin`, twelve bytes of 8 scales and 8 minima, 32 bytes of fifth bits, 128 bytes of
//! nibbles; `w = d * scale * q - dmin * min`, one scale and minimum for 32 values. Knows nothing but its 176 bytes.

use super::block::decode_all;
use super::q4_k::decode_with_minimum;
use super::wide::{Values, add_plane, unpack_nibbles};

const BYTES: usize = 176;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let mut codes = unpack_nibbles::<32>(&bytes[48..]);
        add_plane(&mut codes, &bytes[16..48], 4);
        decode_with_minimum(bytes, &codes, values);
    });
}
