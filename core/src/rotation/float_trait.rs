//! The two precisions that rotations run in: binary32 for weights, on every engine; binary64 for oracles and the
//! benchmark of rotation itself.

use core::ops::{Add, Mul, Sub};

/// A float to rotate with.
pub trait Float: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// 0.
    const ZERO: Self;

    /// -1 or 1.
    fn sign(negative: bool) -> Self;

    /// One over the root of `n`, rounded from binary64.
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
