//! What a tensor's values are like: counts, extremes, central moments, and how lopsided its rows are.
//!
//! A leaf takes its mean first and its central sums second; merging follows P. Pébay, "Formulas for Robust,
//! One-Pass Parallel Computation of Covariances and Arbitrary-Order Statistical Moments" (2008), after Chan.
//! Knows nothing of encodings.

use super::{LANES, Merge, add_lanes, by_lanes, scale_of};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Above this [`Moments::asymmetry`] a scheme with a minimum is worth its extra bits (lattice's 5 %).
pub const ASYMMETRY_THRESHOLD: f64 = 0.05;

/// Moments of an interval; sums are over its finite values.
///
/// `mean` and the sums are those of the values divided by `2^scale`. The scale is 0 unless binary64 values leave the range of
/// binary32 (their fourth powers would leave that of f64); merging takes the larger one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Values, the bad ones included.
    pub n: u64,
    /// NaNs.
    pub nan: u64,
    /// Infinities of either sign.
    pub inf: u64,
    /// Zeros of either sign.
    pub zeros: u64,
    /// Least finite value; +infinity where there is none.
    pub min: f64,
    /// Greatest finite value; -infinity where there is none.
    pub max: f64,
    /// Greatest finite magnitude; 0 where there is none.
    pub absmax: f64,
    /// Mean of the finite values over `2^scale`; 0 where there is none.
    pub mean: f64,
    /// Sum of squared distances from the mean.
    pub m2: f64,
    /// Sum of cubed distances from the mean.
    pub m3: f64,
    /// Sum of fourth powers of distances from the mean.
    pub m4: f64,
    /// Finished rows that have a finite value.
    pub rows: u64,
    /// Sum over those rows of the magnitude of the row's mean.
    pub abs_row_mean_sum: f64,
    /// Exponent of the unit of the mean and of all sums.
    pub scale: i32,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments {
            n: 0,
            nan: 0,
            inf: 0,
            zeros: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            absmax: 0.0,
            mean: 0.0,
            m2: 0.0,
            m3: 0.0,
            m4: 0.0,
            rows: 0,
            abs_row_mean_sum: 0.0,
            scale: 0,
        }
    }
}

fn lesser(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

fn greater(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

/// The moments of one leaf: at most [`super::LEAF`] columns of one row.
pub fn moments_leaf(values: &[f32]) -> Moments {
    leaf(values, f32::NAN)
}

/// The same of binary64 values, none of which is rounded.
pub fn moments_leaf_f64(values: &[f64]) -> Moments {
    let scale = scale_of(values.iter().copied());
    let m = leaf(values, f64::NAN);
    if scale == 0 {
        return m;
    }
    // Extremes and counts are of the values as they are: divided, the small ones could become zeros.
    let divided: Vec<f64> = values.iter().map(|&x| libm::scalbn(x, -scale)).collect();
    let Moments { mean, m2, m3, m4, .. } = leaf(&divided, f64::NAN);
    Moments { mean, m2, m3, m4, scale, ..m }
}

fn leaf<T: Copy + Into<f64>>(values: &[T], nan: T) -> Moments {
    let mut m = Moments { n: values.len() as u64, ..Moments::default() };
    for &x in values {
        let x: f64 = x.into();
        m.nan += u64::from(x.is_nan());
        m.inf += u64::from(x.is_infinite());
        m.zeros += u64::from(x == 0.0);
    }
    let finite = m.finite();
    if finite == 0 {
        return m;
    }
    // The tail of the last eight is NaN: it adds nothing and is no extreme, like any value that is not finite.
    let (mut sum, mut min, mut max) = ([0.0; LANES], [m.min; LANES], [m.max; LANES]);
    by_lanes(values, nan, |row| {
        for i in 0..LANES {
            let x: f64 = row[i].into();
            let ok = x.is_finite();
            sum[i] += if ok { x } else { 0.0 };
            min[i] = if ok && x < min[i] { x } else { min[i] };
            max[i] = if ok && x > max[i] { x } else { max[i] };
        }
    });
    // Adding 0 makes a negative zero positive: which zero came first would depend on the lanes.
    m.min = min.iter().copied().fold(m.min, lesser) + 0.0;
    m.max = max.iter().copied().fold(m.max, greater) + 0.0;
    m.absmax = greater(m.max.abs(), m.min.abs());
    m.mean = add_lanes(&sum) / finite as f64;
    m.central_sums(values, nan);
    m
}

impl Moments {
    fn central_sums<T: Copy + Into<f64>>(&mut self, values: &[T], nan: T) {
        let mean = self.mean;
        let (mut m2, mut m3, mut m4) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        by_lanes(values, nan, |row| {
            for i in 0..LANES {
                let x: f64 = row[i].into();
                let d = if x.is_finite() { x - mean } else { 0.0 };
                let square = d * d;
                m2[i] += square;
                m3[i] += square * d;
                m4[i] += square * square;
            }
        });
        (self.m2, self.m3, self.m4) = (add_lanes(&m2), add_lanes(&m3), add_lanes(&m4));
    }

    /// Values that are numbers.
    pub fn finite(&self) -> u64 {
        self.n.saturating_sub(self.nan).saturating_sub(self.inf)
    }

    /// Mean of the finite values.
    pub fn mean(&self) -> Option<f64> {
        (self.finite() > 0).then(|| libm::scalbn(self.mean, self.scale))
    }

    /// Least and greatest finite value.
    pub fn range(&self) -> Option<(f64, f64)> {
        (self.finite() > 0).then_some((self.min, self.max))
    }

    /// Population variance over `4^scale`.
    fn scaled_variance(&self) -> Option<f64> {
        (self.finite() > 0).then(|| self.m2 / self.finite() as f64)
    }

    /// Population variance; `None` also where it leaves the range of f64.
    pub fn variance(&self) -> Option<f64> {
        self.scaled_variance().map(|v| libm::scalbn(v, 2 * self.scale)).filter(|v| v.is_finite())
    }

    /// Population standard deviation.
    pub fn std(&self) -> Option<f64> {
        self.scaled_variance().map(|v| libm::scalbn(libm::sqrt(v), self.scale))
    }

    /// Skewness `m3 / n / std^3`; `None` where all values are equal.
    pub fn skewness(&self) -> Option<f64> {
        let variance = self.scaled_variance().filter(|&v| v > 0.0)?;
        Some(self.m3 / self.finite() as f64 / (variance * libm::sqrt(variance)))
    }

    /// Kurtosis `n * m4 / m2^2`, plain and not excess: 3 for a normal distribution, 1.8 for a uniform one;
    /// `None` where all values are equal.
    pub fn kurtosis(&self) -> Option<f64> {
        (self.m2 > 0.0).then(|| self.finite() as f64 * self.m4 / (self.m2 * self.m2))
    }

    /// `mean(|row mean|) / absmax` over the finished rows; `None` for nothing but zeros.
    pub fn asymmetry(&self) -> Option<f64> {
        let known = self.rows > 0 && self.absmax > 0.0;
        known.then(|| libm::scalbn(self.abs_row_mean_sum / self.rows as f64, self.scale) / self.absmax)
    }

    /// Whether the rows are lopsided enough for a scheme with a minimum: asymmetry above 5 %.
    pub fn worth_asymmetric(&self) -> Option<bool> {
        self.asymmetry().map(|a| a > ASYMMETRY_THRESHOLD)
    }

    /// The same in units of `2^scale`.
    fn in_units(&self, scale: i32) -> Moments {
        let by = self.scale - scale;
        if by == 0 {
            return *self;
        }
        Moments {
            mean: libm::scalbn(self.mean, by),
            m2: libm::scalbn(self.m2, 2 * by),
            m3: libm::scalbn(self.m3, 3 * by),
            m4: libm::scalbn(self.m4, 4 * by),
            abs_row_mean_sum: libm::scalbn(self.abs_row_mean_sum, by),
            scale,
            ..*self
        }
    }

    /// Both intervals in the units of the one with the larger values; zeros have none of their own.
    fn in_common(a: &Moments, b: &Moments) -> (Moments, Moments) {
        let scale = match (a.absmax == 0.0, b.absmax == 0.0) {
            (true, _) => b.scale,
            (_, true) => a.scale,
            _ => a.scale.max(b.scale),
        };
        (a.in_units(scale), b.in_units(scale))
    }
}

/// The central sums of two intervals that both have finite values.
fn merged_sums(a: &Moments, b: &Moments) -> (f64, f64, f64, f64) {
    let (na, nb) = (a.finite() as f64, b.finite() as f64);
    let n = na + nb;
    let delta = b.mean - a.mean;
    // delta over n, so that no intermediate is larger than what it is a part of.
    let r = delta / n;
    let shift = delta * r * na * nb;
    let mean = a.mean + r * nb;
    let m2 = a.m2 + b.m2 + shift;
    let m3 = a.m3 + b.m3 + shift * r * (na - nb) + 3.0 * r * (na * b.m2 - nb * a.m2);
    let m4 = a.m4
        + b.m4
        + shift * r * r * (na * na - na * nb + nb * nb)
        + 6.0 * r * r * (na * na * b.m2 + nb * nb * a.m2)
        + 4.0 * r * (na * b.m3 - nb * a.m3);
    (mean, m2, m3, m4)
}

impl Merge for Moments {
    fn merge(&self, right: &Moments) -> Moments {
        let (left, right) = &Moments::in_common(self, right);
        left.merged(right)
    }

    fn finish_row(&mut self, _: u64, _: f64) {
        if self.finite() > 0 {
            self.rows = 1;
            self.abs_row_mean_sum = self.mean.abs();
        }
    }
}

impl Moments {
    /// Of two intervals in the same units.
    fn merged(&self, right: &Moments) -> Moments {
        let (mean, m2, m3, m4) = match (self.finite(), right.finite()) {
            (_, 0) => (self.mean, self.m2, self.m3, self.m4),
            (0, _) => (right.mean, right.m2, right.m3, right.m4),
            _ => merged_sums(self, right),
        };
        Moments {
            n: self.n.saturating_add(right.n),
            nan: self.nan.saturating_add(right.nan),
            inf: self.inf.saturating_add(right.inf),
            zeros: self.zeros.saturating_add(right.zeros),
            min: lesser(self.min, right.min),
            max: greater(self.max, right.max),
            absmax: greater(self.absmax, right.absmax),
            mean,
            m2,
            m3,
            m4,
            rows: self.rows.saturating_add(right.rows),
            abs_row_mean_sum: self.abs_row_mean_sum + right.abs_row_mean_sum,
            scale: self.scale,
        }
    }
}
