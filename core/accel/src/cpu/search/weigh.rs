//! What each value counts, lane by lane.

use super::lanes::{Columns, fill};
use fearless_simd::prelude::*;
use quantoscope_core::quant::searches::Weights;

/// Makes `w` the weights of `G` vectors of sub-blocks.
#[inline(always)]
pub fn weigh<S: Simd, const N: usize, const G: usize>(
    simd: S,
    x: &Columns<S, N, G>,
    weights: Weights<'_, N>,
    w: &mut Columns<S, N, G>,
) {
    let mut averages = [S::f32s::splat(simd, 0.0); G];
    match weights {
        Weights::Given(rows) => return fill(simd, w, rows),
        Weights::Square => {
            for (w, x) in w.iter_mut().zip(x) {
                for g in 0..G {
                    w[g] = x[g] * x[g];
                }
            }
            return;
        }
        Weights::Loudness => {
            for x in x {
                for g in 0..G {
                    averages[g] += x[g] * x[g];
                }
            }
            for average in &mut averages {
                *average = (*average / N as f32).sqrt();
            }
        }
        // An average of +0 changes no magnitude.
        Weights::Magnitude => {}
    }
    for (w, x) in w.iter_mut().zip(x) {
        for g in 0..G {
            w[g] = averages[g] + x[g].abs();
        }
    }
}
