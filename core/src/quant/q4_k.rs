//! ggml's Q4_K: `f16 d`, `f16 dmin`, twelve bytes of 8 scales and 8 minima, 128 bytes of nibbles;
//! `w = d * scale * q - dmin * min`, one scale and minimum for 32 values. Knows nothing but its 144 bytes.

use super::block::{decode_all, read_field};
use super::six_bits;
use super::wide::{Codes, Values, unpack_nibbles};

const BYTES: usize = 144;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut Values| {
        decode_with_minimum(bytes, &unpack_nibbles::<32>(&bytes[16..]), values);
    });
}

/// The values of codes under the sixteen bytes of header that Q4_K and Q5_K have in common.
pub(super) fn decode_with_minimum<const B: usize>(bytes: &[u8; B], codes: &Codes, values: &mut Values) {
    let (d, dmin) = (read_field(bytes, 0), read_field(bytes, 2));
    let mut packed = [0; six_bits::BYTES];
    packed.copy_from_slice(&bytes[4..16]);
    let (scales, mins) = six_bits::unpack_pairs(packed);
    let parts = values.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0);
    for ((values, codes), (scale, min)) in parts.zip(scales.into_iter().zip(mins)) {
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        for (x, &q) in values.iter_mut().zip(codes) {
            *x = d * f32::from(q) - m;
        }
    }
}
