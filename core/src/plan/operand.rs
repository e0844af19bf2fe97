//! The input of a segment: stored values, their order, and the steps applied to them after decoding.

use super::ThinVec;
use crate::dtype::DType;
use crate::rotation::Form;
use crate::tensor::packed::Packed;
use crate::tensor::{FileId, TensorInfo};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::Serialize;

/// The checkpoint that an operand is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The input, or the reference of a comparison.
    Source,
    /// The other side of a comparison; the base model of a LoRA adapter.
    Candidate,
    /// The importance matrix.
    Importance,
}

/// The order of an operand's elements, relative to those of the output.
///
/// llama.cpp rotates neighbouring channels of a head where Hugging Face rotates the two halves of the head, so that its
/// converter permutes the rows of query and key projections (`permute` of `convert_hf_to_gguf.py`). Each map is the inverse
/// of the other. Rows are moved as they are stored or as decoded values; transposed matrices and swapped columns, as decoded
/// values only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowMap {
    /// The same order.
    Identity,
    /// Hugging Face to GGUF: within each head, output row `b * 2 + a` is operand row `a * head / 2 + b`.
    Permute {
        /// Rows of one head, even.
        head: u64,
    },
    /// GGUF to Hugging Face: within each head, output row `a * head / 2 + b` is operand row `b * 2 + a`.
    Unpermute {
        /// Rows of one head, even.
        head: u64,
    },
    /// Output row `r`, column `c` is operand row `c`, column `r * step`, behind the operand's first row and column.
    Transpose {
        /// Operand columns from one output row to the next, at least 1.
        step: u64,
    },
    /// Within each row, operand columns `[outer, inner, width]` are output columns `[inner, outer, width]`.
    SwapColumns {
        /// Length of the outer axis in the operand.
        outer: u64,
        /// Length of the inner axis in the operand.
        inner: u64,
        /// Columns that stay together.
        width: u64,
    },
}

impl RowMap {
    /// Number of consecutive rows that a window must not split, at least 1.
    pub fn group(self) -> u64 {
        match self {
            RowMap::Identity | RowMap::Transpose { .. } | RowMap::SwapColumns { .. } => 1,
            RowMap::Permute { head } | RowMap::Unpermute { head } => head.max(1),
        }
    }

    /// The operand row that is output row `row`; both count from the start of a head.
    pub fn operand_row(self, row: u64) -> u64 {
        let half = (self.group() / 2).max(1);
        let within = row % self.group();
        let from = match self {
            RowMap::Identity | RowMap::Transpose { .. } | RowMap::SwapColumns { .. } => within,
            RowMap::Permute { .. } => within % 2 * half + within / 2,
            RowMap::Unpermute { .. } => within % half * 2 + within / half,
        };
        row - within + from
    }

    /// The map that restores the operand's order; of a transposed matrix with gaps, that of its own rows and columns.
    #[must_use]
    pub fn inverse(self) -> RowMap {
        match self {
            RowMap::Identity => RowMap::Identity,
            RowMap::Permute { head } => RowMap::Unpermute { head },
            RowMap::Unpermute { head } => RowMap::Permute { head },
            RowMap::Transpose { .. } => RowMap::Transpose { step: 1 },
            RowMap::SwapColumns { outer, inner, width } => {
                RowMap::SwapColumns { outer: inner, inner: outer, width }
            }
        }
    }

    /// Whether elements of different rows or columns change places, so that a tile must be a whole window.
    pub fn needs_whole_windows(self) -> bool {
        matches!(self, RowMap::Transpose { .. } | RowMap::SwapColumns { .. })
    }

    /// Operand elements that are read for one element of the output, rounded up.
    pub fn elements_read(self) -> u64 {
        match self {
            RowMap::Transpose { step } => step.max(1),
            _ => 1,
        }
    }
}

/// The side of a weight matrix `[out, in]` along which vectors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Input channels: a vector is a row, or a part of one.
    #[serde(rename = "columns")]
    In,
    /// Output channels: a vector is a column, or a part of one.
    #[serde(rename = "rows")]
    Out,
}

/// A rotation of vectors of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RotationOp {
    /// The side that is rotated.
    pub axis: Axis,
    /// First channel of the vectors on that side: a row of the segment, or a column.
    pub at: u64,
    /// Length of the vectors, in channels.
    pub len: u64,
    /// The form of the matrix.
    pub form: Form,
    /// The seed of its signs.
    pub seed: u64,
}

/// A step on decoded values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Adds a constant (Gemma's norm gains are stored with 1 added in GGUF).
    Add(f32),
    /// Divides each sum by `n`; if `n` is 0, every value is 1.
    Mean(f32),
    /// Multiplies by a constant.
    Scale(f32),
    /// Multiplies by the scale of the tensor, which is stored before its first element (APR's q8).
    TensorScale,
    /// Replaces every value by a constant.
    Set(f32),
    /// `-exp(x)` (decay rates of state-space layers).
    NegExp,
    /// `ln(-x)`, the inverse of `-exp(x)`.
    LogNeg,
    /// Rounds to binary16: the converter's arithmetic on F16 sources.
    RoundF16,
    /// Multiplies by the norm gain, [`Segment::gain`](super::Segment::gain).
    Gain(Axis),
    /// Divides by the norm gain.
    Ungain(Axis),
    /// Rotates vectors.
    Rotate(RotationOp),
    /// The gain and the rotations of the operand run in binary64, on the processor, and the result is rounded once.
    Widen,
}

impl Op {
    /// The side along which its vectors lie; `None` for steps on single values.
    pub fn axis(&self) -> Option<Axis> {
        match self {
            Op::Gain(axis) | Op::Ungain(axis) => Some(*axis),
            Op::Rotate(rotation) => Some(rotation.axis),
            Op::Add(_)
            | Op::Mean(_)
            | Op::Scale(_)
            | Op::TensorScale
            | Op::Set(_)
            | Op::NegExp
            | Op::LogNeg
            | Op::RoundF16
            | Op::Widen => None,
        }
    }
}

/// A tensor, or consecutive rows of one, as the input of a segment; or values that the plan carries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operand {
    /// The checkpoint.
    pub side: Side,
    /// Index in that checkpoint's tensors; [`Operand::NO_TENSOR`] for generated values.
    pub tensor: u32,
    /// The file that holds it.
    pub file: FileId,
    /// Byte offset of the tensor's first element in that file.
    pub at: u64,
    /// How its elements are stored, or decoded from the parts of a packed weight.
    pub dtype: DType,
    /// The row of the tensor that is row 0 of the segment.
    pub row: u64,
    /// The tensor's columns that are those of the segment; absent where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Box<ColumnRange>>,
    /// The order of its rows.
    pub map: RowMap,
    /// The steps after decoding, in order.
    pub ops: ThinVec<Op>,
    /// The bytes of generated values; empty if they are read from a file.
    #[serde(skip_serializing_if = "<[u8]>::is_empty")]
    pub values: ThinVec<u8>,
    /// The parts of a packed weight, which are read in place of its elements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed: Option<Arc<Packed>>,
}

impl Operand {
    /// The index of an operand that is no tensor of a checkpoint.
    pub const NO_TENSOR: u32 = u32::MAX;

    /// All of a checkpoint's tensor number `index`, unchanged.
    pub fn whole(side: Side, index: usize, tensor: &TensorInfo) -> Operand {
        Operand {
            tensor: index as u32,
            file: tensor.file,
            packed: tensor.packed.clone(),
            // A tensor lies inside its file, so that the sum fits.
            ..Operand::stored(side, tensor.bytes.start + tensor.dtype.prefix_bytes(), tensor.dtype)
        }
    }

    /// Values that the plan carries, row-major and stored as `dtype`: constants and small tables such as `rope_freqs`.
    pub fn generated(dtype: DType, bytes: Vec<u8>) -> Operand {
        let stored = Operand::stored(Side::Source, 0, dtype);
        Operand { tensor: Operand::NO_TENSOR, values: bytes.into(), ..stored }
    }

    /// Whether its values are carried by the plan.
    pub fn is_generated(&self) -> bool {
        self.tensor == Operand::NO_TENSOR
    }

    /// Values of `dtype` at byte offset `at` of the first file.
    pub(super) fn stored(side: Side, at: u64, dtype: DType) -> Operand {
        Operand {
            side,
            tensor: 0,
            file: 0,
            at,
            dtype,
            row: 0,
            columns: None,
            map: RowMap::Identity,
            ops: ThinVec::new(),
            values: ThinVec::new(),
            packed: None,
        }
    }

    /// The same from output row `rows` on.
    pub(super) fn starting_at(&self, rows: u64) -> Operand {
        match (self.map, self.columns.as_deref()) {
            (RowMap::Transpose { step }, Some(&ColumnRange { at, of })) => {
                let columns =
                    Some(Box::new(ColumnRange { at: at.saturating_add(rows.saturating_mul(step)), of }));
                Operand { columns, ..self.clone() }
            }
            _ => Operand { row: self.row + rows, ..self.clone() },
        }
    }

    /// Whether its values are those that are stored, in their order.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.map == RowMap::Identity && self.ops.is_empty()
    }

    /// The bytes of a whole tensor as plain `U8`.
    pub(super) fn as_bytes(&self) -> Operand {
        Operand { dtype: DType::U8, at: self.at.saturating_sub(self.dtype.prefix_bytes()), ..self.clone() }
    }
}

/// As many columns of a tensor as the grid has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnRange {
    /// The first column.
    pub at: u64,
    /// Columns of the tensor.
    pub of: u64,
}
