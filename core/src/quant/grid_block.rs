//! What the quantizers of the IQ2 and IQ3 types share around their search: weights, signs, the sub-blocks of a
//! super-block, and their scales as integers.
//!
//! Knows no layout of any one type. ggml's `quantize_row_iq{2,3}*_impl` up to where they pack.

use super::EncodeError;
use super::block::Overflow;
use super::grid::{GridPoint, SignGrid};
use super::grid_fit::{self, RefitRule, ScaleCandidates};
use super::nearest_grid_point::NeighbourLines;
use super::super_block::{LEN, SuperBlockValues};
use super::super_block_encode::loudest;
use super::{check_finite, positive_scale};
use crate::float::nearest_even;

/// What is found for a sub-block: its scale, the entries of its `G` groups, and the signs of each eight values.
#[derive(Clone, Copy)]
pub struct GridSubBlock<const G: usize, const S: usize> {
    pub scale: f32,
    pub points: [GridPoint; G],
    pub signs: [u8; S],
}

/// How a type searches the sub-blocks of a super-block.
pub struct GridSearch<const N: usize, const H: usize> {
    pub grid: &'static SignGrid<N, H>,
    pub scales: ScaleCandidates,
    pub again: RefitRule,
    /// A sub-block whose greatest magnitude is below this is taken for zeros.
    pub least: f32,
    /// Whether each eight values must have an even number of minuses: the sign that counts least is turned where not.
    pub even: bool,
    /// The number of levels, where the scales tried lie around that of a first fit without a grid.
    pub first: Option<i32>,
}

/// The mean square, `factor` times, summed in index order; refused where it is too large to be a number.
pub fn mean_square(values: &SuperBlockValues, factor: f32) -> Result<f32, Overflow> {
    let sum = values.iter().fold(0.0, |sum, x| sum + x * x);
    let mean = factor * sum / LEN as f32;
    if mean.is_finite() { Ok(mean) } else { Err(loudest(values)) }
}

/// The weights of values by the importance of their columns, `importance * sqrt(sigma2 + x^2)`.
pub fn weigh(values: &SuperBlockValues, importance: &SuperBlockValues, sigma2: f32) -> SuperBlockValues {
    core::array::from_fn(|i| importance[i] * libm::sqrtf(sigma2 + values[i] * values[i]))
}

/// Encodes super-block after super-block, each with the importance of its columns, after refusing NaN and infinity in
/// all of `src`.
pub fn encode_columns<const B: usize>(
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

/// Magnitudes and signs of eight values, with the sign of the one that counts least turned where `even` asks for it.
fn magnitudes(x: &[f32; 8], weights: &[f32; 8], even: bool) -> ([f32; 8], u8) {
    let signs = x.iter().rev().fold(0, |signs, &x| signs << 1 | u8::from(x < 0.0));
    // Zeros keep their own, as in the reference.
    let mut all = x.map(|x| if x < 0.0 { -x } else { x });
    if !even || signs.count_ones() % 2 == 0 {
        return (all, signs);
    }
    let counts: [f32; 8] = core::array::from_fn(|i| weights[i] * x[i] * x[i]);
    let least = (1..8).fold(0, |least, i| if counts[i] < counts[least] { i } else { least });
    all[least] = -all[least];
    (all, signs ^ 1 << least)
}

impl<const N: usize, const H: usize> GridSearch<N, H> {
    /// Searches all sub-blocks of a super-block, with a lane for each of no more than `L` scales.
    pub fn all<const G: usize, const S: usize, const SUBS: usize, const L: usize>(
        &self,
        values: &SuperBlockValues,
        weights: &SuperBlockValues,
    ) -> Result<[GridSubBlock<G, S>; SUBS], Overflow> {
        self.grid.ready();
        let mut lines = NeighbourLines::new(self.grid);
        let zeros = GridSubBlock { scale: 0.0, points: [GridPoint::default(); G], signs: [0; S] };
        let mut subs = [zeros; SUBS];
        let parts = values.as_chunks::<8>().0.as_chunks::<S>().0.iter();
        let parts = parts.zip(weights.as_chunks::<8>().0.as_chunks::<S>().0);
        for (sub, (x, w)) in subs.iter_mut().zip(parts) {
            // Where there is no fit ggml stops the program: the sums are too large to be numbers.
            *sub = self.one::<G, S, L>(&mut lines, x, w).ok_or_else(|| loudest(values))?;
        }
        Ok(subs)
    }

    fn one<const G: usize, const S: usize, const L: usize>(
        &self,
        lines: &mut NeighbourLines<N, H>,
        values: &[[f32; 8]; S],
        weights: &[[f32; 8]; S],
    ) -> Option<GridSubBlock<G, S>> {
        let mut sub = GridSubBlock { scale: 0.0, points: [GridPoint::default(); G], signs: [0; S] };
        let mut group =
            grid_fit::GroupedSubBlock { x: [[0.0; N]; G], weights: [[0.0; N]; G], roots: [[0.0; N]; G] };
        let mut signs = [0; S];
        let eights = group.x.as_flattened_mut().as_chunks_mut::<8>().0.iter_mut().zip(&mut signs);
        for ((out, signs), (x, w)) in eights.zip(values.iter().zip(weights)) {
            (*out, *signs) = magnitudes(x, w, self.even);
        }
        group.weights.as_flattened_mut().copy_from_slice(weights.as_flattened());
        group.roots = group.weights.map(|w| w.map(libm::sqrtf));
        let max = group.x.as_flattened().iter().fold(f32::MIN, |max, &x| if max > x { max } else { x });
        if max < self.least {
            return Some(sub);
        }
        let (max, first) = match self.first {
            None => (max, max / self.scales.top),
            Some(levels) => {
                let first = positive_scale::fit(group.x.as_flattened(), group.weights.as_flattened(), levels);
                (first * (levels - 1) as f32, first)
            }
        };
        if max <= 0.0 {
            return Some(sub);
        }
        let fit = group.fit::<H, L>(self.grid, lines, &self.scales, max, first, self.again)?;
        sub.scale = fit.scale;
        sub.points = fit.points;
        sub.signs = if fit.turned { signs.map(|s| !s) } else { signs };
        Some(sub)
    }
}

/// The scale of the super-block that gives the greatest of `scales` 31 half steps, and each scale in steps, the first
/// of which is a half; `None` where all are 0.
pub fn share<const SUBS: usize>(scales: [f32; SUBS], top: i32) -> Option<(f32, [u8; SUBS])> {
    let max = scales.iter().fold(0.0, |max, &s| if max > s { max } else { s });
    if max == 0.0 {
        return None;
    }
    let d = max / (2 * top + 1) as f32;
    let inverse = 1.0 / d;
    Some((d, scales.map(|s| nearest_even(0.5 * (inverse * s - 1.0)).clamp(0, top) as u8)))
}
