//! ggml's Q3_K: 32 bytes of upper bits, 64 bytes of two-bit codes, twelve bytes of 16 scales, `f16 d`;
//! `w = d * (scale - 32) * (q - 4)`, one scale for 16 values. Knows nothing but its 110 bytes.

use super::block::{decode_all, read_field};
use super::six_bits::unpack_sixteen;
use super::wide::{Values, add_plane, unpack_quarters};

const BYTES: usize = 110;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        let d = read_field(bytes, 108);
        let mut codes = unpack_quarters(&bytes[32..96]);
        add_plane(&mut codes, &bytes[..32], 2);
        let mut packed = [0; 12];
        packed.copy_from_slice(&bytes[96..108]);
        let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0);
        for ((values, codes), scale) in parts.zip(unpack_sixteen(packed)) {
            let d = d * f32::from(scale as i8 - 32);
            for (x, &q) in values.iter_mut().zip(codes) {
                *x = d * f32::from(q as i8 - 4);
            }
        }
    });
}
