//! Relative error of each encoding on Gaussian data: the limit that a full rotation approaches, whatever the
//! values were.
//!
//! A well-mixed row is Gaussian. The scales of its blocks follow the deviation, so the error relative to the
//! norm of the row is a property of the encoding. It is not a bound: a rotated short block with a single
//! outlier has values of similar magnitude, which blocks represent better than noise.
//!
//! The table is measured, because there is no formula for searched scales: 2^22 normal values in rows of
//! 4096, with deviations spread evenly from 1 to 2, since power-of-two scales depend on the deviation. NVFP4
//! scales lose precision for small weights, so its errors are larger there. The test
//! `by_hand_print_the_table` of the conformance suite prints the table; measured on 2026-11-21.
//!
//! [`scale_floor`] is another limit: the precision of a block's scale field.

use super::Encoding;
use crate::dtype::DType;
use crate::float::Spacing;

/// Interval that a uniform grid covers in a block of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GaussianInterval {
    /// Values that share a scale.
    pub block: u32,
    /// True if the grid spans `-m..m` for the largest magnitude `m`; otherwise from the smallest to the
    /// largest value.
    pub symmetric: bool,
}

/// Interval of the grid of `encoding`, if its steps are equal and its scale follows from the extremes of the
/// block alone.
///
/// `None` for encodings that search for a scale, clip, or have unequal steps.
pub const fn span(encoding: Encoding) -> Option<GaussianInterval> {
    let symmetric = match encoding {
        Encoding::Type(DType::Q4_0 | DType::Q5_0 | DType::Q8_0) | Encoding::LatticeSym => true,
        Encoding::Type(DType::Q4_1 | DType::Q5_1) | Encoding::LatticeAsym => false,
        _ => return None,
    };
    Some(GaussianInterval { block: 32, symmetric })
}

/// Squared error of Gaussian data in `encoding`, divided by the squared norm of the data.
///
/// `None` for types without an encoder, types that require importance weights, and F32, which is exact.
pub fn gaussian_floor(encoding: Encoding) -> Option<f64> {
    TABLE.iter().find(|(e, _)| *e == encoding).map(|(_, floor)| *floor)
}

/// Row of the table for a dtype with a single encoding.
const fn t(dtype: DType, floor: f64) -> (Encoding, f64) {
    (Encoding::Type(dtype), floor)
}

/// Measured relative squared errors.
#[rustfmt::skip]
const TABLE: &[(Encoding, f64)] = &[
    t(DType::Q4_0, 7.38089e-3),
    t(DType::Q4_1, 6.12399e-3),
    t(DType::Q5_0, 1.82333e-3),
    t(DType::Q5_1, 1.43361e-3),
    t(DType::Q8_0, 2.86312e-5),
    t(DType::Q2_K, 8.78728e-2),
    t(DType::Q3_K, 2.27465e-2),
    t(DType::Q4_K, 5.09170e-3),
    t(DType::Q5_K, 1.30472e-3),
    t(DType::Q6_K, 3.14519e-4),
    t(DType::IQ3_XXS, 4.54731e-2),
    t(DType::IQ4_NL, 5.79697e-3),
    t(DType::IQ3_S, 2.75298e-2),
    t(DType::IQ2_S, 7.01509e-2),
    t(DType::IQ4_XS, 5.88638e-3),
    t(DType::TQ1_0, 6.51622e-1),
    t(DType::TQ2_0, 6.51622e-1),
    t(DType::MXFP4, 1.33569e-2),
    t(DType::NVFP4, 9.05386e-3),
    t(DType::Q1_0, 3.60559e-1),
    t(DType::Q2_0, 5.14886e-1),
    (Encoding::LatticeAsym, 6.12399e-3),
    (Encoding::LatticeSym, 9.41277e-3),
    t(DType::F16, 4.30172e-8),
    t(DType::BF16, 2.75362e-6),
];

/// Largest RMS error, in units of the values, that rounding the scales of a type's blocks can explain; for
/// plain floats, rounding of subnormal numbers.
///
/// Rows this small may be decoded as zeros. It is half the smallest step of the scale field (2^-25 for
/// binary16), multiplied by the largest level in units of the scale. 0 if there is no such limit.
pub fn scale_floor(d: DType) -> f64 {
    const HALF: f64 = 1.0 / (1 << 25) as f64;
    let largest_level = match d {
        DType::TQ1_0 | DType::TQ2_0 => 1.0,
        // The scale is the mean magnitude of 128 values, whose RMS is at most 12 times as large (sqrt(128) =
        // 11.3).
        DType::Q1_0 => 12.0,
        DType::Q2_0 => 2.0,
        DType::Q4_0 => 8.0,
        DType::Q4_1 | DType::Q5_0 | DType::LATTICE_Q4 => 16.0,
        DType::IQ1_S | DType::IQ1_M => 17.0,
        DType::Q5_1 => 32.0,
        DType::Q2_K => 60.0,
        DType::Q3_K | DType::Q8_0 | DType::Q8_1 | DType::IQ4_NL => 128.0,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 167.0,
        DType::IQ3_XXS => 481.0,
        DType::IQ3_S => 465.0,
        DType::Q4_K => 1008.0,
        DType::Q5_K => 2016.0,
        DType::Q6_K | DType::IQ4_XS => 4096.0,
        // The scale is an unsigned E4M3 with steps of 2^-9, and the largest code is 6.
        DType::NVFP4 => 6.0 * (1 << 15) as f64,
        _ => return Spacing::of(d).map_or(0.0, |s| s.half(0.0)),
    };
    largest_level * HALF
}
