//! A plan is the whole work as data: every output, the source of its values, its place, and the reason for its type.
//!
//! Plans depend on headers only, never on memory, threads or engine. A dry run prints a plan; a preview is a plan without
//! places to write. [`convert`] plans files, which a [`target`] lays out, [`measure`] statistics, [`pair`] comparisons, [`rotate`] the rotation of a
//! conversion, [`preview`] the measurement of rotations, [`replay`] the verification of a rotated output, [`lora`] the
//! rotation of a LoRA adapter; [`sample()`] reduces measurements to some rows.

pub mod allocation;
pub mod convert;
pub mod decoded;
mod geometry;
mod gguf_mapping;
mod hf_folder;
mod hf_mapping;
mod hf_pieces;
pub mod hf_values;
mod importance;
pub mod lora;
pub mod measure;
mod operand;
mod output;
pub mod pair;
pub mod preview;
mod provenance;
pub mod replay;
pub mod rotate;
mod sample;
mod segments;
mod source_tensors;
mod streams;
pub mod target;
mod thin_vec;
mod totals;

use crate::format::{Companion, Container};
use crate::recipe::{Reason, Recipe};
use crate::tensor::Name;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use crate::format::Warning;
pub(crate) use geometry::{lcm, rotation_granularity, rows_per_block_boundary};
pub use importance::{ImportancePlanner, ImportanceSource};
pub use operand::{Axis, ColumnRange, Op, Operand, RotationOp, RowMap, Side};
pub use output::{FileRange, Grid, MetricSet, NonFinite, Output};
pub use sample::sample;
pub use segments::{OutputOp, Segment, Segments};
pub use streams::{BlockPart, OutputStream, StoredTensor};
pub use thin_vec::ThinVec;
pub use totals::Totals;

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutFile {
    /// Name inside the output directory; empty if the output is a single file. For a set of files that is no directory, what
    /// follows the name of the output without its extension, until [`target::name_files`] puts that before it.
    pub name: String,
    /// Exact length in bytes.
    pub len: u64,
    /// The first bytes. Every byte that neither this nor an output covers is zero.
    #[serde(skip)]
    pub header: Vec<u8>,
    /// Whether the file is a copy of the source's file of the same name: the driver fills in its bytes as the header.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub copied: bool,
}

impl OutFile {
    /// A file whose bytes are known while planning.
    pub(crate) fn literal(name: &str, bytes: Vec<u8>) -> OutFile {
        OutFile { name: name.into(), len: bytes.len() as u64, header: bytes, copied: false }
    }

    /// A copy of a source's file, whose bytes are not known while planning.
    pub(super) fn copy_of(companion: &Companion) -> OutFile {
        OutFile { name: companion.name.clone(), len: companion.len, header: Vec::new(), copied: true }
    }
}

/// Adds the JSON of a plain struct, which ends where its brackets close. Serialising it cannot fail; an empty text would
/// only weaken the digest.
fn add(hash: &mut Sha256, part: &impl Serialize) {
    hash.update(serde_json::to_vec(part).unwrap_or_default());
}

/// The properties of a plan that writes a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversion {
    /// The recipe.
    pub recipe: Recipe,
    /// The container.
    pub container: Container,
    /// Whether the output is a directory of files.
    pub directory: bool,
    /// The importance matrix, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceSource>,
    /// The rotation, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<rotate::AppliedRotation>,
    /// Tensors of the source that are not written, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// The totals.
    pub totals: Totals,
}

/// A tensor of the source that is not written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub name: Name,
    /// Why it is left out.
    pub reason: Reason,
}

/// The whole work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Every tensor, in the order of the result.
    pub outputs: Vec<Output>,
    /// Every file to write.
    pub files: Vec<OutFile>,
    /// Present for conversions.
    pub conversion: Option<Conversion>,
    /// Warnings for the user.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// A plan that writes nothing.
    pub(super) fn of_measurements(outputs: Vec<Output>, warnings: Vec<Warning>) -> Plan {
        Plan { outputs, files: Vec::new(), conversion: None, warnings }
    }

    /// Whether the output is several files beside each other that are no directory: a split.
    pub fn is_file_set(&self) -> bool {
        self.files.len() > 1 && self.conversion.as_ref().is_some_and(|c| !c.directory)
    }

    /// A SHA-256 digest of everything that decides the bytes: equal for equal plans, on any machine.
    ///
    /// `salt` holds what only the driver knows (version, identity of the source files).
    pub fn fingerprint(&self, salt: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(salt);
        // One by one: the text of the whole would be larger than the plan.
        self.outputs.iter().for_each(|output| add(&mut hash, output));
        add(&mut hash, &(&self.files, &self.conversion, &self.warnings));
        for file in &self.files {
            hash.update((file.header.len() as u64).to_le_bytes());
            hash.update(&file.header);
        }
        hash.finalize().into()
    }
}
