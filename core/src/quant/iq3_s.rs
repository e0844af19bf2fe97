//! IQ3_S (ggml): groups of 4 weights on a grid of 512 points, 8 sub-blocks of 32 weights; 110 bytes, 3.4375
//! bits per weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..66 | low 8 bits of the grid index of each group |
//! | 66..74 | upper bit of each index |
//! | 74..106 | signs, one bit for each weight |
//! | 106..110 | 4-bit sub-block scales |
//!
//! Dequantizes to `d * (2 * scale + 1) * level`, with the odd levels from 1 to 15. Source: `block_iq3_s`.
//!
//! Encoder: `quantize_iq3_s`. Without importance weights the weight of a value is its square. Unless the best
//! scale has all groups on the grid, all are placed again with it. The largest scale becomes 31 half steps;
//! the stored `d` is 1.033 times the fitted one. A super-block of zeros is 110 zero bytes.
//!
//! A sub-block of zeros among others reproduces a defect of ggml: the reference does not advance its output
//! pointers for it, so the low bits and signs of later sub-blocks are stored one sub-block too early, while
//! their upper bits and scales are not. Such a super-block decodes to wrong values, in ggml as here; the
//! bytes are the contract.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, quantize_scales, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::{IQ3_S, IQ3_S_LEVELS};
use super::sign_grid::put_iq3;
use super::super_block::SuperBlockValues;

/// Bytes of a super-block.
const BYTES: usize = 110;
/// Parameters of the search.
const SEARCH: GridSearch<4, 2> = GridSearch {
    grid: &grid::IQ3_S,
    scales: ScaleCandidates { top: 15.0, step: 0.2, reach: 9 },
    refit: RefitRule::AllUnlessOn,
    // Only sub-blocks of zeros are stored as zeros.
    zero_threshold: f32::from_bits(1),
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
        None => values.map(|x| x * x),
    };
    let subs = SEARCH.search::<8, 4, 8, 20>(values, &weights)?;
    let zeros = values.as_chunks::<32>().0.iter().map(|x| x.iter().all(|&x| x == 0.0));
    let nonzero = subs.iter().enumerate().zip(zeros).filter(|(_, zeros)| !zeros);
    // `place` falls behind `j` after a sub-block of zeros.
    for (place, ((j, sub), _)) in nonzero.enumerate() {
        for (k, &point) in sub.points.iter().enumerate() {
            let index = SEARCH.grid.index(point);
            out[2 + 8 * place + k] = index as u8;
            out[66 + j] |= ((index >> 8) as u8) << k;
        }
        out[74 + 4 * place..][..4].copy_from_slice(&sub.signs);
    }
    let Some((d, steps)) = quantize_scales(subs.map(|s| s.scale), 15) else { return Ok(()) };
    out[..2].copy_from_slice(&scale_field(d * 1.033, values)?);
    for (byte, [low, high]) in out[106..].iter_mut().zip(steps.as_chunks::<2>().0) {
        *byte = low | high << 4;
    }
    Ok(())
}

/// Decodes super-blocks (`dequantize_row_iq3_s`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        let entries = bytes[2..66].as_chunks::<2>().0;
        for (k, (out, low)) in values.as_chunks_mut::<8>().0.iter_mut().zip(entries).enumerate() {
            let upper = bytes[66 + k / 4] >> (2 * (k % 4));
            let at = |low: u8, upper: u8| IQ3_S[usize::from(u16::from(upper & 1) << 8 | u16::from(low))];
            let scale = bytes[106 + k / 8] >> (4 * (k / 4 % 2)) & 15;
            let step = d * f32::from(2 * scale + 1);
            put_iq3(out, &IQ3_S_LEVELS, [at(low[0], upper), at(low[1], upper >> 1)], step, bytes[74 + k]);
        }
    });
}
