//! How far a candidate is from its reference: sums over pairs, and the figures made of them.
//!
//! Only pairs in which both values are finite enter the sums; the others are counted, on their side. Knows
//! nothing of thresholds and verdicts.

use super::{LANES, Merge, add_lanes, by_lanes, scale_of};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Sums over pairs `(r, q)` with `e = r - q`, all in f64 (products of binary32 values are exact).
///
/// The sums are those of the values divided by `2^scale`, which is 0 unless binary64 values leave the range of binary32
/// (their squares would leave that of f64); merging takes the larger one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairSums {
    /// Pairs in the sums: both values finite.
    pub n: u64,
    /// NaN and infinities on the reference side.
    pub nonfinite_reference: u64,
    /// NaN and infinities on the candidate side.
    pub nonfinite_candidate: u64,
    /// Sum of `e`.
    pub e1: f64,
    /// Sum of `e * e`.
    pub e2: f64,
    /// Sum of `r * r`.
    pub r2: f64,
    /// Sum of `q * q`.
    pub q2: f64,
    /// Sum of `r * q`.
    pub rq: f64,
    /// Greatest `|e|`; 0 without pairs.
    pub max_abs: f64,
    /// Exponent of the unit of all sums.
    pub scale: i32,
    /// The finished row with the least figure, the first of equals.
    pub worst: Option<WorstRow>,
}

/// A row and its [`PairSums::figure`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstRow {
    /// Which row.
    pub row: u64,
    /// Its figure; 1 where its error is within the floor of the forest.
    pub figure: f64,
}

/// Lanes of the five sums and the maximum.
#[derive(Default)]
struct PairLanes {
    e1: [f64; LANES],
    e2: [f64; LANES],
    r2: [f64; LANES],
    q2: [f64; LANES],
    rq: [f64; LANES],
    max: [f64; LANES],
}

impl PairLanes {
    #[inline(always)]
    fn add<T: Copy + Into<f64>>(&mut self, reference: &[T; LANES], candidate: &[T; LANES]) {
        for i in 0..LANES {
            let (r, q): (f64, f64) = (reference[i].into(), candidate[i].into());
            let e = r - q;
            self.e1[i] += e;
            self.e2[i] += e * e;
            self.r2[i] += r * r;
            self.q2[i] += q * q;
            self.rq[i] += r * q;
            self.max[i] = if e.abs() > self.max[i] { e.abs() } else { self.max[i] };
        }
    }
}

const EXPONENT: u32 = 0x7F80_0000;

/// Whether any value is NaN or infinite; branch-free, so that it vectorises.
fn any_nonfinite(values: &[f32]) -> bool {
    values.iter().fold(false, |any, x| any | (x.to_bits() & EXPONENT == EXPONENT))
}

/// The sums of one leaf: at most [`super::LEAF`] columns of one row, the two slices equally long.
///
/// # Panics
/// Where the lengths differ: they are the caller's, never a file's.
pub fn pair_leaf(reference: &[f32], candidate: &[f32]) -> PairSums {
    assert_eq!(reference.len(), candidate.len(), "a pair has two sides");
    if any_nonfinite(reference) | any_nonfinite(candidate) {
        return with_holes(reference, candidate);
    }
    sums(reference, candidate, 0.0, PairSums { n: reference.len() as u64, ..PairSums::default() })
}

/// The same of binary64 values, none of which is rounded.
///
/// # Panics
/// Where the lengths differ: they are the caller's, never a file's.
pub fn pair_leaf_f64(reference: &[f64], candidate: &[f64]) -> PairSums {
    assert_eq!(reference.len(), candidate.len(), "a pair has two sides");
    let (r, q, counts) = without_holes(reference, candidate, 0.0);
    let scale = scale_of(r.iter().chain(&q).copied());
    let whole = sums(&r, &q, 0.0, counts);
    if scale == 0 {
        return whole;
    }
    let divided = |x: &[f64]| -> Vec<f64> { x.iter().map(|&x| libm::scalbn(x, -scale)).collect() };
    PairSums { max_abs: whole.max_abs, scale, ..sums(&divided(&r), &divided(&q), 0.0, counts) }
}

/// As a leaf of finite values in which the bad pairs add zeros, which changes no sum.
#[cold]
fn with_holes(reference: &[f32], candidate: &[f32]) -> PairSums {
    let (r, q, counts) = without_holes(reference, candidate, 0.0);
    sums(&r, &q, 0.0, counts)
}

/// Both sides with zeros for every pair in which one is not finite, and the counts.
fn without_holes<T: Copy + Into<f64>>(
    reference: &[T],
    candidate: &[T],
    zero: T,
) -> (Vec<T>, Vec<T>, PairSums) {
    let mut counts = PairSums::default();
    let (mut r, mut q) = (Vec::from(reference), Vec::from(candidate));
    for (r, q) in r.iter_mut().zip(&mut q) {
        let (a, b): (f64, f64) = ((*r).into(), (*q).into());
        counts.nonfinite_reference += u64::from(!a.is_finite());
        counts.nonfinite_candidate += u64::from(!b.is_finite());
        if a.is_finite() && b.is_finite() {
            counts.n += 1;
        } else {
            (*r, *q) = (zero, zero);
        }
    }
    (r, q, counts)
}

fn sums<T: Copy + Into<f64>>(reference: &[T], candidate: &[T], zero: T, counts: PairSums) -> PairSums {
    let mut lanes = PairLanes::default();
    let (r, r_tail) = reference.as_chunks::<LANES>();
    let (q, q_tail) = candidate.as_chunks::<LANES>();
    for (r, q) in r.iter().zip(q) {
        lanes.add(r, q);
    }
    by_lanes(r_tail, zero, |r| by_lanes(q_tail, zero, |q| lanes.add(r, q)));
    PairSums {
        e1: add_lanes(&lanes.e1),
        e2: add_lanes(&lanes.e2),
        r2: add_lanes(&lanes.r2),
        q2: add_lanes(&lanes.q2),
        rq: add_lanes(&lanes.rq),
        max_abs: lanes.max.iter().fold(0.0, |m, &x| if x > m { x } else { m }),
        ..counts
    }
}

impl Merge for PairSums {
    fn merge(&self, right: &PairSums) -> PairSums {
        let (left, right) = &PairSums::in_common(self, right);
        left.merged(right)
    }

    fn finish_row(&mut self, row: u64, floor: f64) {
        let figure = if self.rmse() <= floor { 1.0 } else { self.figure() };
        self.worst = (self.n > 0).then_some(WorstRow { row, figure });
    }
}

impl PairSums {
    /// The same in units of `2^scale`.
    fn in_units(&self, scale: i32) -> PairSums {
        let by = self.scale - scale;
        if by == 0 {
            return *self;
        }
        let square = |x: f64| libm::scalbn(x, 2 * by);
        PairSums {
            e1: libm::scalbn(self.e1, by),
            e2: square(self.e2),
            r2: square(self.r2),
            q2: square(self.q2),
            rq: square(self.rq),
            scale,
            ..*self
        }
    }

    /// Both in the units of the one with the larger values; zeros have none of their own.
    fn in_common(a: &PairSums, b: &PairSums) -> (PairSums, PairSums) {
        let zeros = |p: &PairSums| p.r2 == 0.0 && p.q2 == 0.0;
        let scale = match (zeros(a), zeros(b)) {
            (true, _) => b.scale,
            (_, true) => a.scale,
            _ => a.scale.max(b.scale),
        };
        (a.in_units(scale), b.in_units(scale))
    }

    /// Of two intervals in the same units.
    fn merged(&self, right: &PairSums) -> PairSums {
        PairSums {
            n: self.n.saturating_add(right.n),
            nonfinite_reference: self.nonfinite_reference.saturating_add(right.nonfinite_reference),
            nonfinite_candidate: self.nonfinite_candidate.saturating_add(right.nonfinite_candidate),
            e1: self.e1 + right.e1,
            e2: self.e2 + right.e2,
            r2: self.r2 + right.r2,
            q2: self.q2 + right.q2,
            rq: self.rq + right.rq,
            max_abs: if right.max_abs > self.max_abs { right.max_abs } else { self.max_abs },
            scale: self.scale,
            worst: match (self.worst, right.worst) {
                (Some(a), Some(b)) if b.figure < a.figure => Some(b),
                (a, b) => a.or(b),
            },
        }
    }
}

impl PairSums {
    /// Mean square error over `4^scale`; 0 without pairs.
    fn scaled_mse(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.e2 / self.n as f64 }
    }

    /// Mean square error; 0 without pairs.
    pub fn mse(&self) -> f64 {
        libm::scalbn(self.scaled_mse(), 2 * self.scale)
    }

    /// Root mean square error; 0 without pairs.
    pub fn rmse(&self) -> f64 {
        libm::scalbn(libm::sqrt(self.scaled_mse()), self.scale)
    }

    /// The smaller of the cosine and `1 - relative_error^2 / 2`, at least -1.
    ///
    /// The two are equal where the error is at a right angle to the candidate, as that of rounding nearly is. A candidate that
    /// is off by a factor or by a constant has a high cosine and a low figure.
    pub fn figure(&self) -> f64 {
        let cosine = self.cosine();
        let by_error = if self.r2 > 0.0 { 1.0 - self.e2 / self.r2 / 2.0 } else { cosine };
        cosine.min(by_error).max(-1.0)
    }

    /// Cosine of the angle between the two: 1 where both are all zeros (or empty), 0 where one is.
    ///
    /// The root is taken of the product, so that identical data gives exactly 1; squares of binary32 values
    /// are far from both ends of f64, as is the product of two sums of 2^64 of them.
    pub fn cosine(&self) -> f64 {
        match (self.r2 == 0.0, self.q2 == 0.0) {
            (true, true) => 1.0,
            (false, false) => (self.rq / libm::sqrt(self.r2 * self.q2)).clamp(-1.0, 1.0),
            _ => 0.0,
        }
    }

    /// Frobenius norm of the error over that of the reference; `None` where the reference is all zeros.
    pub fn relative_error(&self) -> Option<f64> {
        (self.r2 > 0.0).then(|| libm::sqrt(self.e2 / self.r2))
    }

    /// Signal over quantization noise in dB; `None` where there is no signal or no noise.
    pub fn sqnr_db(&self) -> Option<f64> {
        (self.r2 > 0.0 && self.e2 > 0.0).then(|| 10.0 * libm::log10(self.r2 / self.e2))
    }
}
