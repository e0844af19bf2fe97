//! Attention of one sequence in binary64, in a fixed order of sums: vectors of any width give the same bits.

use alloc::vec;
use alloc::vec::Vec;

/// Interleaved sums of a dot product: column `c` belongs to sum `c % 8`.
pub const LANES: usize = 8;

/// Adds products of columns from `first` on to eight interleaved sums.
#[inline(always)]
pub fn accumulate(lanes: &mut [f64; LANES], a: &[f64], b: &[f64], first: usize) {
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
#[inline(always)]
pub fn total(lanes: &[f64; LANES]) -> f64 {
    lanes.iter().fold(0.0, |sum, lane| sum + lane)
}

/// The sum of products, in eight interleaved lanes that are added in order at the end.
#[inline(always)]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    accumulate(&mut lanes, a, b, 0);
    total(&lanes)
}

/// Replaces scores by their shares; never overflows.
#[inline(always)]
pub fn softmax(scores: &mut [f64]) {
    let top = scores.iter().fold(f64::NEG_INFINITY, |m, &s| if s > m { s } else { m });
    scores.iter_mut().for_each(|s| *s = libm::exp(*s - top));
    let sum = scores.iter().fold(0.0, |a, s| a + s);
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// A value bounded by `cap`, through a hyperbolic tangent.
#[inline(always)]
pub fn softcap(cap: Option<f64>, x: f64) -> f64 {
    cap.map_or(x, |cap| cap * libm::tanh(x / cap))
}

/// The heads of attention.
#[derive(Clone, Copy, Debug)]
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
    /// Scores are bounded by this, through a hyperbolic tangent.
    pub softcap: Option<f64>,
    /// How many positions are seen, where not all are.
    pub window: Option<usize>,
    /// A score of every head that takes its share and gives nothing; may be empty.
    pub sinks: &'a [f32],
}

/// What attention makes of queries, keys and values, each a run of heads for every position, oldest first.
#[inline(always)]
pub fn attend(a: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let width = |heads: usize, dim: usize| heads.saturating_mul(dim).max(1);
    let (queries, outputs) = (width(a.heads, a.key_dim), width(a.heads, a.value_dim));
    let (keys, values) = (width(a.kv_heads, a.key_dim), width(a.kv_heads, a.value_dim));
    let group = a.heads.checked_div(a.kv_heads).unwrap_or(1).max(1);
    let mut out = vec![0.0; q.len() / queries * outputs];
    let mut shares = Vec::new();
    for (t, (q, out)) in q.chunks_exact(queries).zip(out.chunks_exact_mut(outputs)).enumerate() {
        let first = a.window.map_or(0, |window| (t + 1).saturating_sub(window));
        let seen = t + 1 - first;
        let heads = q.chunks_exact(a.key_dim.max(1)).zip(out.chunks_exact_mut(a.value_dim.max(1)));
        for (head, (query, sum)) in heads.enumerate() {
            let (key_at, value_at) = (head / group * a.key_dim, head / group * a.value_dim);
            shares.clear();
            shares.extend(k.chunks_exact(keys).skip(first).take(seen).map(|row| {
                let key = row.get(key_at..key_at + a.key_dim).unwrap_or_default();
                softcap(a.softcap, a.scale * dot(query, key))
            }));
            shares.extend(a.sinks.get(head).map(|&s| f64::from(s)));
            softmax(&mut shares);
            for (row, share) in v.chunks_exact(values).skip(first).take(seen).zip(&shares) {
                let value = row.get(value_at..value_at + a.value_dim).unwrap_or_default();
                sum.iter_mut().zip(value).for_each(|(o, x)| *o += share * x);
            }
        }
    }
    out
}
