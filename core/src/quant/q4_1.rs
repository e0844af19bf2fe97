//! Q4_1 (ggml): 32 codes of 4 bits with scale and minimum; 20 bytes, 5 bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `m`, binary16 |
//! | 4..20 | codes: byte `j` holds code `j` (low nibble) and code `j + 16` |
//!
//! Dequantizes to `d * q + m`. Source: `block_q4_1`.
//!
//! Encoder: [`super::legacy_quants::encode_asymmetric`] with 15 (`quantize_row_q4_1_ref`,
//! `quantize_row_q4_1_impl`).

use super::EncodeError;
use super::block::{BlockCodes, BlockValues, decode_all, pack_halves, read_field, unpack_halves};
use super::legacy_quants::encode_asymmetric;
use super::scale_search::ScaleSearch;

/// Bytes of a block.
const BYTES: usize = 20;

/// Encodes whole blocks; with importance weights whole rows.
///
/// Refuses NaN, infinity, and values for which `d` or `m` exceeds binary16.
#[inline(always)]
pub(super) fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    encode_asymmetric::<15, BYTES, S>(searches, src, importance, out, write)
}

/// Packs a block.
#[inline(always)]
fn write(d: [u8; 2], m: [u8; 2], q: &BlockCodes, out: &mut [u8; BYTES]) {
    out[..2].copy_from_slice(&d);
    out[2..4].copy_from_slice(&m);
    out[4..].copy_from_slice(&pack_halves(q));
}

/// Decodes whole blocks (`dequantize_row_q4_1`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut BlockValues) {
    let (d, m) = (read_field(bytes, 0), read_field(bytes, 2));
    for (x, &q) in values.iter_mut().zip(&unpack_halves(&bytes[4..])) {
        *x = f32::from(q) * d + m;
    }
}
