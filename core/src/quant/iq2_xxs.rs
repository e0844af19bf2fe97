//! IQ2_XXS (ggml): groups of 8 weights on a grid of 256 points, 8 sub-blocks of 32 weights; 66 bytes, 2.0625
//! bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..66 | for each sub-block four grid indices, then a u32 of signs and scale |
//!
//! The u32 holds 7 sign bits for each group (see [`even_signs`]) and the scale in its upper 4 bits.
//!
//! Dequantizes to `d * (scale + 1/2) / 4 * level`, with the levels 8, 25 and 43. Source: `block_iq2_xxs`.
//!
//! Encoder: `quantize_iq2_xxs`; importance weights are required. Candidate scales lie around that of a fit to
//! four levels without a grid ([`super::positive_scale`]). All groups are placed again with the best scale.
//! The largest scale becomes 31 half steps. A super-block of zeros is 66 zero bytes.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, quantize_scales, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::IQ2_XXS;
use super::scale_search::EPSILON;
use super::sign_grid::{even_signs, put_iq2};
use super::super_block::SuperBlockValues;

/// Bytes of a super-block.
const BYTES: usize = 66;
/// Parameters of the search.
const SEARCH: GridSearch<8, 4> = GridSearch {
    grid: &grid::IQ2_XXS,
    scales: ScaleCandidates { top: 5.0, step: 0.1, reach: 6 },
    refit: RefitRule::All,
    zero_threshold: EPSILON,
    even_signs: true,
    start_levels: Some(4),
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
    let subs = SEARCH.search::<4, 4, 8, 16>(values, &weights)?;
    let Some((d, steps)) = quantize_scales(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d, values)?);
    for ((bytes, sub), step) in out[2..].as_chunks_mut::<8>().0.iter_mut().zip(subs).zip(steps) {
        let mut word = u32::from(step) << 28;
        for (k, (point, signs)) in sub.points.into_iter().zip(sub.signs).enumerate() {
            bytes[k] = SEARCH.grid.index(point) as u8;
            word |= u32::from(signs & 127) << (7 * k);
        }
        bytes[4..].copy_from_slice(&word.to_le_bytes());
    }
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_iq2_xxs`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        let parts = bytes[2..].as_chunks::<8>().0;
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let part = &parts[k / 4];
            let word = u32::from_le_bytes([part[4], part[5], part[6], part[7]]);
            let step = d * (0.5 + (word >> 28) as f32) * 0.25;
            put_iq2(out, IQ2_XXS[usize::from(part[k % 4])], step, even_signs((word >> (7 * (k % 4))) as u8));
        }
    });
}
