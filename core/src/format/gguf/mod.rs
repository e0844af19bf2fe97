//! GGUF: key-values, tensor descriptions, then aligned data, all in one file.
//!
//! `read` parses the header of versions 2 and 3 a few bytes at a time, `layout` writes version 3. Never looks at
//! data and knows no architecture's keys beyond `general.alignment` and `split.*`.
//! Spec: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; the checks are those of ggml's `gguf.cpp`.

mod layout;
mod read;
pub(crate) mod value;

pub use layout::{layout, layout_of};
pub(crate) use read::GgufReader;

/// Alignment of a file that names none.
pub const DEFAULT_ALIGNMENT: u64 = 32;

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// The key that sets the alignment of the data.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
