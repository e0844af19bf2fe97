//! The record of a rotation, as outputs and reports hold it.

use crate::format::SourceFile;
use crate::rotation::Form;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;

/// A file that a rotated checkpoint was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceSeen {
    /// Its name, relative to the root.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its header, in hex.
    pub header_sha256: String,
}

impl SourceSeen {
    pub(super) fn of(file: &SourceFile) -> SourceSeen {
        SourceSeen {
            name: file.name.clone(),
            bytes: file.len,
            header_sha256: file.header_sha256.iter().map(|b| format!("{b:02x}")).collect(),
        }
    }
}

/// What was rotated, how, and from which files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AppliedRotation {
    /// The version of the rules by which seed and form define a matrix.
    pub rules: u32,
    /// The family whose rules were followed.
    pub family: &'static str,
    /// The seed, as text: not every reader of JSON keeps 64 bits.
    pub seed: String,
    /// The rotation of the residual stream; absent if only gains were folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Form>,
    /// The length of a head's value vectors, if they were rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<u64>,
    /// Tensors that were rotated.
    pub tensors: u64,
    /// Elements of these.
    pub elements: u64,
    /// Norms whose gains were folded into the weights that read them.
    pub folded_norms: u64,
    /// The head that a tied model was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_head: Option<String>,
    /// Tensors of multi-token prediction, which are omitted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// The source files.
    pub sources: Vec<SourceSeen>,
}
