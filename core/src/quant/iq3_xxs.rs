//! ggml's IQ3_XXS: `f16 d`, 64 bytes, each an entry of a grid of 256 for 4 values, and for each 32 values four bytes of
//! signs (seven bits for 8 values, see [`even_signs`]) with the scale in their uppermost four bits;
//! `w = d * (scale + 1/2) / 2 * level`, where a grid has eight levels from 4 to 62. Knows nothing but its 98 bytes.
//!
//! `quantize_iq3_xxs`: without an importance row a value's weight is its square. Groups off the grid are placed anew
//! with the best scale, scales are shared out so that the greatest is 31/2 steps, and the `d` that is stored is
//! 1.0125 times theirs. All zeros: everything 0.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, share, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::{IQ3_XXS, IQ3_XXS_LEVELS};
use super::sign_grid::{even_signs, put_iq3};
use super::super_block::SuperBlockValues;

const BYTES: usize = 98;
const SEARCH: GridSearch<4, 2> = GridSearch {
    grid: &grid::IQ3_XXS,
    scales: ScaleCandidates { top: 15.0, step: 0.2, reach: 15 },
    again: RefitRule::OffGrid,
    least: 1e-8,
    even: true,
    first: None,
};

pub fn encode(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    encode_columns(src, importance, out, encode_block)
}

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
    let subs = SEARCH.all::<8, 4, 8, 32>(values, &weights)?;
    let Some((d, steps)) = share(subs.map(|s| s.scale), 15) else { return Ok(()) };
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

pub fn decode(src: &[u8], out: &mut [f32]) {
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
