//! Checkpoint containers: reads headers, and lays out the headers of new files.
//!
//! [`Opening`] turns bytes that a driver reads into a [`Checkpoint`]. Each container module parses its header
//! and lays out a new one. Only headers pass through this module; every number in them is checked against the
//! file before it is used. Knows no encodings and no models, and does no I/O.

pub mod apr;
pub mod companions;
mod discover;
mod foreign;
pub mod gguf;
mod header_buffer;
pub mod imatrix;
mod index;
pub(crate) mod json;
pub mod limits;
mod missing;
pub mod opening;
mod packed;
pub mod q4;
mod reading;
pub mod safetensors;
mod shards;
mod sniff;

pub use apr::AprWriter;
pub use companions::Companions;
pub use discover::{choices, is_weights};
pub use opening::{Opening, Root, Want};
pub use packed::Packing;
pub use q4::Q4IndexEntry;

use crate::bytes::ByteRange;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{Metadata, Name, Shape, TensorInfo};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Container format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    /// One safetensors file, or shards with an index.
    Safetensors,
    /// One GGUF file, or a split set of GGUF files.
    Gguf,
    /// Directory of lattice `.q4` and `.f16` files with one tensor each.
    #[serde(rename = "q4")]
    LatticeQ4,
    /// One APR file, or the shards of one model. Read only.
    Apr,
}

impl Container {
    /// Name of the container in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Container::Safetensors => "safetensors",
            Container::Gguf => "gguf",
            Container::LatticeQ4 => "q4",
            Container::Apr => "apr",
        }
    }
}

/// A file whose header was parsed: an index or a weight file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceFile {
    /// Path relative to the root directory, separated by `/`.
    pub name: String,
    /// Length of the file in bytes.
    pub len: u64,
    /// Byte range of the parsed header.
    pub header: ByteRange,
    /// SHA-256 of the parsed header.
    pub header_sha256: [u8; 32],
}

/// A finding that does not stop the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Stable code.
    pub code: &'static str,
    /// Message for people.
    pub message: String,
}

impl Warning {
    /// A warning of this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Warning {
        Warning { code, message: message.into() }
    }
}

/// A file of the model that holds no weights: tokenizer, chat template, generation defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Companion {
    /// Path relative to the root directory.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
}

/// Content of all headers of a checkpoint, checked: every tensor lies inside its file, and no two tensors
/// share a byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Container format.
    pub container: Container,
    /// Files in the order in which they were opened: the index, if there is one, then the weight files by
    /// name.
    pub files: Vec<SourceFile>,
    /// Tensors by file, then by data offset, then by position in the header. Names are unique.
    pub tensors: Vec<TensorInfo>,
    /// Metadata of the first weight file: GGUF key-values, safetensors `__metadata__` as strings, or the metadata
    /// of APR.
    pub metadata: Metadata,
    /// GGUF `general.alignment` in bytes; 1 for other containers.
    pub alignment: u64,
    /// Version of the GGUF file.
    pub gguf_version: Option<u32>,
    /// Content of `config.json`, if the directory has one, else the same keys from the metadata of APR. Absent for
    /// GGUF, which carries its own metadata.
    ///
    /// Not necessarily valid JSON: Python writes `NaN` and `Infinity`, which gives the warning
    /// `config_not_json`.
    pub config: Option<Vec<u8>>,
    /// Tokenizer files and the like, if a directory was opened.
    pub companions: Vec<Companion>,
    /// Name of the model's directory, where the driver knows it.
    pub folder: Option<String>,
    /// Token ids of [`CHECK_TEXT`](crate::model::tokenizer::CHECK_TEXT), where the driver can encode it.
    pub check_text_ids: Option<Vec<u32>>,
    /// Values of the tensors that a converter computes (`rope_freqs.weight`), by name, where the driver has read them: see
    /// [`hf_values`](crate::plan::hf_values).
    pub computed_tensors: BTreeMap<String, Vec<f32>>,
    /// F32 tensors whose values fit a narrower type exactly, where the driver has looked: see
    /// [`hf_values`](crate::plan::hf_values).
    pub exact_floats: BTreeMap<String, DType>,
    /// Content of the files that a conversion to GGUF reads, if the opening asked for them.
    pub companion_files: Companions,
    /// Entries of `quantize_index.json`, in file order.
    pub q4_index: Option<Vec<Q4IndexEntry>>,
    /// Rotation seed recorded in `quantize_index.json`.
    pub q4_seed: Option<u64>,
    /// Tensors whose [`DType::UNKNOWN`] stands for a number of ggml's types that this version does not know.
    pub unknown_types: Vec<UnknownType>,
    /// What became of the parts of packed weights, which are one tensor each.
    pub packing: Packing,
    /// Unusual but legal properties of the files.
    pub warnings: Vec<Warning>,
}

/// A tensor of an unknown ggml type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnknownType {
    /// The tensor.
    pub tensor: Name,
    /// The number of its type.
    pub id: u32,
}

impl UnknownType {
    /// The type in words: what is known of its number.
    fn label(&self, bitnet: bool) -> String {
        let known = match self.id {
            36 if bitnet => " (I2_S of bitnet.cpp)",
            4 | 5 => " (Q4_2 or Q4_3, removed from ggml in 2023)",
            31..=33 => " (Q4_0 repacked for ARM, removed from ggml: it repacks when loading)",
            36..=38 => " (IQ4_NL repacked for ARM, removed from ggml: it repacks when loading)",
            _ => "",
        };
        format!("type {}{known}", self.id)
    }
}

impl Checkpoint {
    /// The type of a tensor in words: its name, the layout of a packed weight, or the number of an unknown type of ggml.
    pub fn type_name(&self, tensor: &TensorInfo) -> Cow<'static, str> {
        if let Some(packed) = &tensor.packed {
            return packed.label().into();
        }
        if tensor.dtype != DType::UNKNOWN {
            return tensor.dtype.name().into();
        }
        let architecture = self.metadata.text("general.architecture").unwrap_or_default();
        let bitnet =
            architecture.starts_with("bitnet") || self.metadata.uint("general.file_type") == Some(40);
        let found = self.unknown_types.iter().find(|u| u.tensor == tensor.name);
        found.map_or(tensor.dtype.name().into(), |u| u.label(bitnet).into())
    }
}

/// A tensor to lay out in a new file.
#[derive(Clone, Copy, Debug)]
pub struct LayoutTensor<'a> {
    /// Name in the new file.
    pub name: &'a str,
    /// Storage type of the elements.
    pub dtype: DType,
    /// Axis lengths, outermost first.
    pub shape: &'a Shape,
}

/// Header and tensor offsets of a new file. Bytes outside header and tensors are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// First bytes of the file, padding up to the data included.
    pub header: Vec<u8>,
    /// File offset of each tensor, in the order given.
    pub offsets: Vec<u64>,
    /// Size of each tensor in bytes, without padding.
    pub sizes: Vec<u64>,
    /// Length of the file in bytes.
    pub file_len: u64,
}

impl FileLayout {
    /// Creates an empty layout with room for `tensors` entries.
    fn of(tensors: usize) -> FileLayout {
        let (offsets, sizes) = (Vec::with_capacity(tensors), Vec::with_capacity(tensors));
        FileLayout { header: Vec::new(), offsets, sizes, file_len: 0 }
    }
}

/// Refuses duplicate tensor names.
fn check_names_once<'a>(tensors: impl Iterator<Item = LayoutTensor<'a>>) -> Result<()> {
    let names: Vec<&str> = tensors.map(|t| t.name).collect();
    match json::first_repeated(&names).and_then(|duplicate| names.get(duplicate)) {
        Some(name) => Err(Error::new(Code::DuplicateName, "duplicate tensor name").of_tensor(name)),
        None => Ok(()),
    }
}
