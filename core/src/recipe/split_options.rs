//! How an output is split into files.

use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// The limits of each file of an output. Without a limit, the output is one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// Most tensors of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tensors: Option<u64>,
    /// Most bytes of the tensors of a file, without header and padding. A larger tensor has a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Whether the first file of a GGUF split holds metadata only.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub no_tensor_first: bool,
    /// Whether each tensor stays in the file of its number that it has in the source.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub keep: bool,
}

impl SplitOptions {
    /// Whether the output is one file.
    pub fn is_none(&self) -> bool {
        *self == SplitOptions::default()
    }

    /// Refuses limits of 0, and limits together with the files of the source.
    ///
    /// # Errors
    ///
    /// `usage`.
    pub fn check(&self) -> Result<()> {
        let usage = |message: &'static str| Err(Error::new(Code::Usage, message));
        if self.max_tensors == Some(0) || self.max_bytes == Some(0) {
            return usage("a file of a split holds at least one tensor and one byte");
        }
        if self.keep && (self.max_tensors.is_some() || self.max_bytes.is_some() || self.no_tensor_first) {
            return usage("--keep-split keeps the files of the input; leave out the limits of a split");
        }
        Ok(())
    }
}
