//! IQ2_XS (ggml): groups of 8 weights on a grid of 512 points, 16 sub-blocks of 16 weights; 74 bytes, 2.3125
//! bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..66 | a u16 for each group: 9 bits of grid index, 7 sign bits (see [`even_signs`]) |
//! | 66..74 | 4-bit sub-block scales |
//!
//! Dequantizes to `d * (scale + 1/2) / 4 * level`, with the levels 8, 25 and 43. Source: `block_iq2_xs`.
//!
//! Encoder: `quantize_iq2_xs`; importance weights are required. Groups that are not on the grid are placed
//! again with the best scale. The largest scale becomes 31 half steps. A super-block of zeros is 74 zero
//! bytes.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, quantize_scales, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::IQ2_XS;
use super::scale_search::EPSILON;
use super::sign_grid::{even_signs, put_iq2};
use super::super_block::SuperBlockValues;

/// Bytes of a super-block.
const BYTES: usize = 74;
/// Parameters of the search.
const SEARCH: GridSearch<8, 4> = GridSearch {
    grid: &grid::IQ2_XS,
    scales: ScaleCandidates { top: 5.0, step: 0.1, reach: 9 },
    refit: RefitRule::OffGrid,
    zero_threshold: EPSILON,
    even_signs: true,
    start_levels: None,
};

/// Encodes super-blocks with the importance weights of their columns.
///
/// Refuses NaN, infinity, and values for which `d` exceeds binary16; requires importance weights.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn encode(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    let Some(_) = importance else { return Err(EncodeError::NeedsImportance) };
    encode_columns(src, importance, out, encode_block)
}

#[cfg_attr(target_arch = "wasm32", inline)]
fn encode_block(
    values: &SuperBlockValues,
    importance: Option<&SuperBlockValues>,
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    *out = [0; BYTES];
    let weights = weigh(values, importance.unwrap_or(&[0.0; 256]), mean_square(values, 1.0)?);
    let subs = SEARCH.search::<2, 2, 16, 20>(values, &weights)?;
    let Some((d, steps)) = quantize_scales(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d, values)?);
    let pairs = out[2..66].as_chunks_mut::<2>().0.as_chunks_mut::<2>().0;
    for (pairs, sub) in pairs.iter_mut().zip(subs) {
        for ((pair, point), signs) in pairs.iter_mut().zip(sub.points).zip(sub.signs) {
            *pair = (SEARCH.grid.index(point) | u16::from(signs) << 9).to_le_bytes();
        }
    }
    for (byte, [low, high]) in out[66..].iter_mut().zip(steps.as_chunks::<2>().0) {
        *byte = low | high << 4;
    }
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_iq2_xs`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        let parts = values.as_chunks_mut::<8>().0.iter_mut().zip(bytes[2..66].as_chunks::<2>().0);
        for (k, (out, &pair)) in parts.enumerate() {
            let pair = u16::from_le_bytes(pair);
            let scale = bytes[66 + k / 4] >> (4 * (k / 2 % 2)) & 15;
            let step = d * (0.5 + f32::from(scale)) * 0.25;
            put_iq2(out, IQ2_XS[usize::from(pair & 511)], step, even_signs((pair >> 9) as u8));
        }
    });
}
