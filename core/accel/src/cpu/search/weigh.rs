//! Weights of values, lane by lane: those of a search, and those that importance gives.

use super::lanes::{TransposedLanes, WIDEST, blank, fill, numbers, rows_of};
use fearless_simd::prelude::*;
use quantoscope_core::quant::scale_search::SearchWeights;

/// Computes the weights of `G` vectors of sub-blocks into `w`.
#[inline(always)]
pub(super) fn weigh<S: Simd, const N: usize, const G: usize>(
    simd: S,
    x: &TransposedLanes<S, N, G>,
    weights: SearchWeights<'_, N>,
    w: &mut TransposedLanes<S, N, G>,
) {
    let mut averages = [S::f32s::splat(simd, 0.0); G];
    match weights {
        SearchWeights::Given(rows) => return fill(simd, w, rows),
        SearchWeights::Square => {
            for (w, x) in w.iter_mut().zip(x) {
                for g in 0..G {
                    w[g] = x[g] * x[g];
                }
            }
            return;
        }
        SearchWeights::MeanMagnitude => {
            for x in x {
                for g in 0..G {
                    averages[g] += x[g] * x[g];
                }
            }
            for average in &mut averages {
                *average = (*average / N as f32).sqrt();
            }
        }
        // Adding an average of +0 changes no magnitude.
        SearchWeights::Magnitude => {}
    }
    for (w, x) in w.iter_mut().zip(x) {
        for g in 0..G {
            w[g] = averages[g] + x[g].abs();
        }
    }
}

/// Vectors of sub-blocks processed together.
const PAIR: usize = 2;

/// Turns the importance in `weights` into weights, and sums them:
/// [`ScaleSearch::weigh`](quantoscope_core::quant::scale_search::ScaleSearch::weigh).
#[inline(always)]
pub(super) fn weigh_given<S: Simd, const N: usize>(
    simd: S,
    x: &[[f32; N]],
    spreads: &[f32],
    weights: &mut [[f32; N]],
    sums: &mut [f32],
) {
    let (len, at_once) = (S::f32s::LEN, PAIR * S::f32s::LEN);
    let (mut columns, mut w): (TransposedLanes<S, N, PAIR>, TransposedLanes<S, N, PAIR>) =
        (blank(simd), blank(simd));
    let parts = x.chunks(at_once).zip(spreads.chunks(at_once));
    for ((x, spreads), (weights, sums)) in
        parts.zip(weights.chunks_mut(at_once).zip(sums.chunks_mut(at_once)))
    {
        fill(simd, &mut columns, x);
        fill(simd, &mut w, weights);
        let mut padded = [0.0; PAIR * WIDEST];
        padded[..spreads.len()].copy_from_slice(spreads);
        let mut total = [S::f32s::splat(simd, 0.0); PAIR];
        for (w, x) in w.iter_mut().zip(&columns) {
            for g in 0..PAIR {
                let spread = S::f32s::from_slice(simd, &padded[g * len..(g + 1) * len]);
                w[g] *= (spread + x[g] * x[g]).sqrt();
                total[g] += w[g];
            }
        }
        rows_of::<S, N, PAIR>(
            simd,
            &w,
            #[inline(always)]
            |j, at, v| {
                if let Some(row) = weights.get_mut(j) {
                    v.store_slice(&mut row[at..at + len]);
                }
            },
        );
        for (sums, total) in sums.chunks_mut(len).zip(total) {
            sums.copy_from_slice(&numbers::<S>(total)[..sums.len()]);
        }
    }
}
