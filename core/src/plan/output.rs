//! The outputs of a plan: a tensor each, with its grid, its place, and its measurements.

use super::{ColumnRange, Op, Operand, OutputOp, OutputStream, RowMap, Segment, Segments, Side, ThinVec};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::metric::{MeasurementSpec, Measurements};
use crate::quant::Encoding;
use crate::recipe::{Action, Decision, Reason, Recipe};
use crate::tensor::{Name, Shape, TensorInfo};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::Serialize;

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
    /// Index in [`Plan::files`](super::Plan::files).
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
    /// Empty measurements of this set over `grid`.
    pub fn measurements(&self, grid: &Grid) -> Measurements {
        Measurements::new(&MeasurementSpec {
            rows: grid.rows,
            cols: grid.cols,
            histogram: self.histogram,
            encodings: self.encodings.len(),
            identity: self.identity.len(),
            row_floor: self.row_floor,
        })
    }

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
    /// Its range in a file; absent if it is only measured, or has streams.
    pub place: Option<FileRange>,
    /// The stored tensors that the parts of its blocks are; none where it is stored as it is.
    #[serde(skip_serializing_if = "<[OutputStream]>::is_empty")]
    pub streams: ThinVec<OutputStream>,
    /// The sources of its values, in order of rows and without gaps.
    pub segments: Segments,
    /// What is measured.
    pub metrics: MetricSet,
    /// The reason for its type, which neighbouring outputs share.
    pub reason: Arc<Reason>,
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
                if tensor.packed.is_none() {
                    from.dtype = copied_as(tensor.dtype);
                    grid = Grid { rows: 1, cols: tensor.bytes.len() / from.dtype.block_bytes() };
                }
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
            streams: ThinVec::new(),
            segments: Segment::whole(grid, from, op).into(),
            metrics: MetricSet { error, nonfinite, ..MetricSet::default() },
            reason: decision.reason,
        }
    }

    /// A tensor of values that the plan carries, stored as `dtype`, without a place.
    ///
    /// # Errors
    ///
    /// `size_mismatch` if `bytes` are not those of the shape.
    pub fn generated(name: Name, dtype: DType, shape: Shape, bytes: Vec<u8>) -> Result<Output> {
        if dtype.bytes_for(shape.numel()) != Some(bytes.len() as u64) {
            let message = format!("{} bytes for a shape of {:?} as {dtype}", bytes.len(), shape.axes());
            return Err(Error::new(Code::SizeMismatch, message).of_tensor(&name));
        }
        let stored = copied_as(dtype);
        let grid = Grid { rows: 1, cols: bytes.len() as u64 / stored.block_bytes() };
        let from = Operand::generated(stored, bytes);
        Ok(Output {
            name,
            dtype,
            shape,
            grid,
            place: None,
            streams: ThinVec::new(),
            segments: Segment::whole(grid, from, OutputOp::Copy).into(),
            metrics: MetricSet { nonfinite: NonFinite::Refused, ..MetricSet::default() },
            reason: Reason { code: "generated", text: "computed from the configuration".into() }.into(),
        })
    }

    /// Transposes each matrix of a stack `[n, rows, cols]`, whose values are decoded. `None` if the tensor is no stack, or has
    /// too many matrices.
    pub(super) fn transpose_stack(&mut self) -> Option<()> {
        const MAX_MATRICES: u64 = 1 << 16;
        let [n, rows, cols] = *self.shape.axes() else { return None };
        let whole = match &*self.segments {
            [one] if n <= MAX_MATRICES && one.op != OutputOp::Copy => one.clone(),
            _ => return None,
        };
        let matrix = |i: u64| Segment {
            rows: i * cols..(i + 1) * cols,
            from: Operand {
                row: i * rows,
                columns: Some(Box::new(ColumnRange { at: 0, of: cols })),
                map: RowMap::Transpose { step: 1 },
                ..whole.from.clone()
            },
            ..whole.clone()
        };
        self.segments = (0..n).map(matrix).collect::<Vec<_>>().into();
        self.shape = Shape::new([n, cols, rows])?;
        self.grid = Grid::of(&self.shape);
        Some(())
    }

    /// Permutes the rows of the whole tensor, whether they are copied or encoded. The elements of a vector are its rows.
    ///
    /// # Errors
    ///
    /// `size_mismatch` if the rows are not whole heads of an even number of rows, or not whole blocks, or if the output has
    /// several segments.
    pub fn permute_rows(&mut self, map: RowMap) -> Result<()> {
        let head = map.group();
        let rows = if self.shape.axes().len() < 2 { self.shape.numel() } else { self.shape.rows() };
        let elements = self.grid.rows.saturating_mul(self.grid.cols);
        let whole_heads = map == RowMap::Identity || (head.is_multiple_of(2) && rows.is_multiple_of(head));
        let cols = elements.checked_div(rows).unwrap_or(0);
        let whole_blocks = match self.segments.first().map(|s| (s.op, s.from.dtype)) {
            Some((OutputOp::Copy, _)) => {
                (self.shape.numel().checked_div(rows).unwrap_or(0)).is_multiple_of(self.dtype.block_len())
            }
            Some((_, from)) => [from, self.dtype].iter().all(|d| cols.is_multiple_of(d.block_len())),
            None => false,
        };
        match &mut *self.segments {
            [segment] if whole_heads && whole_blocks => {
                self.grid = Grid { rows, cols };
                segment.rows = 0..rows;
                segment.from.map = map;
                Ok(())
            }
            _ => {
                let message = format!("its {rows} rows cannot be permuted in heads of {head}");
                Err(Error::new(Code::SizeMismatch, message).of_tensor(&self.name))
            }
        }
    }

    /// Whether a rotation changes its values.
    pub fn is_rotated(&self) -> bool {
        let rotates = |op: &Op| {
            let single = matches!(op, Op::Add(_) | Op::Mean(_) | Op::Set(_) | Op::NegExp | Op::LogNeg);
            !single && *op != Op::RoundF16
        };
        self.segments.iter().any(|s| s.from.ops.iter().any(rotates))
    }

    /// The element of the measured tensor that is element `at` of the grid, both row-major.
    pub fn element(&self, at: u64) -> u64 {
        let cols = self.grid.cols.max(1);
        let (row, col) = (at / cols, at % cols);
        let segment = self.segments.iter().find(|s| s.rows.contains(&row));
        segment.map_or(at, |s| {
            let columns = s.from.columns.as_deref().copied().unwrap_or(ColumnRange { at: 0, of: cols });
            let row = row - s.rows.start;
            match s.from.map {
                RowMap::Transpose { step } => (col + s.from.row) * columns.of + columns.at + row * step,
                _ => (row + s.from.row) * columns.of + columns.at + col,
            }
        })
    }
}

/// The type of the elements of a copy: plain floats are searched for NaN and infinities, everything else is bytes.
fn copied_as(dtype: DType) -> DType {
    let floats = dtype.kind() == DTypeKind::Float && dtype.block_len() == 1;
    if floats { dtype } else { DType::U8 }
}
