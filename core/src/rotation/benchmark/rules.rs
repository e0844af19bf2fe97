//! Scale rules of the benchmark, in binary64. They belong to the benchmark, not to any file format.

use crate::float::{f16_to_f32, f32_to_f16};

/// Rule that chooses the scale of a group; `b` is the number of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleRule {
    /// Largest magnitude divided by `(2^b - 2) / 2`, not rounded; one code is never used.
    MaxAbs,
    /// The value of largest magnitude gets the lowest of all `2^b` codes; the scale is rounded to binary16.
    AllCodes,
    /// As [`ScaleRule::AllCodes`], with the least-squares scale over nineteen candidates.
    Searched,
}

/// Rounds to the nearest integer, halves to even; exact below 2^51.
fn nearest(x: f64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (x + SHIFT) - SHIFT
}

/// Rounds to binary16.
fn half(x: f64) -> f64 {
    f64::from(f16_to_f32(f32_to_f16(x as f32)))
}

/// Replaces each value by the nearest multiple `low..=top` of `scale`.
fn round(group: &mut [f64], scale: f64, low: f64, top: f64) {
    for x in group {
        *x = if scale == 0.0 { 0.0 } else { nearest(*x / scale).clamp(low, top) * scale };
    }
}

/// The value of largest magnitude, with its sign; of equal ones the first.
fn signed_absmax(group: &[f64]) -> f64 {
    group.iter().fold(0.0_f64, |most, &x| if x.abs() > most.abs() { x } else { most })
}

/// Least-squares scale over candidate grids that put the value of largest magnitude near the lowest code.
fn searched(group: &[f64], max: f64, half_codes: f64) -> f64 {
    let (mut best, mut scale) = (-1.0, 0.0);
    for k in -9..=9 {
        let inverse = -(half_codes + 0.1 * f64::from(k)) / max;
        let (mut cross, mut square) = (0.0, 0.0);
        for &x in group {
            let q = nearest(x * inverse).clamp(-half_codes, half_codes - 1.0);
            cross += x * q;
            square += q * q;
        }
        if square > 0.0 && cross * cross > best * square {
            best = cross * cross / square;
            scale = cross / square;
        }
    }
    scale
}

impl ScaleRule {
    /// Quantizes and dequantizes a group with `bits` per value.
    pub fn apply(self, group: &mut [f64], bits: u32) {
        let max = signed_absmax(group);
        if max == 0.0 {
            return;
        }
        let codes = f64::from(1_u32 << bits);
        match self {
            ScaleRule::MaxAbs => {
                let top = (codes - 2.0) / 2.0;
                round(group, max.abs() / top, -top, top + 1.0);
            }
            ScaleRule::AllCodes => round(group, half(max / (-codes / 2.0)), -codes / 2.0, codes / 2.0 - 1.0),
            ScaleRule::Searched => {
                let scale = half(searched(group, max, codes / 2.0));
                round(group, scale, -codes / 2.0, codes / 2.0 - 1.0);
            }
        }
    }

    /// Name of the rule in tables.
    pub const fn name(self) -> &'static str {
        match self {
            ScaleRule::MaxAbs => "max-abs",
            ScaleRule::AllCodes => "all codes",
            ScaleRule::Searched => "searched",
        }
    }
}
