//! What each value counts, lane by lane.

use super::lanes::{Columns, columns};
use fearless_simd::prelude::*;
use quantoscope_core::quant::searches::Weights;

/// The weights of `G` vectors of sub-blocks. Written with loops, which unlike closures never become calls.
#[inline(always)]
pub fn weigh<S: Simd, const N: usize, const G: usize>(
    simd: S,
    x: &Columns<S, N, G>,
    weights: Weights<'_, N>,
) -> Columns<S, N, G> {
    let zero = S::f32s::splat(simd, 0.0);
    let mut averages = [zero; G];
    if matches!(weights, Weights::Loudness) {
        for x in x {
            for g in 0..G {
                averages[g] += x[g] * x[g];
            }
        }
        for average in &mut averages {
            *average = (*average / N as f32).sqrt();
        }
    }
    let mut w = match weights {
        Weights::Given(rows) => return columns(simd, rows),
        _ => *x,
    };
    for w in &mut w {
        for g in 0..G {
            w[g] = match weights {
                Weights::Square => w[g] * w[g],
                // An average of +0 changes no magnitude.
                _ => averages[g] + w[g].abs(),
            }
        }
    }
    w
}
