//! The native types of [aprender](https://github.com/paiml/aprender)'s APR files, read only.
//!
//! q4: 32 codes of 4 bits with one scale; 18 bytes, 4.5 bits per weight. Blocks run over the flattened tensor, so the last
//! may be partial; its unused codes are 0.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | codes: byte `b` holds code `2 b` (low nibble) and code `2 b + 1` |
//!
//! Dequantizes to `d * (q - 8)`, which is the formula of ggml's Q4_0 with the codes in another order. One of aprender's
//! two readers sets scales below 6.1e-5 to zero, which turns blocks of small weights to zeros; here they count, as in the
//! other reader.
//!
//! q8: one F32 scale for the whole tensor, then codes of 8 bits with a sign. The scale lies in front of the tensor, so that
//! the decoder here returns the codes, and [`crate::job`] multiplies them.

use super::block::{LEN, read_field};
use super::lattice::unpack_pairs;

/// Bytes of a q4 block.
const Q4_BYTES: usize = 18;

/// Decodes q4 blocks; the last one may be partial.
#[inline(always)]
pub(super) fn decode_q4(src: &[u8], out: &mut [f32]) {
    let (src, over) = src.as_chunks::<Q4_BYTES>();
    assert!(over.is_empty() && src.len() == out.len().div_ceil(LEN), "blocks and their values");
    for (bytes, values) in src.iter().zip(out.chunks_mut(LEN)) {
        let d = read_field(bytes, 0);
        for (w, &code) in values.iter_mut().zip(&unpack_pairs(&bytes[2..])) {
            *w = f32::from(code as i8 - 8) * d;
        }
    }
}

/// Decodes q8 codes, without their scale.
#[inline(always)]
pub(super) fn decode_q8(src: &[u8], out: &mut [f32]) {
    assert!(src.len() == out.len(), "codes and their values");
    for (w, &code) in out.iter_mut().zip(src) {
        *w = f32::from(code as i8);
    }
}
