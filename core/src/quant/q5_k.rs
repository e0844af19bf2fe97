//! Q5_K (ggml): codes of 5 bits, 8 sub-blocks of 32 weights with scale and minimum; 176 bytes, 5.5 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `dmin`, binary16 |
//! | 4..16 | 6-bit scales and minima, as in Q4_K |
//! | 16..48 | fifth bits (see [`pack_plane`]) |
//! | 48..176 | low nibbles: 32 bytes hold those of 32 codes and of the next 32 |
//!
//! Dequantizes to `d * scale * q - dmin * min`. Source: `block_q5_K`.
//!
//! Encoder: `quantize_row_q5_K_ref`, as [`super::q4_k`] with the top code 31 and 16 candidate scales.

use super::EncodeError;
use super::block::decode_all;
use super::q4_k::{decode_with_minimum, encode_with_header, write_scales};
use super::scale_search::{ScaleGrid, ScaleSearch};
use super::super_block::{SuperBlockValues, add_plane, pack_nibbles, pack_plane, unpack_nibbles};

/// Bytes of a super-block.
const BYTES: usize = 176;
/// Candidate scales without importance weights.
const GRID: ScaleGrid = ScaleGrid { top: 31, first: -0.5, step: 0.1, count: 15, absolute: false };

/// Encodes super-blocks, with or without the importance weights of their columns.
///
/// Refuses NaN, infinity, and values whose sums, `d` or `dmin` exceed their range.
#[inline(always)]
pub(super) fn encode<S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), EncodeError> {
    encode_with_header(
        searches,
        &GRID,
        src,
        importance,
        out,
        #[inline(always)]
        |found, values, out: &mut [u8; BYTES]| {
            let mut codes = [0; 256];
            write_scales(&found.clamped(), values, GRID.top, &mut codes, out)?;
            out[16..48].copy_from_slice(&pack_plane(&codes, 4));
            pack_nibbles::<32>(&codes, &mut out[48..]);
            Ok(())
        },
    )
}

/// Decodes super-blocks (`dequantize_row_q5_K`).
#[inline(always)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let mut codes = unpack_nibbles::<32>(&bytes[48..]);
    add_plane(&mut codes, &bytes[16..48], 4);
    decode_with_minimum(bytes, &codes, values);
}
