//! What each encoding does to Gaussian noise: the error that a full rotation tends to, whatever the values were.
//!
//! A row that is mixed well is Gaussian, of some deviation; scales of blocks follow the deviation, so the error relative to the
//! row's norm is a property of the encoding. (It is no bound: a short block with one outlier, turned, has values of like magnitude,
//! which blocks hold better than noise.) It is measured (no formula gives that of a searched scale): 2^22 normal values
//! in rows of 4096, their deviations spread evenly from 1 to 2, for scales that are powers of two make more or less of one. (The
//! scales of NVFP4 lose precision where weights are small, and its errors lie above its floor then.)
//! `cargo test -p quantoscope-tests --test conformance by_hand_print_the_table -- --ignored --nocapture` prints the table; 2026-11-21.

use super::Encoding;
use crate::dtype::DType;

/// How a uniform grid is laid over a block of values, where an encoding has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Values that share a scale.
    pub block: u32,
    /// Whether the grid spans `-m..m` for the greatest magnitude `m`; otherwise from the least value to the greatest.
    pub symmetric: bool,
}

/// The grid of `encoding`, where its steps are equal and its scale follows from the ends of the block alone.
///
/// The others search for a scale, clip, or have steps that are not equal.
pub const fn span(encoding: Encoding) -> Option<Span> {
    let symmetric = match encoding {
        Encoding::Type(DType::Q4_0 | DType::Q5_0 | DType::Q8_0) | Encoding::LatticeSym => true,
        Encoding::Type(DType::Q4_1 | DType::Q5_1) | Encoding::LatticeAsym => false,
        _ => return None,
    };
    Some(Span { block: 32, symmetric })
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
