//! ggml's Q8_K: `f32 d`, 256 signed bytes, 16 sums of 16 codes; `w = d * q`. Activations are kept so while a model
//! runs; a file has none, and nothing here writes it. Knows nothing but its 292 bytes.

use super::block::decode_all;
use super::super_block::SuperBlockValues;

const BYTES: usize = 292;

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let d = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (x, &q) in values.iter_mut().zip(&bytes[4..260]) {
        *x = d * f32::from(q as i8);
    }
}
