//! What each encoding does to Gaussian noise: the error that a full rotation tends to, whatever the values were.
//!
//! A row that is mixed well is Gaussian, of some deviation; scales of blocks follow the deviation, so the error relative to the
//! row's norm is a property of the encoding. (It is no bound: a short block with one outlier, turned, has values of like magnitude,
//! which blocks hold better than noise.) It is measured (no formula gives that of a searched scale): 2^22 normal values
//! in rows of 4096, their deviations spread evenly from 1 to 2, for scales that are powers of two make more or less of one. (The
//! scales of NVFP4 lose precision where weights are small, and its errors lie above its floor then.)
//! [`scale_floor`] is another limit: what a scale's field cannot hold.
//! `cargo test -p quantoscope-tests --test conformance by_hand_print_the_table -- --ignored --nocapture` prints the table; 2026-11-21.

use super::Encoding;
use crate::dtype::DType;
use crate::float::Spacing;

/// How a uniform grid is laid over a block of values, where an encoding has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GaussianInterval {
    /// Values that share a scale.
    pub block: u32,
    /// Whether the grid spans `-m..m` for the greatest magnitude `m`; otherwise from the least value to the greatest.
    pub symmetric: bool,
}

/// The grid of `encoding`, where its steps are equal and its scale follows from the ends of the block alone.
///
/// The others search for a scale, clip, or have steps that are not equal.
pub const fn span(encoding: Encoding) -> Option<GaussianInterval> {
    let symmetric = match encoding {
        Encoding::Type(DType::Q4_0 | DType::Q5_0 | DType::Q8_0) | Encoding::LatticeSym => true,
        Encoding::Type(DType::Q4_1 | DType::Q5_1) | Encoding::LatticeAsym => false,
        _ => return None,
    };
    Some(GaussianInterval { block: 32, symmetric })
}

/// Squared error of Gaussian noise in `encoding`, relative to its square.
///
/// Absent for types that are not written, need importance weights, or store what they are given.
pub fn gaussian_floor(encoding: Encoding) -> Option<f64> {
    TABLE.iter().find(|(e, _)| *e == encoding).map(|(_, floor)| *floor)
}

const fn t(dtype: DType, floor: f64) -> (Encoding, f64) {
    (Encoding::Type(dtype), floor)
}

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

/// The root mean square error that rounding the scales of a type's blocks (of a float type: its subnormal numbers) can alone
/// explain, in units of the values: rows that small may come out as zeros. 0 where there is no such limit.
///
/// Half of the least step of the scale's field, 2^-25 for binary16, times the largest value that a code can have in units of
/// the scale.
pub fn scale_floor(d: DType) -> f64 {
    const HALF: f64 = 1.0 / (1 << 25) as f64;
    let times = match d {
        DType::TQ1_0 | DType::TQ2_0 => 1.0,
        // Its scale is the mean magnitude of 128 values, of which the root mean square is at most this many times as large.
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
        // The scale is a UE4M3 with steps of 2^-9, and its largest code is 6.
        DType::NVFP4 => 6.0 * (1 << 15) as f64,
        _ => return Spacing::of(d).map_or(0.0, |s| s.half(0.0)),
    };
    times * HALF
}
