//! A plan is the whole work as data: every output, the source of its values, its place, and the reason for its type.
//!
//! Plans depend on headers only, never on memory, threads or engine. A dry run prints a plan; a preview is a plan without
//! places to write. [`convert`] plans files, which a [`target`] lays out, [`measure`] statistics, [`pair`] comparisons, [`rotate`] the rotation of a
//! conversion, [`preview`] the measurement of rotations, [`replay`] the verification of a rotated output, [`lora`] the
//! rotation of a LoRA adapter; [`sample()`] reduces measurements to some rows.

pub mod convert;
mod geometry;
mod importance;
pub mod lora;
pub mod measure;
mod operand;
pub mod pair;
pub mod preview;
mod provenance;
pub mod replay;
pub mod rotate;
mod sample;
mod segments;
mod source_tensors;
pub mod target;
mod thin_vec;
mod totals;

use crate::dtype::{DType, DTypeKind};
use crate::format::{Companion, Container};
use crate::quant::Encoding;
use crate::recipe::{Action, Decision, Reason, Recipe};
use crate::tensor::{Name, Shape, TensorInfo};
use alloc::string::String;
use alloc::vec::Vec;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use crate::format::Warning;
pub(crate) use geometry::{lcm, rotation_granularity, rows_per_block_boundary};
pub use importance::{ImportancePlanner, ImportanceSource};
pub use operand::{Axis, ColumnRange, Op, Operand, RotationOp, RowMap, Side};
pub use sample::sample;
pub use segments::{OutputOp, Segment, Segments};
pub use thin_vec::ThinVec;
pub use totals::Totals;

/// Rows and columns that windows and metrics run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// Number of rows.
    pub rows: u64,
    /// Elements of each row.
    pub cols: u64,
}

impl Grid {
    /// The grid of a shape: its innermost axis is the row.
    pub fn of(shape: &Shape) -> Grid {
        Grid { rows: shape.rows(), cols: shape.cols() }
    }
}

/// A range of bytes of an output file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileRange {
    /// Index in [`Plan::files`].
    pub file: u32,
    /// Byte offset in that file.
    pub at: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// The policy for NaN and infinities in the plain floats that a conversion writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// They are not searched for.
    #[default]
    Ignored,
    /// The first one ends the work.
    Refused,
    /// They are written and counted.
    Counted,
}

/// What is measured while the values are in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricSet {
    /// Moments of the source values.
    pub moments: bool,
    /// Histogram of the source values.
    pub histogram: bool,
    /// Error of the written or compared values against the source.
    pub error: bool,
    /// Error of each of these encodings.
    pub encodings: ThinVec<Encoding>,
    /// For each of these encodings, whether encoding the source yields exactly the candidate's bytes.
    pub identity: ThinVec<Encoding>,
    /// Whether each element differs from the candidate's by more than rounding, if both are plain floats.
    pub rounding: bool,
    /// The root mean square error up to which a row counts as exact; see [`crate::metric::Merge::finish_row`].
    pub row_floor: f64,
    /// The policy for NaN and infinities in plain floats that are written.
    pub nonfinite: NonFinite,
}

impl MetricSet {
    /// Whether any measurement needs decoded values.
    pub fn measures(&self) -> bool {
        let listed = !self.encodings.is_empty() || !self.identity.is_empty();
        self.moments || self.histogram || self.error || self.rounding || listed
    }
}

/// One tensor of the work: written, measured or both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Output {
    /// Its name in the result.
    pub name: Name,
    /// How it is stored in the result (for measurements: in the source).
    pub dtype: DType,
    /// Its shape, outermost axis first.
    pub shape: Shape,
    /// Rows and columns of the work: those of the shape, or fewer rows where a sample is measured.
    pub grid: Grid,
    /// Its range in a file; absent if it is only measured.
    pub place: Option<FileRange>,
    /// The sources of its values, in order of rows and without gaps.
    pub segments: Segments,
    /// What is measured.
    pub metrics: MetricSet,
    /// The reason for its type.
    pub reason: Reason,
}

/// Adds the JSON of a plain struct, which ends where its brackets close. Serialising it cannot fail; an empty text would
/// only weaken the digest.
fn add(hash: &mut Sha256, part: &impl Serialize) {
    hash.update(serde_json::to_vec(part).unwrap_or_default());
}

impl Output {
    /// What `decision` makes of tensor number `index`, without a place. With `measure`, the error of an encoding is
    /// measured.
    pub(super) fn converted(
        index: usize,
        tensor: &TensorInfo,
        decision: Decision,
        recipe: &Recipe,
        measure: bool,
    ) -> Output {
        let mut from = Operand::whole(Side::Source, index, tensor);
        let mut grid = Grid::of(&tensor.shape);
        let (dtype, op) = match decision.action {
            Action::Copy => {
                // Plain floats are searched for NaN and infinities; everything else is copied as bytes.
                let floats = tensor.dtype.kind() == DTypeKind::Float && tensor.dtype.block_len() == 1;
                from.dtype = if floats { tensor.dtype } else { DType::U8 };
                grid = Grid { rows: 1, cols: tensor.bytes.len() / from.dtype.block_bytes() };
                (tensor.dtype, OutputOp::Copy)
            }
            Action::Transcode(to) => (to, OutputOp::Transcode(to)),
            Action::Encode(encoding) => (encoding.dtype(), OutputOp::Encode(encoding)),
        };
        let error = measure && matches!(op, OutputOp::Encode(_));
        let nonfinite = if recipe.allow_nonfinite { NonFinite::Counted } else { NonFinite::Refused };
        Output {
            name: tensor.name.clone(),
            dtype,
            shape: tensor.shape.clone(),
            grid,
            place: None,
            segments: Segment::whole(grid, from, op).into(),
            metrics: MetricSet { error, nonfinite, ..MetricSet::default() },
            reason: decision.reason,
        }
    }

    /// Whether a rotation changes its values.
    pub fn is_rotated(&self) -> bool {
        let rotates = |op: &Op| !matches!(op, Op::Add(_) | Op::Mean(_));
        self.segments.iter().any(|s| s.from.ops.iter().any(rotates))
    }

    /// The element of the measured tensor that is element `at` of the grid, both row-major.
    pub fn element(&self, at: u64) -> u64 {
        let cols = self.grid.cols.max(1);
        let (row, col) = (at / cols, at % cols);
        let segment = self.segments.iter().find(|s| s.rows.contains(&row));
        segment.map_or(at, |s| {
            let columns = s.from.columns.as_deref().copied().unwrap_or(ColumnRange { at: 0, of: cols });
            (row - s.rows.start + s.from.row) * columns.of + columns.at + col
        })
    }
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutFile {
    /// Name inside the output directory; empty if the output is a single file.
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
    /// The totals.
    pub totals: Totals,
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
