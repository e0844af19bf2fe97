//! The GGUF container: key-values, tensor descriptions, then aligned data, in one file.
//!
//! | field | type |
//! |---|---|
//! | magic `GGUF`, version | 4 bytes, u32 |
//! | number of tensors, number of key-values | u64, u64 |
//! | key-values: key, type, value | string, u32, by type |
//! | tensors: name, axis count, axes (innermost first), type, offset | string, u32, u64 each, u32, u64 |
//! | padding to the alignment, then the data of each tensor, padded | |
//!
//! Numbers are little-endian; a string is a u64 length and its bytes; offsets count from the start of the
//! data.
//!
//! `read` parses headers of versions 2 and 3 incrementally, `layout` writes version 3. Never reads data;
//! knows no keys except `general.alignment` and `split.*`. Specification:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; the checks are those of ggml's `gguf.cpp`.

mod edit;
mod layout;
mod read;
pub(crate) mod value;

pub use edit::{GgufHeader, GgufHeaderOpening, MetadataChanges};
pub use layout::{layout, layout_metadata, layout_of};
pub(crate) use read::GgufReader;
pub(crate) use value::types;

/// Alignment in bytes of a file without `general.alignment`.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// First bytes of a GGUF file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// Key of the alignment of the data.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
