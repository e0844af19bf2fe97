//! IQ3_XXS (ggml): groups of 4 weights on a grid of 256 points, 8 sub-blocks of 32 weights; 98 bytes, 3.0625
//! bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..66 | grid index of each group |
//! | 66..98 | a u32 of signs and scale for each sub-block |
//!
//! The u32 holds 7 sign bits for each 8 weights (see [`even_signs`]) and the scale in its upper 4 bits.
//!
//! Dequantizes to `d * (scale + 1/2) / 2 * level`, with eight levels from 4 to 62. Source: `block_iq3_xxs`.
//!
//! Encoder: `quantize_iq3_xxs`. Without importance weights the weight of a value is its square. Groups that
//! are not on the grid are placed again with the best scale. The largest scale becomes 31 half steps; the
//! stored `d` is 1.0125 times the fitted one. A super-block of zeros is 98 zero bytes.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, quantize_scales, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::{IQ3_XXS, IQ3_XXS_LEVELS};
use super::sign_grid::{even_signs, put_iq3};
use super::super_block::SuperBlockValues;

/// Bytes of a super-block.
const BYTES: usize = 98;
/// Parameters of the search.
const SEARCH: GridSearch<4, 2> = GridSearch {
    grid: &grid::IQ3_XXS,
    scales: ScaleCandidates { top: 15.0, step: 0.2, reach: 15 },
    refit: RefitRule::OffGrid,
    zero_threshold: 1e-8,
    even_signs: true,
    start_levels: None,
};

/// Encodes super-blocks, with or without the importance weights of their columns.
///
/// Refuses NaN, infinity, and values for which `d` exceeds binary16.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn encode(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_columns(src, importance, out, encode_block)
}

#[cfg_attr(target_arch = "wasm32", inline)]
fn encode_block(
    values: &SuperBlockValues,
    importance: Option<&SuperBlockValues>,
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    *out = [0; BYTES];
    let sigma2 = mean_square(values, 2.0)?;
    let weights = match importance {
        Some(importance) => weigh(values, importance, sigma2),
        None => values.map(|x| x * x),
    };
    let subs = SEARCH.search::<8, 4, 8, 32>(values, &weights)?;
    let Some((d, steps)) = quantize_scales(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d * 1.0125, values)?);
    for (j, (sub, step)) in subs.iter().zip(steps).enumerate() {
        let mut word = u32::from(step) << 28;
        for (k, &signs) in sub.signs.iter().enumerate() {
            word |= u32::from(signs & 127) << (7 * k);
        }
        out[66 + 4 * j..][..4].copy_from_slice(&word.to_le_bytes());
        for (byte, &point) in out[2 + 8 * j..].iter_mut().zip(&sub.points) {
            *byte = SEARCH.grid.index(point) as u8;
        }
    }
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_iq3_xxs`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        let words = bytes[66..].as_chunks::<4>().0;
        let entries = bytes[2..66].as_chunks::<2>().0;
        for (k, (out, at)) in values.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
            let word = u32::from_le_bytes(words[k / 4]);
            let step = d * (0.5 + (word >> 28) as f32) * 0.5;
            let signs = even_signs((word >> (7 * (k % 4))) as u8);
            put_iq3(out, &IQ3_XXS_LEVELS, at.map(|i| IQ3_XXS[usize::from(i)]), step, signs);
        }
    });
}
