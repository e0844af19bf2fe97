//! Q5_0 (ggml): 32 codes of 5 bits with one scale; 22 bytes, 5.5 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..6 | fifth bits, u32: bit `j` belongs to code `j` |
//! | 6..22 | low nibbles: byte `j` holds those of code `j` and code `j + 16` |
//!
//! Dequantizes to `d * (q - 16)`. Source: `block_q5_0`.
//!
//! Encoder: [`super::legacy_quants::encode_symmetric`] with 16 (`quantize_row_q5_0_ref`,
//! `quantize_row_q5_0_impl`).

use super::EncodeError;
use super::block::{
    BlockCodes, BlockValues, decode_all, fifth_bits, pack_halves, read_field, unpack_halves, with_fifth_bits,
};
use super::legacy_quants::encode_symmetric;
use super::scale_search::ScaleSearch;

/// Bytes of a block.
const BYTES: usize = 22;

/// Encodes whole blocks; with importance weights whole rows.
///
/// Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[inline(always)]
pub(super) fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    encode_symmetric::<16, BYTES, S>(searches, src, importance, out, write)
}

/// Packs a block.
#[inline(always)]
fn write(d: [u8; 2], q: &BlockCodes, out: &mut [u8; BYTES]) {
    out[..2].copy_from_slice(&d);
    out[2..6].copy_from_slice(&fifth_bits(q));
    out[6..].copy_from_slice(&pack_halves(q));
}

/// Decodes whole blocks (`dequantize_row_q5_0`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let d = read_field(bytes, 0);
    let q = with_fifth_bits(unpack_halves(&bytes[6..]), [bytes[2], bytes[3], bytes[4], bytes[5]]);
    for (x, &q) in values.iter_mut().zip(&q) {
        *x = f32::from(q as i8 - 16) * d;
    }
}
