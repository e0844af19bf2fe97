//! The arithmetic of the probe, in binary64 and a fixed order. Knows no tensor names.

use crate::model::config::{Activation, Config, RopeScaling};
use alloc::vec;
use alloc::vec::Vec;

const LANES: usize = 8;

/// The sum of products, in eight interleaved lanes that are added in order at the end.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a8, a_rest) = a.as_chunks::<LANES>();
    let (b8, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a8.iter().zip(b8) {
        for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
            *lane += x * y;
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += x * y;
    }
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

/// Each vector of `x` (`width` long) by the matrix of rows of `width`: for every vector, one number a row.
pub fn product(x: &[f64], width: usize, matrix: &[f32]) -> Vec<f64> {
    let (count, rows) = (x.len() / width, matrix.len() / width);
    let mut out = vec![0.0; count * rows];
    let mut wide = vec![0.0; width];
    for (r, row) in matrix.chunks_exact(width).enumerate() {
        wide.iter_mut().zip(row).for_each(|(w, &v)| *w = f64::from(v));
        for (t, x) in x.chunks_exact(width).enumerate() {
            out[t * rows + r] = dot(x, &wide);
        }
    }
    out
}

/// Adds a bias to every vector.
pub fn add_bias(x: &mut [f64], bias: &[f32]) {
    for vector in x.chunks_exact_mut(bias.len()) {
        vector.iter_mut().zip(bias).for_each(|(x, &b)| *x += f64::from(b));
    }
}

/// Root-mean-square norm of every vector of `gain.len()` values; `plus` is added to each gain.
pub fn rms_norm(x: &[f64], gain: &[f32], plus: f64, eps: f64) -> Vec<f64> {
    let width = gain.len();
    let mut out = Vec::with_capacity(x.len());
    for vector in x.chunks_exact(width) {
        let scale = 1.0 / libm::sqrt(dot(vector, vector) / width as f64 + eps);
        out.extend(vector.iter().zip(gain).map(|(v, &g)| v * scale * (f64::from(g) + plus)));
    }
    out
}

/// Replaces scores by their shares; never overflows.
pub fn softmax(scores: &mut [f64]) {
    let top = scores.iter().fold(f64::NEG_INFINITY, |m, &s| if s > m { s } else { m });
    scores.iter_mut().for_each(|s| *s = libm::exp(*s - top));
    let sum = scores.iter().fold(0.0, |a, s| a + s);
    scores.iter_mut().for_each(|s| *s /= sum);
}

impl Activation {
    /// The nonlinearity of one value.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Activation::Silu => x / (1.0 + libm::exp(-x)),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / core::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                let inner = libm::sqrt(2.0 / core::f64::consts::PI) * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
        }
    }
}

/// The rotary frequencies of a head, one for each pair of values.
pub fn frequencies(config: &Config) -> Vec<f64> {
    let pairs = (config.head_dim as f64 * config.rotary_share) as usize / 2;
    let plain = (0..pairs).map(|i| libm::pow(config.rope_theta, -(i as f64) / pairs as f64));
    plain.map(|f| stretched(f, config.rope_scaling)).collect()
}

fn stretched(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear(factor) => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let turns = original * frequency / (2.0 * core::f64::consts::PI);
            if turns < low {
                frequency / factor
            } else if turns > high {
                frequency
            } else {
                let share = (turns - low) / (high - low);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}

/// Rotates the first values of every head of a vector at a position: value `i` with value `i + pairs`.
pub fn rotary(vector: &mut [f64], head_dim: usize, position: usize, frequencies: &[f64]) {
    let pairs = frequencies.len();
    for head in vector.chunks_exact_mut(head_dim) {
        let (low, high) = head.split_at_mut(pairs);
        for ((a, b), f) in low.iter_mut().zip(high).zip(frequencies) {
            let (sin, cos) = libm::sincos(position as f64 * f);
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// What attention makes of queries, keys and values, each a run of heads for every position, oldest first.
pub fn attend(config: &Config, scale: f64, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (heads, kv_heads, dim) = (config.heads, config.kv_heads, config.head_dim);
    let count = q.len() / (heads * dim);
    let group = (heads / kv_heads).max(1);
    let mut out = vec![0.0; q.len()];
    for (t, head) in (0..count).flat_map(|t| (0..heads).map(move |h| (t, h))) {
        let query = &q[(t * heads + head) * dim..][..dim];
        let at = |s: usize| (s * kv_heads + head / group) * dim;
        let mut shares: Vec<f64> = (0..=t).map(|s| scale * dot(query, &k[at(s)..][..dim])).collect();
        softmax(&mut shares);
        let sum = &mut out[(t * heads + head) * dim..][..dim];
        for (s, share) in shares.iter().enumerate() {
            sum.iter_mut().zip(&v[at(s)..][..dim]).for_each(|(o, x)| *o += share * x);
        }
    }
    out
}
