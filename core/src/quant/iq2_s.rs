//! IQ2_S (ggml): groups of 8 weights on a grid of 1024 points, 16 sub-blocks of 16 weights; 82 bytes, 2.5625
//! bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..34 | low 8 bits of the grid index of each group |
//! | 34..66 | signs, a byte for each group |
//! | 66..74 | 2 upper bits of each index |
//! | 74..82 | 4-bit sub-block scales |
//!
//! Dequantizes to `d * (scale + 1/2) / 4 * level`, with the levels 8, 25 and 43. Source: `block_iq2_s`.
//!
//! Encoder: `quantize_iq2_s`. Without importance weights the weight of a value is its square plus half the
//! mean square of the super-block. Groups that are not on the grid are placed again with the best scale. The
//! largest scale becomes 31 half steps; the stored `d` is 0.9875 times the fitted one. A super-block of zeros
//! is 82 zero bytes.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, quantize_scales, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::IQ2_S;
use super::sign_grid::put_iq2;
use super::super_block::SuperBlockValues;

/// Bytes of a super-block.
const BYTES: usize = 82;
/// Parameters of the search.
const SEARCH: GridSearch<8, 4> = GridSearch {
    grid: &grid::IQ2_S,
    scales: ScaleCandidates { top: 5.0, step: 0.1, reach: 9 },
    refit: RefitRule::OffGrid,
    zero_threshold: 1e-8,
    even_signs: false,
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
        None => values.map(|x| 0.25 * sigma2 + x * x),
    };
    let subs = SEARCH.search::<2, 2, 16, 20>(values, &weights)?;
    for (j, sub) in subs.iter().enumerate() {
        for (k, &point) in sub.points.iter().enumerate() {
            let index = SEARCH.grid.index(point);
            out[2 + 2 * j + k] = index as u8;
            out[66 + j / 2] |= ((index >> 8) as u8) << (4 * (j % 2) + 2 * k);
        }
        out[34 + 2 * j..][..2].copy_from_slice(&sub.signs);
    }
    let Some((d, steps)) = quantize_scales(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d * 0.9875, values)?);
    for (byte, [low, high]) in out[74..].iter_mut().zip(steps.as_chunks::<2>().0) {
        *byte = low | high << 4;
    }
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_iq2_s`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let upper = u16::from(bytes[66 + k / 4] >> (2 * (k % 4)) & 3);
            let scale = bytes[74 + k / 4] >> (4 * (k / 2 % 2)) & 15;
            let step = d * (0.5 + f32::from(scale)) * 0.25;
            put_iq2(out, IQ2_S[usize::from(upper << 8 | u16::from(bytes[2 + k]))], step, bytes[34 + k]);
        }
    });
}
