//! A plan is the whole work as data: every output, where its bytes come from and go, and why.
//!
//! Plans depend on headers only, never on memory, threads or engine. A dry run is a plan, printed; a preview is a
//! plan without places to write. [`convert`] plans files, [`measure`] plans statistics, [`pair`] plans comparisons,
//! [`rotate`] turns what a conversion writes, [`preview`] measures what that would gain, [`replay`] makes it again,
//! [`lora`] turns what was trained on it, and [`sample()`] makes some rows do for all.

pub mod convert;
mod importance;
pub mod lora;
pub mod measure;
mod metadata;
pub mod pair;
pub mod preview;
pub mod replay;
pub mod rotate;
mod sample;
mod segments;
mod thin_vec;

use crate::dtype::DType;
use crate::format::Container;
use crate::quant::Encoding;
use crate::recipe::{Reason, Recipe};
use crate::rotation::Form;
use crate::tensor::{FileId, Name, Shape};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use crate::format::Warning;
pub use importance::{ImportancePlanner, ImportanceSource};
pub use sample::sample;
pub use segments::Segments;
pub use thin_vec::ThinVec;

/// Which checkpoint a read is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The input, or the reference of a comparison.
    Source,
    /// The other side of a comparison.
    Candidate,
    /// The importance matrix.
    Importance,
}

/// How rows of an operand are ordered against the rows of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowMap {
    /// As they are.
    Identity,
    /// Within each head of this many rows, output row `a * half + b` is operand row `b * 2 + a`: how llama.cpp's
    /// converter interleaves the two rotary halves of query and key projections.
    RotaryHalves {
        /// Rows of one head, even.
        head: u64,
    },
}

impl RowMap {
    /// Rows that must stay together in a window.
    pub fn group(self) -> u64 {
        match self {
            RowMap::Identity => 1,
            RowMap::RotaryHalves { head } => head,
        }
    }
}

/// Along which side of a grid vectors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// A vector is (a part of) a row: it runs along the columns.
    #[serde(rename = "columns")]
    In,
    /// A vector is (a part of) a column: it runs along the rows.
    #[serde(rename = "rows")]
    Out,
}

/// A rotation of the vectors of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RotationOp {
    /// Along which side.
    pub axis: Axis,
    /// Where on it the vectors begin: a row of the piece, or a column.
    pub at: u64,
    /// How long they are.
    pub len: u64,
    /// Which rotation.
    pub form: Form,
    /// Its seed.
    pub seed: u64,
}

/// A step on decoded values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Adds a constant to every value (Gemma's norms are stored with one added in GGUF).
    Add(f32),
    /// Makes a mean of every sum over so many; of no sums, ones.
    Mean(f32),
    /// Every value becomes this.
    Set(f32),
    /// Every vector is multiplied by [`Segment::gain`], value by value.
    Gain(Axis),
    /// Every vector is divided by it.
    Ungain(Axis),
    /// Every vector is rotated.
    Rotate(RotationOp),
}

impl Op {
    /// Along which side its vectors run, where it has vectors.
    pub fn axis(&self) -> Option<Axis> {
        match self {
            Op::Gain(along) | Op::Ungain(along) => Some(*along),
            Op::Rotate(turn) => Some(turn.axis),
            Op::Add(_) | Op::Mean(_) | Op::Set(_) => None,
        }
    }
}

/// A tensor, or a run of its rows, as the input of a piece.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operand {
    /// Which checkpoint.
    pub side: Side,
    /// Index in that checkpoint's tensors.
    pub tensor: u32,
    /// The file that holds it.
    pub file: FileId,
    /// Byte offset of the tensor's first element.
    pub at: u64,
    /// How its elements are stored.
    pub dtype: DType,
    /// The row of the tensor that is row 0 of the piece.
    pub row: u64,
    /// Which of the tensor's columns are those of the piece; absent where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Box<ColumnRange>>,
    /// How its rows are ordered.
    pub map: RowMap,
    /// What happens to its values after decoding.
    pub ops: ThinVec<Op>,
}

/// As many columns of a tensor as the grid has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnRange {
    /// The first.
    pub at: u64,
    /// Columns of the tensor.
    pub of: u64,
}

/// What becomes of a piece's values or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputOp {
    /// The source's bytes, as they are. The grid of such an output is bytes: one row of `U8`.
    Copy,
    /// The source's blocks, rearranged without loss.
    Transcode(DType),
    /// The values, encoded.
    Encode(Encoding),
    /// Nothing is written; the values are measured.
    Measure,
}

/// Consecutive rows of an output that come from one operand. Most pieces have no other: the others are kept apart, so that
/// the plan of a million tensors stays small.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// Rows of the output.
    pub rows: Range<u64>,
    /// Where the values come from.
    pub from: Operand,
    /// What they are compared with, in comparisons.
    pub against: Option<Box<Operand>>,
    /// One weight for each column, for encodings that use them: a row of the importance matrix.
    pub importance: Option<Box<Operand>>,
    /// The gain that [`Op::Gain`] and [`Op::Ungain`] take: a vector tensor.
    pub gain: Option<Box<Operand>>,
    /// What becomes of them.
    pub op: OutputOp,
}

impl Segment {
    /// Whether its vectors run along the rows, so that it is whole or nothing.
    pub fn runs_along_rows(&self) -> bool {
        self.from.ops.iter().any(|op| op.axis() == Some(Axis::Out))
    }

    /// The rows `rows` of the output, which lie in the piece, as a piece from row `at` of an output on.
    pub(crate) fn slice(&self, rows: Range<u64>, at: u64) -> Segment {
        let skipped = rows.start - self.rows.start;
        let later = |o: &Operand| Operand { row: o.row + skipped, ..o.clone() };
        Segment {
            rows: at..at + (rows.end - rows.start),
            from: later(&self.from),
            against: self.against.as_deref().map(later).map(Box::new),
            importance: self.importance.clone(),
            gain: self.gain.clone(),
            op: self.op,
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(crate) fn lcm(a: u64, b: u64) -> u64 {
    a / gcd(a, b).max(1) * b
}

/// Rows of `cols` after which the blocks of all of `dtypes` end. More than one where a flat type's blocks may straddle
/// rows: then only whole groups of rows fall on block borders.
pub(crate) fn rows_per_block_boundary(cols: u64, dtypes: impl Iterator<Item = DType>) -> u64 {
    dtypes.filter(|d| d.is_flat()).fold(1, |g, d| lcm(g, d.block_len() / gcd(cols, d.block_len())))
}

/// After how many rows or columns a window may end without splitting a rotated vector; `extent` where only at the end.
pub(crate) fn rotation_granularity(ops: &[Op], along: Axis, extent: u64) -> u64 {
    let turns = || {
        ops.iter().filter_map(|op| match op {
            Op::Rotate(turn) if turn.axis == along => Some(turn),
            _ => None,
        })
    };
    let Some(first) = turns().next() else { return 1 };
    let period = turns().nth(1).map_or(extent, |second| second.at.saturating_sub(first.at));
    let holds = |step: u64| turns().all(|t| step > 0 && t.at / step == (t.at + t.len - 1) / step);
    [first.len, period].into_iter().find(|&step| holds(step)).unwrap_or(extent).max(1)
}

/// Rows and columns that windows and metrics run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// Number of rows.
    pub rows: u64,
    /// Columns of each row.
    pub cols: u64,
}

impl Grid {
    /// The grid of a shape.
    pub fn of(shape: &Shape) -> Grid {
        Grid { rows: shape.rows(), cols: shape.cols() }
    }
}

/// Where an output's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileRange {
    /// Index in [`Plan::files`].
    pub file: u32,
    /// Byte offset in that file.
    pub at: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// What is done about NaN and infinities in the plain floats that a conversion writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// Nothing: they are not looked for.
    #[default]
    Ignored,
    /// The first one ends the work.
    Refused,
    /// They pass, and are counted.
    Counted,
}

/// What is measured while the values are in hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricSet {
    /// Moments of the source values.
    pub moments: bool,
    /// Histogram of the source values.
    pub histogram: bool,
    /// Error of the written or compared values against the source.
    pub error: bool,
    /// Error that each of these encodings would make.
    pub encodings: ThinVec<Encoding>,
    /// Whether encoding the source so gives exactly the candidate's bytes.
    pub identity: ThinVec<Encoding>,
    /// Whether each element differs from the candidate's by more than rounding, where both are plain floats.
    pub rounding: bool,
    /// The root mean square error up to which a row counts as right; see [`crate::metric::Merge::finish_row`].
    pub row_floor: f64,
    /// What is done about NaN and infinities in plain floats that are written.
    pub nonfinite: NonFinite,
}

impl MetricSet {
    /// Whether the values themselves are of interest, beyond the bytes made of them.
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
    /// Its shape.
    pub shape: Shape,
    /// Rows and columns of the work: those of the shape, or fewer rows where a sample is measured.
    pub grid: Grid,
    /// Where the bytes go, if anywhere.
    pub place: Option<FileRange>,
    /// Where the values come from, covering all rows in order.
    pub segments: Segments,
    /// What is measured.
    pub metrics: MetricSet,
    /// Why it is treated so.
    pub reason: Reason,
}

/// Adds the JSON of a plain struct, which ends where its brackets close. Making it cannot fail; an empty text would only
/// weaken the digest.
fn add(hash: &mut Sha256, part: &impl Serialize) {
    hash.update(serde_json::to_vec(part).unwrap_or_default());
}

impl Output {
    /// Whether a rotation has a part for it.
    pub fn is_rotated(&self) -> bool {
        let turns = |op: &Op| !matches!(op, Op::Add(_) | Op::Mean(_));
        self.segments.iter().any(|p| p.from.ops.iter().any(turns))
    }

    /// The element of the measured tensor that element `at` of the grid is.
    pub fn element(&self, at: u64) -> u64 {
        let cols = self.grid.cols.max(1);
        let (row, col) = (at / cols, at % cols);
        let piece = self.segments.iter().find(|p| p.rows.contains(&row));
        piece.map_or(at, |p| {
            let strip = p.from.columns.as_deref().copied().unwrap_or(ColumnRange { at: 0, of: cols });
            (row - p.rows.start + p.from.row) * strip.of + strip.at + col
        })
    }
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutFile {
    /// Name inside the artefact's directory; empty where the artefact is one file.
    pub name: String,
    /// Exact length.
    pub len: u64,
    /// The bytes at its start. Whatever neither this nor an output covers is zero.
    #[serde(skip)]
    pub header: Vec<u8>,
}

/// What a conversion adds up to. Bytes are exact; what cannot be computed is absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Spans of the tensors that are read, each once.
    pub total_bytes_in: u64,
    /// Lengths of all source files.
    pub source_file_bytes: u64,
    /// Lengths of all files that are written.
    pub total_bytes_out: u64,
    /// Bytes of all tensors that are written, without headers and padding.
    pub tensor_bytes_out: u64,
    /// Tensors that are quantized (to a block type).
    pub planned_quantized: u64,
    /// Tensors that are carried over or stored as a plain type.
    pub kept: u64,
    /// `total_bytes_in / total_bytes_out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Stored bits of all output tensors per element.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_weight: Option<f64>,
}

/// What makes a plan a conversion.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversion {
    /// What was asked for.
    pub recipe: Recipe,
    /// The container.
    pub container: Container,
    /// Whether the artefact is a directory of files.
    pub directory: bool,
    /// The importance matrix, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceSource>,
    /// What was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<rotate::AppliedRotation>,
    /// The sums.
    pub totals: Totals,
}

/// The whole work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Every tensor, in the order of the result.
    pub outputs: Vec<Output>,
    /// Every file to write.
    pub files: Vec<OutFile>,
    /// Set for conversions.
    pub conversion: Option<Conversion>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// A digest of everything that decides the bytes: equal for equal plans, on any machine.
    ///
    /// `salt` carries what only the driver knows (version, modification times).
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
