//! ggml's IQ2_XXS: `f16 d`, then for each 32 values four bytes, each an entry of a grid of 256 for 8 values, and four
//! bytes of signs (seven bits for 8 values, see [`even_signs`]) with the scale in their uppermost four bits;
//! `w = d * (scale + 1/2) / 4 * level`, where a grid has the levels 8, 25 and 43. Knows nothing but its 66 bytes.
//!
//! `quantize_iq2_xxs`, which needs an importance row: the scales tried lie around that of a fit to four levels without
//! a grid, all groups are placed anew with the best one, and scales are shared out so that the greatest is 31/2
//! steps. All zeros: everything 0.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
use super::grid_block::{GridSearch, encode_columns, mean_square, share, weigh};
use super::grid_fit::{RefitRule, ScaleCandidates};
use super::grids::IQ2_XXS;
use super::scale_search::EPSILON;
use super::sign_grid::{even_signs, put_iq2};
use super::super_block::SuperBlockValues;

const BYTES: usize = 66;
const SEARCH: GridSearch<8, 4> = GridSearch {
    grid: &grid::IQ2_XXS,
    scales: ScaleCandidates { top: 5.0, step: 0.1, reach: 6 },
    again: RefitRule::All,
    least: EPSILON,
    even: true,
    first: Some(4),
};

pub fn encode(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError> {
    let Some(_) = importance else { return Err(EncodeError::NeedsImportance) };
    encode_columns(src, importance, out, encode_block)
}

fn encode_block(
    values: &SuperBlockValues,
    importance: Option<&SuperBlockValues>,
    out: &mut [u8; BYTES],
) -> Result<(), Overflow> {
    *out = [0; BYTES];
    let weights = weigh(values, importance.unwrap_or(&[0.0; 256]), mean_square(values, 1.0)?);
    let subs = SEARCH.all::<4, 4, 8, 16>(values, &weights)?;
    let Some((d, steps)) = share(subs.map(|s| s.scale), 15) else { return Ok(()) };
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

pub fn decode(src: &[u8], out: &mut [f32]) {
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
