//! The arithmetic of the probe, in binary64 and a fixed order. Knows no tensor names.

pub(super) use crate::kernels::attention::{AttentionHeads, LANES, accumulate, dot, softcap, softmax, total};
use crate::model::config::{Activation, Linear};
use alloc::vec;
use alloc::vec::Vec;

/// Adds a bias to every vector.
pub(super) fn add_bias(x: &mut [f64], bias: &[f32]) {
    for vector in x.chunks_exact_mut(bias.len()) {
        vector.iter_mut().zip(bias).for_each(|(x, &b)| *x += f64::from(b));
    }
}

/// Root-mean-square norm of every vector of `gain.len()` values; `plus` is added to each gain.
pub(super) fn rms_norm(x: &[f64], gain: &[f32], plus: f64, eps: f64) -> Vec<f64> {
    let width = gain.len();
    let mut out = Vec::with_capacity(x.len());
    for vector in x.chunks_exact(width) {
        let scale = 1.0 / libm::sqrt(dot(vector, vector) / width as f64 + eps);
        out.extend(vector.iter().zip(gain).map(|(v, &g)| v * scale * (f64::from(g) + plus)));
    }
    out
}

/// Every vector of `width` values less its mean, by its deviation; gains go on from vector to vector, and start again at their end.
/// `plus` is added to each gain.
pub(super) fn mean_norm(x: &[f64], width: usize, (gain, plus): (&[f32], f64), eps: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    let mut gains = gain.iter().cycle();
    for vector in x.chunks_exact(width) {
        let mean = vector.iter().fold(0.0, |sum, v| sum + v) / width as f64;
        let centred: Vec<f64> = vector.iter().map(|v| v - mean).collect();
        let scale = 1.0 / libm::sqrt(dot(&centred, &centred) / width as f64 + eps);
        out.extend(centred.iter().zip(gains.by_ref()).map(|(v, &g)| v * scale * (f64::from(g) + plus)));
    }
    out
}

impl Activation {
    /// The nonlinearity of one value.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Activation::Silu => x / (1.0 + libm::exp(-x)),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / core::f64::consts::SQRT_2)),
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0) * x.max(0.0),
            Activation::GeluTanh => {
                let inner = libm::sqrt(2.0 / core::f64::consts::PI) * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
        }
    }
}

/// The share of 1 that a value gets.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// The logarithm of 1 and the exponential; beyond 20 the value itself, as models are trained.
pub(super) fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { libm::log1p(libm::exp(x)) }
}

/// A clamped gate times its clamped partner and 1; `clamp` is where they end and what sharpens the sigmoid.
pub(super) fn clamped(gate: f64, up: f64, (limit, sharpness): (f64, f64)) -> f64 {
    let (gate, up) = (gate.min(limit), up.max(-limit).min(limit));
    gate * sigmoid(gate * sharpness) * (up + 1.0)
}

/// Takes runs of values apart: each begins with some for the first, has some for the second then, ...
pub(super) fn split<const N: usize>(x: &[f64], widths: [usize; N]) -> [Vec<f64>; N] {
    let width = widths.iter().sum::<usize>().max(1);
    let mut from = 0;
    widths.map(|len| {
        let start = from;
        from += len;
        x.chunks_exact(width).flat_map(|run| run[start..start + len].iter().copied()).collect()
    })
}

/// The other way round.
pub(super) fn join<const N: usize>(parts: [(&[f64], usize); N]) -> Vec<f64> {
    let count = parts.first().map_or(0, |(x, width)| x.len() / (*width).max(1));
    let run =
        |i: usize| parts.iter().flat_map(move |(x, width)| x[i * width..(i + 1) * width].iter().copied());
    (0..count).flat_map(run).collect()
}

/// Every channel of vectors of `width` by its own kernel, which ends at the position itself; nothing lies before the first.
pub(super) fn causal_convolution(x: &[f64], width: usize, kernels: &[f32], bias: &[f32]) -> Vec<f64> {
    let reach = kernels.len() / width;
    let mut out = vec![0.0; x.len()];
    for (t, out) in out.chunks_exact_mut(width).enumerate() {
        for (channel, (out, kernel)) in out.iter_mut().zip(kernels.chunks_exact(reach)).enumerate() {
            let first = (t + 1).saturating_sub(reach);
            let seen = kernel[first + reach - t - 1..].iter().enumerate();
            *out = seen.fold(0.0, |sum, (i, &k)| sum + f64::from(k) * x[(first + i) * width + channel]);
            *out += bias.get(channel).map_or(0.0, |&b| f64::from(b));
        }
    }
    out
}

/// What the gated delta rule makes of queries, keys and values: a state of every head of values fades by the exponential of
/// `steps`, learns what it does not know of a value by its strength, and answers the query.
pub(super) fn delta_rule(
    linear: &Linear,
    [q, k, v]: [&[f64]; 3],
    strengths: &[f64],
    steps: &[f64],
) -> Vec<f64> {
    let Linear { key_heads, value_heads, key_dim, value_dim } = *linear;
    let mut out = vec![0.0; v.len()];
    for head in 0..value_heads {
        let mut state = vec![0.0; key_dim * value_dim];
        let key_head = head / (value_heads / key_heads).max(1);
        for t in 0..v.len() / (value_heads * value_dim) {
            let vector = |x: &[f64]| unit(&x[(t * key_heads + key_head) * key_dim..][..key_dim]);
            let (query, key) = (vector(q), vector(k));
            let at = (t * value_heads + head) * value_dim;
            let (value, out) = (&v[at..][..value_dim], &mut out[at..][..value_dim]);
            let place = t * value_heads + head;
            let fading = libm::exp(steps[place]);
            state.iter_mut().for_each(|s| *s *= fading);
            let mut news = vec![0.0; value_dim];
            recall(&state, &key, &mut news);
            news.iter_mut().zip(value).for_each(|(n, v)| *n = (v - *n) * strengths[place]);
            for (row, k) in state.chunks_exact_mut(value_dim).zip(&key) {
                row.iter_mut().zip(&news).for_each(|(s, n)| *s += k * n);
            }
            recall(&state, &query, out);
            out.iter_mut().for_each(|o| *o /= libm::sqrt(key_dim as f64));
        }
    }
    out
}

/// Adds the rows of a state, times the values of a vector.
fn recall(state: &[f64], vector: &[f64], out: &mut [f64]) {
    for (row, x) in state.chunks_exact(out.len()).zip(vector) {
        out.iter_mut().zip(row).for_each(|(o, s)| *o += x * s);
    }
}

/// A vector made 1 long.
fn unit(x: &[f64]) -> Vec<f64> {
    let scale = 1.0 / libm::sqrt(dot(x, x) + 1e-6);
    x.iter().map(|x| x * scale).collect()
}
