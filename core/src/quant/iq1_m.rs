//! IQ1_M (ggml): groups of 8 weights on a ternary grid, 16 sub-blocks of 16 weights; 56 bytes, 1.75 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..32 | low 8 bits of the grid index of each group |
//! | 32..48 | a nibble for each group: 3 upper bits of the index, then the sign of the shift |
//! | 48..56 | four u16: four 3-bit sub-block scales and 4 bits of `d` (binary16, lowest bits first) |
//!
//! Dequantizes to `d * (2 * scale + 1) * (level + shift)`, with the levels -1, 0 and 1 of the grid [`IQ1_S`]
//! and a shift of 1/8 or -1/8. Source: `block_iq1_m`.
//!
//! Encoder: `quantize_iq1_m`; importance weights are required, as for IQ1_S. Each sub-block is split into
//! three levels with a shift for each group of eight, and the groups are placed on the grid. The largest
//! scale becomes 15 half steps. The stored `d` is 1.1125 times the least-squares fit of the whole
//! super-block. A super-block of zeros is 56 zero bytes.

use super::EncodeError;
use super::block::{Overflow, decode_all, scale_field};
use super::grid;
use super::grid::GridPoint;
use super::grid_block::{encode_columns, mean_square, quantize_scales, weigh};
use super::grids::IQ1_S;
use super::iq1_search::{
    LEVELS, STEP, TernarySplit, TernarySums, add_sums, best_split, border_slot, chunk, levels, order,
    place_group, values as entry_values,
};
use super::nearest_grid_point::NeighbourLines;
use super::sign_grid::put_iq1;
use super::super_block::SuperBlockValues;
use super::super_block_encode::overflow_at_absmax;
use crate::float::f16_to_f32;

/// Bytes of a super-block.
const BYTES: usize = 56;
/// Sub-blocks whose largest magnitude is below this are stored as zeros.
const LEAST: f32 = 1e-7;

/// Search result of a sub-block.
#[derive(Clone, Copy, Default)]
struct Iq1mSubBlock {
    /// Scale, not negative.
    scale: f32,
    /// Grid entry of each group.
    entries: [GridPoint; 2],
    /// True for a negative shift of the group.
    minus: [bool; 2],
    /// True if the sub-block is stored as zeros.
    zeros: bool,
}

impl Iq1mSubBlock {
    /// Values of group `k` before the scale.
    #[cfg_attr(target_arch = "wasm32", inline)]
    fn values(&self, k: usize) -> [f32; 8] {
        entry_values(self.entries[k], self.minus[k])
    }
}

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
    grid::IQ1_S.ready();
    let weights = weigh(values, importance.unwrap_or(&[0.0; 256]), mean_square(values, 2.0)?);
    let parts = || values.as_chunks::<16>().0.iter().zip(weights.as_chunks::<16>().0);
    let mut neighbours = NeighbourLines::new(&grid::IQ1_S);
    let mut subs = [Iq1mSubBlock::default(); 16];
    for (sub, (x, w)) in subs.iter_mut().zip(parts()) {
        *sub = search(&mut neighbours, x, w).ok_or_else(|| overflow_at_absmax(values))?;
    }
    let scales = quantize_scales(subs.map(|s| s.scale), 7);
    for (j, sub) in subs.iter().enumerate() {
        for k in 0..2 {
            let index = if sub.zeros { 0 } else { grid::IQ1_S.index(sub.entries[k]) };
            out[2 * j + k] = index as u8;
            let minus = scales.is_some() && sub.minus[k];
            out[32 + j] |= ((index >> 8) as u8 | u8::from(minus) << 3) << (4 * k);
        }
    }
    let Some((d, steps)) = scales else { return Ok(()) };
    let (mut cross, mut square) = (0.0, 0.0);
    for ((sub, step), (x, w)) in subs.iter().zip(steps).zip(parts()) {
        for (k, group) in x.as_chunks::<8>().0.iter().zip(w.as_chunks::<8>().0).enumerate() {
            let values = sub.values(k).map(|q| q * f32::from(2 * step + 1));
            add_sums((&mut cross, &mut square), group, &values);
        }
    }
    let d = if square > 0.0 { cross / square } else { d };
    let field = u16::from_le_bytes(scale_field(d * 1.1125, values)?);
    for (k, word) in out[48..].as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let steps = (0..4).fold(0, |word, j| word | u16::from(steps[4 * k + j]) << (3 * j));
        *word = (steps | (field >> (4 * k) & 15) << 12).to_le_bytes();
    }
    Ok(())
}

/// Searches a sub-block; `None` if its sums are too large for binary32.
#[cfg_attr(target_arch = "wasm32", inline)]
fn search(neighbours: &mut NeighbourLines<8, 4>, x: &[f32; 16], weights: &[f32; 16]) -> Option<Iq1mSubBlock> {
    let first = Iq1mSubBlock { entries: [grid::IQ1_S.entry(0); 2], zeros: true, ..Iq1mSubBlock::default() };
    let max = x.iter().fold(0.0, |max: f32, x| if max > x.abs() { max } else { x.abs() });
    if max < LEAST {
        return Some(first);
    }
    let order = order(x);
    let Some(split) = split(x, weights, &order) else { return Some(first) };
    let negated = split.scale < 0.0;
    let minus = [split.shifts / 2, split.shifts % 2].map(|minus| (minus == 1) != negated);
    let mut sub = Iq1mSubBlock { scale: split.scale.abs(), minus, ..Iq1mSubBlock::default() };
    let levels = levels(&order, &split);
    let (mut cross, mut square, mut all_on) = (0.0, 0.0, true);
    let groups = x.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0);
    for (k, (levels, group)) in levels.as_chunks::<8>().0.iter().zip(groups).enumerate() {
        let (entry, on) = place_group(&grid::IQ1_S, neighbours, levels, group, sub.scale, minus[k])?;
        all_on &= on;
        sub.entries[k] = entry;
        add_sums((&mut cross, &mut square), group, &sub.values(k));
    }
    if !all_on && cross > 0.0 && square > 0.0 {
        sub.scale = cross / square;
    }
    (sub.scale <= f32::MAX).then_some(sub)
}

/// The best split into three levels. Its shifts are indices of [`LEVELS`]: the first group's in the upper
/// bit.
#[cfg_attr(target_arch = "wasm32", inline)]
fn split(x: &[f32; 16], weights: &[f32; 16], order: &[usize; 16]) -> Option<TernarySplit> {
    const L: usize = 20;
    // For each group the sums over its values before a border, in the order of the whole sub-block.
    let (mut sum_x, mut sum_w) = ([[0.0; L]; 2], [[0.0; L]; 2]);
    let (mut all_x, mut all_w) = ([0.0; 2], [0.0; 2]);
    for (j, &i) in order.iter().enumerate() {
        all_x[i / 8] += weights[i] * x[i];
        all_w[i / 8] += weights[i];
        for half in 0..2 {
            sum_x[half][j] = all_x[half];
            sum_w[half][j] = all_w[half];
        }
    }
    // One number for all lanes, computed once for each lower border.
    let total_x = all_x.map(|sum| LEVELS.map(|q| [sum * q[2]; STEP]));
    let below_x = sum_x.map(|sums| sums.map(|sum| [sum; STEP]));
    let below_w: [[[[f32; STEP]; L]; 2]; 2] = core::array::from_fn(|half| {
        LEVELS.map(|q| {
            let total = all_w[half] * q[2] * q[2];
            sum_w[half].map(|sum| [total + sum * (q[0] * q[0] - q[1] * q[1]); STEP])
        })
    });
    let mut above_w = sum_w.map(|sum| LEVELS.map(|q| sum.map(|sum| sum * (q[1] * q[1] - q[2] * q[2]))));
    above_w.as_flattened_mut().iter_mut().for_each(|above| above[17..].fill(f32::INFINITY));
    best_split::<16, 17, 4>(
        all_w[0] + all_w[1],
        #[inline(always)]
        |low, start| {
            let low = border_slot::<16>(low);
            let (mut cross, mut square) = ([[[0.0; STEP]; 2]; 2], [[[0.0; STEP]; 2]; 2]);
            for half in 0..2 {
                let (x, before) = (chunk(&sum_x[half], start), &below_x[half][low]);
                for k in 0..2 {
                    let (below, above) = (&below_w[half][k][low], chunk(&above_w[half][k], start));
                    for lane in 0..STEP {
                        cross[half][k][lane] = total_x[half][k][lane] - (before[lane] + x[lane]);
                        square[half][k][lane] = below[lane] + above[lane];
                    }
                }
            }
            let mut sums = TernarySums { cross: [[0.0; STEP]; 4], square: [[0.0; STEP]; 4] };
            for shifts in 0..4 {
                let (a, b) = (shifts / 2, shifts % 2);
                for lane in 0..STEP {
                    sums.cross[shifts][lane] = cross[0][a][lane] + cross[1][b][lane];
                    sums.square[shifts][lane] = square[0][a][lane] + square[1][b][lane];
                }
            }
            sums
        },
    )
}

/// Decodes super-blocks (`dequantize_row_iq1_m`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let word = |k: usize| u16::from_le_bytes([bytes[48 + 2 * k], bytes[49 + 2 * k]]);
        let words = [word(0), word(1), word(2), word(3)];
        let d = f16_to_f32((0..4).fold(0, |field, k| field | words[k] >> 12 << (4 * k)));
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let scale = words[k / 8] >> (3 * (k / 2 % 4)) & 7;
            let upper = u16::from(bytes[32 + k / 2] >> (4 * (k % 2)));
            let at = (upper & 7) << 8 | u16::from(bytes[k]);
            put_iq1(out, IQ1_S[usize::from(at)], d * f32::from(2 * scale + 1), upper & 8 != 0);
        }
    });
}
