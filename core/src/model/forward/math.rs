//! The arithmetic of the probe, in binary64 and a fixed order. Knows no tensor names.

use crate::model::config::{Activation, Linear};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

const LANES: usize = 8;

/// Adds products of columns from `first` on to eight interleaved sums: column `c` belongs to sum `c % 8`.
fn accumulate(lanes: &mut [f64; LANES], a: &[f64], b: &[f64], first: usize) {
    let begun = (LANES - first % LANES) % LANES;
    let (a_begun, a) = a.split_at(begun.min(a.len()));
    let (b_begun, b) = b.split_at(begun.min(b.len()));
    for ((lane, x), y) in lanes.iter_mut().skip(first % LANES).zip(a_begun).zip(b_begun) {
        *lane += x * y;
    }
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
}

/// Adds the eight sums in order.
fn total(lanes: &[f64; LANES]) -> f64 {
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

/// The sum of products, in eight interleaved lanes that are added in order at the end.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    accumulate(&mut lanes, a, b, 0);
    total(&lanes)
}

/// The product of vectors with a matrix whose values arrive in parts, each used once.
///
/// The sums do not depend on the parts: those of one product are added in the order of its columns (or rows), whatever the
/// parts are.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// Vectors of `width` values.
    x: Vec<f64>,
    width: usize,
    /// The matrix is stored `[in, out]`.
    by_columns: bool,
    /// Values of one result.
    out_len: usize,
    out: Vec<f64>,
    /// Begun sums of rows whose columns arrive in several parts: for each row, one for each vector.
    lanes: Vec<[f64; LANES]>,
    wide: Vec<f64>,
}

impl Product {
    /// Of vectors of `width` values with a matrix stored `[out, in]`, or `[in, out]` with `by_columns`. `out` is the room for
    /// the results: a multiple of the number of vectors.
    pub fn new(x: Vec<f64>, width: usize, by_columns: bool, mut out: Vec<f64>) -> Product {
        out.fill(0.0);
        let out_len = out.len() / (x.len() / width.max(1)).max(1);
        Product { x, width, by_columns, out_len, out, lanes: Vec::new(), wide: Vec::new() }
    }

    /// Takes the binary32 values of a part of the matrix.
    ///
    /// Rows arrive in order. Where a part does not have all columns, the other columns of its rows follow, from left to right.
    pub fn add(&mut self, rows: Range<usize>, cols: Range<usize>, values: &[u8]) {
        let mut wide = core::mem::take(&mut self.wide);
        let of_row = cols.len().saturating_mul(4).max(1);
        if !self.by_columns && cols.start == 0 && cols.end < self.width {
            self.lanes.clear();
            self.lanes.resize(rows.len().saturating_mul(self.x.len() / self.width.max(1)), [0.0; LANES]);
        }
        for (i, (row, values)) in rows.zip(values.chunks_exact(of_row)).enumerate() {
            wide.clear();
            wide.extend(values.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
            if self.by_columns {
                self.add_input(row, &cols, &wide);
            } else {
                self.add_output(row, i, &cols, &wide);
            }
        }
        self.wide = wide;
    }

    /// A part of the row that makes value `row` of the results; the `i`-th row of its part.
    fn add_output(&mut self, row: usize, i: usize, cols: &Range<usize>, weights: &[f64]) {
        let width = self.width.max(1);
        let count = self.x.len() / width;
        let whole = cols.len() == width;
        let mut begun = self.lanes.get_mut(i * count..(i + 1) * count).unwrap_or_default().iter_mut();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(self.out_len.max(1))) {
            let (Some(x), Some(out)) = (x.get(cols.clone()), out.get_mut(row)) else { return };
            if whole {
                *out = dot(x, weights);
            } else if let Some(lanes) = begun.next() {
                accumulate(lanes, x, weights, cols.start);
                *out = total(lanes);
            }
        }
    }

    /// A part of the row that value `row` of the vectors is multiplied with.
    fn add_input(&mut self, row: usize, cols: &Range<usize>, weights: &[f64]) {
        for (x, out) in
            self.x.chunks_exact(self.width.max(1)).zip(self.out.chunks_exact_mut(self.out_len.max(1)))
        {
            let (Some(&x), Some(out)) = (x.get(row), out.get_mut(cols.clone())) else { return };
            out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
        }
    }

    /// The results: for each vector, one value for each row (or column) of the matrix.
    pub fn finish(self) -> Vec<f64> {
        self.out
    }
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

/// Every vector of `width` values less its mean, by its deviation; gains go on from vector to vector, and start again at their end.
pub fn mean_norm(x: &[f64], width: usize, gain: &[f32], eps: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    let mut gains = gain.iter().cycle();
    for vector in x.chunks_exact(width) {
        let mean = vector.iter().fold(0.0, |sum, v| sum + v) / width as f64;
        let centred: Vec<f64> = vector.iter().map(|v| v - mean).collect();
        let scale = 1.0 / libm::sqrt(dot(&centred, &centred) / width as f64 + eps);
        out.extend(centred.iter().zip(gains.by_ref()).map(|(v, &g)| v * scale * f64::from(g)));
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

/// The share of 1 that a value gets.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// The logarithm of 1 and the exponential; beyond 20 the value itself, as models are trained.
pub fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { libm::log1p(libm::exp(x)) }
}

/// A clamped gate times its clamped partner and 1; `clamp` is where they end and what sharpens the sigmoid.
pub fn clamped(gate: f64, up: f64, (limit, sharpness): (f64, f64)) -> f64 {
    let (gate, up) = (gate.min(limit), up.max(-limit).min(limit));
    gate * sigmoid(gate * sharpness) * (up + 1.0)
}

/// Takes runs of values apart: each begins with some for the first, has some for the second then, ...
pub fn split<const N: usize>(x: &[f64], widths: [usize; N]) -> [Vec<f64>; N] {
    let width = widths.iter().sum::<usize>().max(1);
    let mut from = 0;
    widths.map(|len| {
        let start = from;
        from += len;
        x.chunks_exact(width).flat_map(|run| run[start..start + len].iter().copied()).collect()
    })
}

/// The other way round.
pub fn join<const N: usize>(parts: [(&[f64], usize); N]) -> Vec<f64> {
    let count = parts.first().map_or(0, |(x, width)| x.len() / (*width).max(1));
    let run =
        |i: usize| parts.iter().flat_map(move |(x, width)| x[i * width..(i + 1) * width].iter().copied());
    (0..count).flat_map(run).collect()
}

/// Every channel of vectors of `width` by its own kernel, which ends at the position itself; nothing lies before the first.
pub fn causal_convolution(x: &[f64], width: usize, kernels: &[f32], bias: &[f32]) -> Vec<f64> {
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

/// The heads of attention.
pub struct AttentionHeads<'a> {
    /// Of queries.
    pub heads: usize,
    /// Of keys and values; as many heads of queries share one.
    pub kv_heads: usize,
    /// Values of a query or key.
    pub key_dim: usize,
    /// Values of a value.
    pub value_dim: usize,
    /// What scores are multiplied by.
    pub scale: f64,
    /// How many positions are seen, where not all are.
    pub window: Option<usize>,
    /// A score of every head that takes its share and gives nothing; may be empty.
    pub sinks: &'a [f32],
}

/// What attention makes of queries, keys and values, each a run of heads for every position, oldest first.
pub fn attend(a: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let count = q.len() / (a.heads * a.key_dim);
    let group = (a.heads / a.kv_heads).max(1);
    let mut out = vec![0.0; count * a.heads * a.value_dim];
    for (t, head) in (0..count).flat_map(|t| (0..a.heads).map(move |h| (t, h))) {
        let query = &q[(t * a.heads + head) * a.key_dim..][..a.key_dim];
        let first = a.window.map_or(0, |window| (t + 1).saturating_sub(window));
        let at = |s: usize, dim: usize| (s * a.kv_heads + head / group) * dim;
        let score = |s: usize| a.scale * dot(query, &k[at(s, a.key_dim)..][..a.key_dim]);
        let mut shares: Vec<f64> = (first..=t).map(score).collect();
        shares.extend(a.sinks.get(head).map(|&s| f64::from(s)));
        softmax(&mut shares);
        let sum = &mut out[(t * a.heads + head) * a.value_dim..][..a.value_dim];
        for (s, share) in (first..=t).zip(&shares) {
            sum.iter_mut().zip(&v[at(s, a.value_dim)..][..a.value_dim]).for_each(|(o, x)| *o += share * x);
        }
    }
    out
}

/// What the gated delta rule makes of queries, keys and values: a state of every head of values fades by the exponential of
/// `steps`, learns what it does not know of a value by its strength, and answers the query.
pub fn delta_rule(linear: &Linear, [q, k, v]: [&[f64]; 3], strengths: &[f64], steps: &[f64]) -> Vec<f64> {
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
