//! NaN and infinities in plain floats that a job writes.

use super::tile::element;
use super::{Job, Window};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::float::nonfinite;
use crate::metric::Tally;
use crate::plan::NonFinite;

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
