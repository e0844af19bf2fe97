//! The two precisions of rotations: binary32 for weights, on every engine; binary64 for reference
//! computations and the benchmark.

use core::ops::{Add, Mul, Sub};

/// Float type that can be rotated.
pub trait Float: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// Zero.
    const ZERO: Self;

    /// Returns -1 or 1.
    fn sign(negative: bool) -> Self;

    /// Returns `1 / sqrt(n)`, computed in binary64 and rounded to the type.
    fn inverse_root(n: usize) -> Self;
}

impl Float for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn sign(negative: bool) -> f32 {
        if negative { -1.0 } else { 1.0 }
    }

    fn inverse_root(n: usize) -> f32 {
        f64::inverse_root(n) as f32
    }
}

impl Float for f64 {
    const ZERO: f64 = 0.0;

    #[inline(always)]
    fn sign(negative: bool) -> f64 {
        if negative { -1.0 } else { 1.0 }
    }

    fn inverse_root(n: usize) -> f64 {
        1.0 / libm::sqrt(n as f64)
    }
}
