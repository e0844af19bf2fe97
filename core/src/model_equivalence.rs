//! What must hold before a rotated artefact gets its name: it computes what its source does.
//!
//! Two forward passes in binary64 over the same few tokens, one with the source's values, one with those that the plan
//! makes of them *before* they are rounded to the types that are written. That every element is where the algebra puts it
//! is verified while a job runs; this verifies that the algebra is the model's.

pub use crate::model_pass::{ModelPass, TensorRequest};

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;
use serde::Serialize;

/// How many tokens are tried where nothing else is asked for.
pub const TOKENS: u32 = 4;
/// By how much logits may differ, in units of the largest (or of 1, if that is more).
pub const TOLERANCE: f64 = 1e-5;

/// Tokens to try: a fixed sequence for each seed.
pub fn tokens(seed: u64, count: u32, vocabulary: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 32) % vocabulary.max(1) as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// What two passes say of each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Equivalence {
    /// Tokens that were tried.
    pub tokens: u32,
    /// The largest absolute difference of two logits.
    pub max: f64,
    /// The mean absolute difference.
    pub mean: f64,
    /// The largest magnitude of a logit of the source.
    pub largest_logit: f64,
    /// What `max` must not exceed.
    pub limit: f64,
}

/// Compares the logits of source and plan.
///
/// # Errors
///
/// `rotation_off` if they differ by more than the tolerance.
pub fn compare_logits(
    source: &ModelPass,
    planned: &ModelPass,
    count: u32,
    tolerance: f64,
) -> Result<Equivalence> {
    let (a, b) = (source.logits(), planned.logits());
    let mut found = Equivalence { tokens: count, max: 0.0, mean: 0.0, largest_logit: 0.0, limit: 0.0 };
    for (x, y) in a.iter().zip(b) {
        let off = (x - y).abs();
        // Not a number is the worst of all, and stays.
        found.max = if off > found.max || off.is_nan() { off } else { found.max };
        found.mean += off / a.len() as f64;
        found.largest_logit = found.largest_logit.max(x.abs());
    }
    found.limit = tolerance * found.largest_logit.max(1.0);
    let sound = a.len() == b.len() && !a.is_empty() && found.max <= found.limit;
    let message = || {
        format!(
            "the rotated model does not compute what its source does: logits differ by up to {:.3e}, and {:.3e} is allowed; nothing is written",
            found.max, found.limit
        )
    };
    if sound { Ok(found) } else { Err(Error::new(Code::RotationOff, message())) }
}
