//! Elements that are counted, and the first of them: values that are no numbers, and differences beyond rounding.

use super::tile::element;
use super::{Job, Window};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::float::nonfinite;
use crate::plan::NonFinite;
use serde::Serialize;

/// Elements of a kind that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The first of them, row-major.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
}

impl Tally {
    /// Adds what another window counted; the order of windows does not matter.
    pub fn merge(&mut self, other: &Tally) {
        self.count += other.count;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// NaN and infinities in plain floats that are written: `bytes` are those of `tile`, a part of the window. Refuses the first
/// where the plan does.
pub(super) fn passed(job: &Job, tile: &Window, dtype: DType, bytes: &[u8]) -> Result<Tally> {
    let found = match job.metrics.nonfinite {
        NonFinite::Ignored => None,
        NonFinite::Refused | NonFinite::Counted => nonfinite(dtype, bytes),
    };
    let Some((index, count)) = found else { return Ok(Tally::default()) };
    match job.metrics.nonfinite {
        NonFinite::Counted => Ok(Tally { count, first: Some(element(job, tile, index as u64)) }),
        _ => {
            let message =
                "the value is NaN or infinite; --allow-nonfinite lets such values pass in plain floats";
            Err(Error::new(Code::NonFinite, message).element(element(job, tile, index as u64)))
        }
    }
}
