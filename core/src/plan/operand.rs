//! The input of a segment: stored values, their order, and the steps applied to them after decoding.

use super::ThinVec;
use crate::dtype::DType;
use crate::rotation::Form;
use crate::tensor::{FileId, TensorInfo};
use alloc::boxed::Box;
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

/// The order of an operand's rows, relative to the rows of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowMap {
    /// The same order.
    Identity,
    /// Within each head of this many rows, output row `a * half + b` is operand row `b * 2 + a`: how llama.cpp's
    /// converter interleaves the two rotary halves of query and key projections.
    RotaryHalves {
        /// Rows of one head, even.
        head: u64,
    },
}

impl RowMap {
    /// Number of consecutive rows that a window must not split.
    pub fn group(self) -> u64 {
        match self {
            RowMap::Identity => 1,
            RowMap::RotaryHalves { head } => head,
        }
    }
}

/// The side of a weight matrix `[out, in]` along which vectors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Input channels: a vector is a row, or a part of one.
    In,
    /// Output channels: a vector is a column, or a part of one.
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
    /// Replaces every value by a constant.
    Set(f32),
    /// Multiplies by the norm gain, [`Segment::gain`](super::Segment::gain).
    Gain(Axis),
    /// Divides by the norm gain.
    Ungain(Axis),
    /// Rotates vectors.
    Rotate(RotationOp),
}

impl Op {
    /// The side along which its vectors lie; `None` for steps on single values.
    pub fn axis(&self) -> Option<Axis> {
        match self {
            Op::Gain(axis) | Op::Ungain(axis) => Some(*axis),
            Op::Rotate(rotation) => Some(rotation.axis),
            Op::Add(_) | Op::Mean(_) | Op::Set(_) => None,
        }
    }
}

/// A tensor, or consecutive rows of one, as the input of a segment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operand {
    /// The checkpoint.
    pub side: Side,
    /// Index in that checkpoint's tensors.
    pub tensor: u32,
    /// The file that holds it.
    pub file: FileId,
    /// Byte offset of the tensor's first element in that file.
    pub at: u64,
    /// How its elements are stored.
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
}

impl Operand {
    /// All of a checkpoint's tensor number `index`, unchanged.
    pub fn whole(side: Side, index: usize, tensor: &TensorInfo) -> Operand {
        Operand {
            tensor: index as u32,
            file: tensor.file,
            ..Operand::stored(side, tensor.bytes.start, tensor.dtype)
        }
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
        }
    }

    /// Whether its values are those that are stored, in their order.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.map == RowMap::Identity && self.ops.is_empty()
    }

    /// The same bytes as plain `U8`.
    pub(super) fn as_bytes(&self) -> Operand {
        Operand { dtype: DType::U8, ..self.clone() }
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
