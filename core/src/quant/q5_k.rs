//! ggml's Q5_K: `f16 d`, `f16 dmin`, twelve bytes of 8 scales and 8 minima, 32 bytes of fifth bits, 128 bytes of
//! nibbles; `w = d * scale * q - dmin * min`, one scale and minimum for 32 values. Knows nothing but its 176 bytes.
//!
//! `quantize_row_q5_K_ref`: as [`super::q4_k`], with 31 for the top code and 16 candidate grids.

use super::EncodeError;
use super::block::decode_all;
use super::q4_k::{decode_with_minimum, encode_with_header, write_scales};
use super::scale_search::{ScaleGrid, ScaleSearch};
use super::super_block::{SuperBlockValues, add_plane, pack_nibbles, pack_plane, unpack_nibbles};

const BYTES: usize = 176;
const GRID: ScaleGrid = ScaleGrid { top: 31, first: -0.5, step: 0.1, count: 15, absolute: false };

#[inline(always)]
pub fn encode<S: ScaleSearch>(
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
            write_scales(&found.limited(), values, GRID.top, &mut codes, out)?;
            out[16..48].copy_from_slice(&pack_plane(&codes, 4));
            pack_nibbles::<32>(&codes, &mut out[48..]);
            Ok(())
        },
    )
}

#[inline(always)]
pub fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, decode_block);
}

#[inline(always)]
fn decode_block(bytes: &[u8; BYTES], values: &mut SuperBlockValues) {
    let mut codes = unpack_nibbles::<32>(&bytes[48..]);
    add_plane(&mut codes, &bytes[16..48], 4);
    decode_with_minimum(bytes, &codes, values);
}
