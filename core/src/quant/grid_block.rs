//! Shared code of the IQ2 and IQ3 encoders around the search: weights, signs, sub-blocks of a super-block,
//! and integer scales.
//!
//! Follows `quantize_row_iq{2,3}*_impl` of ggml up to the packing. Knows no layout of a single type.

use super::EncodeError;
use super::block::Overflow;
use super::grid::{GridPoint, SignGrid};
use super::grid_fit::{self, RefitRule, ScaleCandidates};
use super::nearest_grid_point::NeighbourLines;
use super::super_block::{LEN, SuperBlockValues};
use super::super_block_encode::overflow_at_absmax;
use super::{check_finite, positive_scale};
use crate::float::nearest_even;

/// Search result of a sub-block with `G` groups and `8 S` values.
#[derive(Clone, Copy)]
pub(super) struct GridSubBlock<const G: usize, const S: usize> {
    /// Scale of the sub-block, not negative.
    pub scale: f32,
    /// Grid entry of each group.
    pub points: [GridPoint; G],
    /// Signs of eight values each, one bit per value; set for negative values.
    pub signs: [u8; S],
}

/// Parameters of a type's search for groups of `N` values, with `H` values in half a group.
pub(super) struct GridSearch<const N: usize, const H: usize> {
    /// Grid of the type.
    pub grid: &'static SignGrid<N, H>,
    /// Scales to try.
    pub scales: ScaleCandidates,
    /// Groups that are placed again after the best scale is known.
    pub refit: RefitRule,
    /// Sub-blocks whose largest magnitude is below this are stored as zeros.
    pub zero_threshold: f32,
    /// True if eight values must have an even number of negative signs; if not, the sign of the value with
    /// the smallest weighted square is flipped.
    pub even_signs: bool,
    /// If set, candidate scales lie around that of a fit to this number of levels without a grid.
    pub start_levels: Option<i32>,
}

/// `factor` times the mean square of a super-block, summed in index order.
///
/// # Errors
///
/// [`Overflow`] if it is not finite.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn mean_square(values: &SuperBlockValues, factor: f32) -> Result<f32, Overflow> {
    let sum = values.iter().fold(0.0, |sum, x| sum + x * x);
    let mean = factor * sum / LEN as f32;
    if mean.is_finite() { Ok(mean) } else { Err(overflow_at_absmax(values)) }
}

/// Weights of the values: `importance * sqrt(sigma2 + x^2)`, with the importance of their columns.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn weigh(
    values: &SuperBlockValues,
    importance: &SuperBlockValues,
    sigma2: f32,
) -> SuperBlockValues {
    core::array::from_fn(|i| importance[i] * libm::sqrtf(sigma2 + values[i] * values[i]))
}

/// Encodes super-blocks, each with the importance weights of its columns.
///
/// # Errors
///
/// [`EncodeError::NonFinite`] for NaN or infinity in `src`, [`EncodeError::F16Overflow`] for a super-block
/// with an [`Overflow`].
pub(super) fn encode_columns<const B: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    encode: impl Fn(&SuperBlockValues, Option<&SuperBlockValues>, &mut [u8; B]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    check_finite(src)?;
    let (blocks, rest) = src.as_chunks::<LEN>();
    let (out, over) = out.as_chunks_mut::<B>();
    assert!(rest.is_empty() && over.is_empty() && blocks.len() == out.len(), "whole blocks and their bytes");
    let (columns, rest) = importance.unwrap_or(&[]).as_chunks::<LEN>();
    let rows = importance.is_none() || !columns.is_empty() && blocks.len().is_multiple_of(columns.len());
    assert!(rest.is_empty() && (rows || blocks.is_empty()), "whole rows of the columns that have weights");
    for (n, (values, bytes)) in blocks.iter().zip(out).enumerate() {
        let weights = columns.get(n.checked_rem(columns.len()).unwrap_or(0));
        encode(values, weights, bytes)
            .map_err(|Overflow(at)| EncodeError::F16Overflow { index: n * LEN + at })?;
    }
    Ok(())
}

/// Magnitudes and sign bits of eight values. With `even_signs` the sign of the value with the smallest
/// weighted square is flipped if necessary; its magnitude becomes negative.
#[cfg_attr(target_arch = "wasm32", inline)]
fn magnitudes(x: &[f32; 8], weights: &[f32; 8], even_signs: bool) -> ([f32; 8], u8) {
    let signs = x.iter().rev().fold(0, |signs, &x| signs << 1 | u8::from(x < 0.0));
    // Zeros keep their sign, as in the reference.
    let mut all = x.map(|x| if x < 0.0 { -x } else { x });
    if !even_signs || signs.count_ones() % 2 == 0 {
        return (all, signs);
    }
    let weighted_squares: [f32; 8] = core::array::from_fn(|i| weights[i] * x[i] * x[i]);
    let smallest = (1..8)
        .fold(0, |smallest, i| if weighted_squares[i] < weighted_squares[smallest] { i } else { smallest });
    all[smallest] = -all[smallest];
    (all, signs ^ 1 << smallest)
}

impl<const N: usize, const H: usize> GridSearch<N, H> {
    /// Searches all sub-blocks of a super-block; `L` is the number of lanes, at least that of the candidate
    /// scales.
    ///
    /// # Errors
    ///
    /// [`Overflow`] if the sums of a sub-block are too large for binary32.
    pub(super) fn search<const G: usize, const S: usize, const SUBS: usize, const L: usize>(
        &self,
        values: &SuperBlockValues,
        weights: &SuperBlockValues,
    ) -> Result<[GridSubBlock<G, S>; SUBS], Overflow> {
        self.grid.ready();
        let mut neighbours = NeighbourLines::new(self.grid);
        let zeros = GridSubBlock { scale: 0.0, points: [GridPoint::default(); G], signs: [0; S] };
        let mut subs = [zeros; SUBS];
        let parts = values.as_chunks::<8>().0.as_chunks::<S>().0.iter();
        let parts = parts.zip(weights.as_chunks::<8>().0.as_chunks::<S>().0);
        for (sub, (x, w)) in subs.iter_mut().zip(parts) {
            // Without a fit (sums too large for binary32) ggml aborts the program.
            *sub = self
                .search_sub_block::<G, S, L>(&mut neighbours, x, w)
                .ok_or_else(|| overflow_at_absmax(values))?;
        }
        Ok(subs)
    }

    /// Searches a sub-block; `None` if its sums are too large for binary32.
    fn search_sub_block<const G: usize, const S: usize, const L: usize>(
        &self,
        neighbours: &mut NeighbourLines<N, H>,
        values: &[[f32; 8]; S],
        weights: &[[f32; 8]; S],
    ) -> Option<GridSubBlock<G, S>> {
        let mut sub = GridSubBlock { scale: 0.0, points: [GridPoint::default(); G], signs: [0; S] };
        let mut group =
            grid_fit::GroupedSubBlock { x: [[0.0; N]; G], weights: [[0.0; N]; G], roots: [[0.0; N]; G] };
        let mut signs = [0; S];
        let eights = group.x.as_flattened_mut().as_chunks_mut::<8>().0.iter_mut().zip(&mut signs);
        for ((out, signs), (x, w)) in eights.zip(values.iter().zip(weights)) {
            (*out, *signs) = magnitudes(x, w, self.even_signs);
        }
        group.weights.as_flattened_mut().copy_from_slice(weights.as_flattened());
        group.roots = group.weights.map(|w| w.map(libm::sqrtf));
        let max = group.x.as_flattened().iter().fold(f32::MIN, |max, &x| if max > x { max } else { x });
        if max < self.zero_threshold {
            return Some(sub);
        }
        let (max, first) = match self.start_levels {
            None => (max, max / self.scales.top),
            Some(levels) => {
                let (x, w) = (group.x.as_flattened(), group.weights.as_flattened());
                let first = positive_scale::fit(x, w, levels, &mut [0; 32]);
                (first * (levels - 1) as f32, first)
            }
        };
        if max <= 0.0 {
            return Some(sub);
        }
        let fit = group.fit::<H, L>(self.grid, neighbours, &self.scales, max, first, self.refit)?;
        sub.scale = fit.scale;
        sub.points = fit.points;
        sub.signs = if fit.negated { signs.map(|s| !s) } else { signs };
        Some(sub)
    }
}

/// Converts the scales of sub-blocks to integers under one super-block scale.
///
/// An integer `s` stands for `2 s + 1` steps; the largest scale has `2 top + 1`. Returns the step and the
/// integers, or `None` if all scales are 0.
pub(super) fn quantize_scales<const SUBS: usize>(scales: [f32; SUBS], top: i32) -> Option<(f32, [u8; SUBS])> {
    let max = scales.iter().fold(0.0, |max, &s| if max > s { max } else { s });
    if max == 0.0 {
        return None;
    }
    let d = max / (2 * top + 1) as f32;
    let inverse = 1.0 / d;
    Some((d, scales.map(|s| nearest_even(0.5 * (inverse * s - 1.0)).clamp(0, top) as u8)))
}
