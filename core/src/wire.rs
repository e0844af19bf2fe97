//! Byte form of what leaves the memory of one run: records of finished windows for journals, worker pools and runs that
//! are spread over machines. Knows no files.
//!
//! The encoding is [postcard](https://postcard.jamesmunns.com/wire-format.html): little-endian, variable-length integers,
//! exact floats. It describes itself nowhere, so whoever stores it stores [`VERSION`] beside it.

use crate::error::{Code, Error, Result};
use crate::job::{Job, Window};
use crate::metric::Measurements;
use alloc::format;
use alloc::vec::Vec;
use core::cmp::Ordering;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the byte form. Raised when an encoded type changes.
pub const VERSION: u32 = 1;

/// Which window of which output: the key of a job within its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobKey {
    /// Index in [`Plan::outputs`](crate::plan::Plan::outputs).
    pub output: u32,
    /// The part of the output's grid.
    pub window: Window,
}

impl JobKey {
    /// The key of `job`.
    pub fn of(job: &Job) -> JobKey {
        JobKey { output: job.output, window: job.window.clone() }
    }

    fn order(&self) -> [u64; 5] {
        let Window { rows, cols } = &self.window;
        [self.output.into(), rows.start, cols.start, rows.end, cols.end]
    }
}

impl Ord for JobKey {
    /// The order in which a plan's windows are handed out.
    fn cmp(&self, other: &JobKey) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for JobKey {
    fn partial_cmp(&self, other: &JobKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A finished window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which window.
    pub key: JobKey,
    /// Whether a device computed some of its bytes.
    pub device: bool,
    /// What was measured in it.
    pub measurements: Measurements,
}

/// The bytes of `value`.
///
/// # Errors
///
/// `overflow`, for a type without a byte form: never for the types of this module.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(|e| Error::new(Code::Overflow, format!("no byte form: {e}")))
}

/// Reads back what [`encode`] returned. All of `bytes` must be used.
///
/// # Errors
///
/// `bad_value` where the bytes are not those of such a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let bad = |text| Error::new(Code::BadValue, text);
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(bad("bytes are left over after a record")),
        Err(_) => Err(bad("the bytes are not those of a record")),
    }
}
