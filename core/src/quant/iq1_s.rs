//! IQ1_S (ggml): groups of 8 weights on a ternary grid, 8 sub-blocks of 32 weights; 50 bytes, 1.5625 bits per
//! weight.
//!
//! | bytes | content |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..34 | low 8 bits of the grid index of each group |
//! | 34..50 | a u16 for each sub-block: 3 upper bits of four indices, 3-bit scale, sign of the shift |
//!
//! Dequantizes to `d * (2 * scale + 1) * (level + shift)`, with the levels -1, 0 and 1 of a grid of 2048
//! entries and a shift of 1/8 or -1/8. Source: `block_iq1_s`.
//!
//! Encoder: `quantize_iq1_s`; importance weights are required. Each sub-block is split into three levels with
//! either shift, and its groups are placed on the grid. The largest scale becomes 15 half steps; the stored
//! `d` is 1.125 times the fitted one. A super-block of zeros is 50 zero bytes. A sub-block of zeros among
//! others has a positive shift and the first entry.

use super::EncodeError;
use super::block::{Overflow, decode_all, read_field, scale_field};
use super::grid;
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

/// Bytes of a super-block.
const BYTES: usize = 50;
/// Sub-blocks whose largest magnitude is below this are stored as zeros.
const LEAST: f32 = 1e-12;

/// Search result of a sub-block.
#[derive(Clone, Copy, Default)]
struct Iq1sSubBlock {
    /// Scale, not negative.
    scale: f32,
    /// Grid index of each group.
    indices: [u16; 4],
    /// True for a negative shift.
    minus: bool,
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
    let mut neighbours = NeighbourLines::new(&grid::IQ1_S);
    let mut subs = [Iq1sSubBlock::default(); 8];
    let parts = values.as_chunks::<32>().0.iter().zip(weights.as_chunks::<32>().0);
    for (sub, (x, w)) in subs.iter_mut().zip(parts) {
        *sub = search(&mut neighbours, x, w).ok_or_else(|| overflow_at_absmax(values))?;
    }
    for (bytes, sub) in out[2..34].as_chunks_mut::<4>().0.iter_mut().zip(&subs) {
        *bytes = sub.indices.map(|index| index as u8);
    }
    let scales = quantize_scales(subs.map(|s| s.scale), 7);
    for (j, (pair, sub)) in out[34..].as_chunks_mut::<2>().0.iter_mut().zip(&subs).enumerate() {
        let upper = (0..4).fold(0, |upper, k| upper | sub.indices[k] >> 8 << (3 * k));
        let step = scales.map_or(0, |(_, steps)| u16::from(steps[j]) | u16::from(sub.minus) << 3);
        *pair = (upper | step << 12).to_le_bytes();
    }
    if let Some((d, _)) = scales {
        out[..2].copy_from_slice(&scale_field(d * 1.125, values)?);
    }
    Ok(())
}

/// Searches a sub-block; `None` if its sums are too large for binary32.
#[cfg_attr(target_arch = "wasm32", inline)]
fn search(neighbours: &mut NeighbourLines<8, 4>, x: &[f32; 32], weights: &[f32; 32]) -> Option<Iq1sSubBlock> {
    let max = x.iter().fold(0.0, |max: f32, x| if max > x.abs() { max } else { x.abs() });
    if max < LEAST {
        return Some(Iq1sSubBlock::default());
    }
    let order = order(x);
    let Some(split) = split(x, weights, &order) else { return Some(Iq1sSubBlock::default()) };
    let minus = (split.shifts == 1) != (split.scale < 0.0);
    let mut sub = Iq1sSubBlock { scale: split.scale.abs(), minus, ..Iq1sSubBlock::default() };
    let levels = levels(&order, &split);
    let (mut cross, mut square, mut all_on) = (0.0, 0.0, true);
    let groups = x.as_chunks::<8>().0.iter().zip(weights.as_chunks::<8>().0);
    for ((index, levels), group) in sub.indices.iter_mut().zip(levels.as_chunks::<8>().0).zip(groups) {
        let (entry, on) = place_group(&grid::IQ1_S, neighbours, levels, group, sub.scale, minus)?;
        all_on &= on;
        *index = grid::IQ1_S.index(entry);
        add_sums((&mut cross, &mut square), group, &entry_values(entry, minus));
    }
    if !all_on && cross > 0.0 && square > 0.0 {
        sub.scale = cross / square;
    }
    (sub.scale <= f32::MAX).then_some(sub)
}

/// The best split into three levels; its shifts are an index of [`LEVELS`].
#[cfg_attr(target_arch = "wasm32", inline)]
fn split(x: &[f32; 32], weights: &[f32; 32], order: &[usize; 32]) -> Option<TernarySplit> {
    const L: usize = 36;
    // Sums over the values before a border.
    let (mut sum_x, mut sum_w) = ([0.0; L], [0.0; L]);
    let (mut all_x, mut all_w) = (0.0, 0.0);
    for (j, &i) in order.iter().enumerate() {
        all_x += weights[i] * x[i];
        all_w += weights[i];
        (sum_x[j], sum_w[j]) = (all_x, all_w);
    }
    // Contributions of the values with the highest level.
    let above_x = LEVELS.map(|q| sum_x.map(|sum| (all_x - sum) * q[2]));
    let mut above_w = LEVELS.map(|q| sum_w.map(|sum| (all_w - sum) * q[2] * q[2]));
    above_w.iter_mut().for_each(|above| above[33..].fill(f32::INFINITY));
    best_split::<32, 33, 2>(
        all_w,
        #[inline(always)]
        |low, start| {
            let low = border_slot::<32>(low);
            let mut sums = TernarySums { cross: [[0.0; STEP]; 2], square: [[0.0; STEP]; 2] };
            let (x, w): (&[f32; STEP], &[f32; STEP]) = (chunk(&sum_x, start), chunk(&sum_w, start));
            for (k, q) in LEVELS.iter().enumerate() {
                let (below_x, below_w) = (sum_x[low] * q[0], sum_w[low] * q[0] * q[0]);
                let (above_x, above_w) = (chunk(&above_x[k], start), chunk(&above_w[k], start));
                for lane in 0..STEP {
                    sums.cross[k][lane] = below_x + (x[lane] - sum_x[low]) * q[1] + above_x[lane];
                    sums.square[k][lane] = below_w + (w[lane] - sum_w[low]) * q[1] * q[1] + above_w[lane];
                }
            }
            sums
        },
    )
}

/// Decodes super-blocks (`dequantize_row_iq1_s`).
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn decode(src: &[u8], out: &mut [f32]) {
    decode_all(src, out, |bytes: &[u8; BYTES], values: &mut SuperBlockValues| {
        let d = read_field(bytes, 0);
        let pairs = bytes[34..].as_chunks::<2>().0;
        for (k, out) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let pair = u16::from_le_bytes(pairs[k / 4]);
            let step = d * f32::from(2 * (pair >> 12 & 7) + 1);
            let at = (pair >> (3 * (k % 4)) & 7) << 8 | u16::from(bytes[2 + k]);
            put_iq1(out, IQ1_S[usize::from(at)], step, pair >> 15 == 1);
        }
    });
}
