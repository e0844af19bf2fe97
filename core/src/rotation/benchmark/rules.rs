//! The rules that groups of values are rounded by, in binary64. They are the benchmark's, not those of any file.

use crate::float::{f16_to_f32, f32_to_f16};

/// How the scale of a group is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleRule {
    /// Greatest magnitude over `(2^b - 2) / 2`, unrounded; one of the codes is never used.
    MaxAbs,
    /// The value of greatest magnitude becomes the lowest of all `2^b` codes; the scale is a binary16.
    AllCodes,
    /// As [`ScaleRule::AllCodes`], with the least squares over nineteen scales.
    Searched,
}

/// The nearest integer, even of two: exact below 2^51.
fn nearest(x: f64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (x + SHIFT) - SHIFT
}

fn half(x: f64) -> f64 {
    f64::from(f16_to_f32(f32_to_f16(x as f32)))
}

/// Rounds each value of a group to the nearest of `scale` times `low..=top`.
fn round(group: &mut [f64], scale: f64, low: f64, top: f64) {
    for x in group {
        *x = if scale == 0.0 { 0.0 } else { nearest(*x / scale).clamp(low, top) * scale };
    }
}

/// The value of greatest magnitude, the first of equals.
fn loudest(group: &[f64]) -> f64 {
    group.iter().fold(0.0_f64, |most, &x| if x.abs() > most.abs() { x } else { most })
}

/// The least-squares scale over grids on which the loudest value is near the lowest code.
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
    /// Replaces a group by what `bits` per value keep of it.
    pub fn apply(self, group: &mut [f64], bits: u32) {
        let max = loudest(group);
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

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            ScaleRule::MaxAbs => "max-abs",
            ScaleRule::AllCodes => "all codes",
            ScaleRule::Searched => "searched",
        }
    }
}
