//! Refusals of encoders, decoders and transcoders, and their error codes. Knows no codec.

use super::block::LEN;
use crate::error::{Code, Error};

/// Why an encoder, decoder or transcoder refuses its input. Indices count from the start of the input slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// NaN or infinity, which the encoding cannot store; the first one.
    NonFinite {
        /// Index of the value.
        index: usize,
    },
    /// A finite value for which a binary16 field of the block would be infinite.
    F16Overflow {
        /// Index of the value.
        index: usize,
    },
    /// A finite value that bfloat16 would round to infinity.
    BF16Overflow {
        /// Index of the value.
        index: usize,
    },
    /// A finite binary64 value that binary32 would round to infinity.
    F32Overflow {
        /// Index of the value.
        index: usize,
    },
    /// A block that the target of a lossless transcode cannot represent.
    NotExact {
        /// Index of the block.
        block: usize,
    },
    /// The encoding requires importance weights, and none were given.
    NeedsImportance,
    /// The type has no such codec. Plans contain supported types only, so this is a defect of the caller.
    NoCodec,
}

impl EncodeError {
    /// Converts to [`Error`]; its element counts from the start of the slice.
    pub fn error(self) -> Error {
        let new = |code, message: &str, at: usize| Error::new(code, message).element(at as u64);
        match self {
            EncodeError::NonFinite { index } => {
                new(Code::NonFinite, "contains NaN or Inf: cannot be quantized", index)
            }
            EncodeError::F16Overflow { index } => {
                new(Code::F16Overflow, "the value is too large for the 16-bit float that must hold it", index)
            }
            EncodeError::BF16Overflow { index } => {
                new(Code::BF16Overflow, "the value is too large for BF16: it would become infinite", index)
            }
            EncodeError::F32Overflow { index } => {
                new(Code::F32Overflow, "the value is too large for F32: it would become infinite", index)
            }
            EncodeError::NotExact { block } => {
                let at = block as u64 * LEN as u64;
                Error::new(Code::NotExact, "the block cannot be transcoded without changing its values")
                    .element(at)
            }
            EncodeError::NeedsImportance => {
                Error::new(Code::NeedsImportance, "this type requires an importance matrix (imatrix)")
            }
            EncodeError::NoCodec => {
                Error::new(Code::UnsupportedDtype, "this type cannot be decoded or encoded")
            }
        }
    }

    /// Adds `elements` to the index: converts it for a slice that starts that many elements earlier.
    #[must_use]
    pub fn shifted(self, elements: usize) -> EncodeError {
        match self {
            EncodeError::NonFinite { index } => EncodeError::NonFinite { index: index + elements },
            EncodeError::F16Overflow { index } => EncodeError::F16Overflow { index: index + elements },
            EncodeError::BF16Overflow { index } => EncodeError::BF16Overflow { index: index + elements },
            EncodeError::F32Overflow { index } => EncodeError::F32Overflow { index: index + elements },
            EncodeError::NotExact { block } => EncodeError::NotExact { block: block + elements / LEN },
            EncodeError::NeedsImportance | EncodeError::NoCodec => self,
        }
    }
}

impl From<EncodeError> for Error {
    fn from(r: EncodeError) -> Error {
        r.error()
    }
}
