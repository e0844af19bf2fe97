//! ggml's NVFP4: four unsigned E4M3 scales, 64 E2M1 floats; `w = scale * float(q)`, one scale for 16 values.
//! The tensor's own scale, where a model has one, is another tensor. Knows nothing but its 36 bytes.

use super::block::decode_all;
use super::codebook::E2M1;

const BYTES: usize = 36;
/// Values in a block.
const LEN: usize = 64;

pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut [f32; LEN]| {
        let (scales, packed) = bytes.split_at(4);
        let parts = values.as_chunks_mut::<16>().0.iter_mut().zip(packed.as_chunks::<8>().0);
        for ((values, packed), &scale) in parts.zip(scales) {
            let d = half_scale(scale);
            let (low, high) = values.split_at_mut(8);
            for ((l, h), &byte) in low.iter_mut().zip(high).zip(packed) {
                *l = E2M1[usize::from(byte & 15)] * d;
                *h = E2M1[usize::from(byte >> 4)] * d;
            }
        }
    });
}

/// Half the scale, for levels that are doubled. ggml reads the four exponent bits as always finite, the sign bit
/// as nothing, and 0x7F (which E4M3 calls NaN) as 0.
fn half_scale(b: u8) -> f32 {
    if b == 0x7F {
        return 0.0;
    }
    // Read in binary32's fields the value is 2^-120 too small, and 2^119 leaves its half; the product is exact.
    f32::from_bits(u32::from(b & 0x7F) << 20) * f32::from_bits(0x7B00_0000)
}
