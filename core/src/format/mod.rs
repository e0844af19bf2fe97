//! Checkpoints on disk: reading the headers of weight files, and laying out new ones.
//!
//! [`Opening`] turns bytes that a driver reads into a [`Checkpoint`]; each container module reads its header and lays out a
//! new one. Every number of a header is checked against the length of the file. Knows no encodings, no models and no I/O.

mod discover;
pub mod gguf;
mod header_buffer;
pub mod imatrix;
mod index;
pub(crate) mod json;
pub mod limits;
pub mod opening;
pub mod q4;
pub mod safetensors;
mod shards;

pub use opening::{Opening, Root, Want};
pub use q4::Q4IndexEntry;

use crate::bytes::ByteRange;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{Metadata, Shape, TensorInfo};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A way to store a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// One safetensors file, or shards with an index.
    Safetensors,
    /// One GGUF file, or a split set.
    Gguf,
    /// Lattice `.q4` and `.f16` files, one tensor each.
    #[serde(rename = "q4")]
    LatticeQ4,
}

impl Container {
    /// Its name in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Container::Safetensors => "safetensors",
            Container::Gguf => "gguf",
            Container::LatticeQ4 => "q4",
        }
    }
}

/// A file with a header: an index, or a file of weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceFile {
    /// Relative to the root directory, separated by `/`.
    pub name: String,
    /// Length of the whole file.
    pub len: u64,
    /// The bytes that were parsed as header.
    pub header: ByteRange,
    /// SHA-256 of those bytes.
    pub header_sha256: [u8; 32],
}

/// A warning: the work goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The stable code.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
}

impl Warning {
    /// A warning of this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Warning {
        Warning { code, message: message.into() }
    }
}

/// A file beside the weights that belongs to the model: tokenizer, chat template, generation defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Companion {
    /// Relative to the root directory.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
}

/// The checked contents of all headers: each tensor lies inside its file, and no two share a byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its container.
    pub container: Container,
    /// The index, where there is one, then the weight files in name order: the order in which they were opened.
    pub files: Vec<SourceFile>,
    /// Files in order, inside a file by data offset, then by place in the header. Names are unique.
    pub tensors: Vec<TensorInfo>,
    /// GGUF key-values or safetensors `__metadata__` (as strings) of the first weight file.
    pub metadata: Metadata,
    /// GGUF `general.alignment`, else 1.
    pub alignment: u64,
    /// The version of a GGUF file.
    pub gguf_version: Option<u32>,
    /// The bytes of `config.json` beside the weights; well-formed JSON. GGUF carries its own and has none.
    pub config: Option<Vec<u8>>,
    /// Tokenizer and similar files; empty if a single file was opened.
    pub companions: Vec<Companion>,
    /// Entries of `quantize_index.json`, in its order.
    pub q4_index: Option<Vec<Q4IndexEntry>>,
    /// The rotation seed in `quantize_index.json`.
    pub q4_seed: Option<u64>,
    /// Warnings about unusual but valid files.
    pub warnings: Vec<Warning>,
}

/// A tensor to lay out in a new file.
#[derive(Clone, Copy, Debug)]
pub struct LayoutTensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// How its elements are stored.
    pub dtype: DType,
    /// Outermost axis first.
    pub shape: &'a Shape,
}

/// The layout of a new file. Bytes that belong to neither header nor tensor are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// The first bytes of the file, up to the data, padding included.
    pub header: Vec<u8>,
    /// Byte offset of each tensor from the start of the file, in the given order.
    pub offsets: Vec<u64>,
    /// Number of bytes of each tensor, without padding.
    pub sizes: Vec<u64>,
    /// Length of the file in bytes.
    pub file_len: u64,
}

impl FileLayout {
    /// An empty layout with room for this number of tensors.
    fn of(tensors: usize) -> FileLayout {
        let (offsets, sizes) = (Vec::with_capacity(tensors), Vec::with_capacity(tensors));
        FileLayout { header: Vec::new(), offsets, sizes, file_len: 0 }
    }
}

/// Refuses two tensors of the same name.
fn check_names_once<'a>(tensors: impl Iterator<Item = LayoutTensor<'a>>) -> Result<()> {
    let names: Vec<&str> = tensors.map(|t| t.name).collect();
    match json::first_repeated(&names).and_then(|twice| names.get(twice)) {
        Some(name) => Err(Error::new(Code::DuplicateName, "two tensors of one name").of_tensor(name)),
        None => Ok(()),
    }
}
