//! Weights that a checkpoint stores as several tensors: codes, and the scales that they are multiplied by.
//!
//! A packed weight is one [`TensorInfo`] of its true shape. Its [`Layout`] says which elements of the parts a rectangle of
//! the weight needs; the values are decoded in `job`. Knows no file format.

use super::TensorInfo;
use crate::dtype::{DType, MlxFloat, MlxType};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use serde::Serialize;

/// The parts of a packed weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// The order of codes and scales.
    pub layout: Layout,
    /// Rows of the weight.
    pub rows: u64,
    /// Columns of the weight.
    pub cols: u64,
    /// The stored tensors; the first one holds the codes.
    pub parts: Vec<TensorInfo>,
}

/// The layout of a packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// 8-bit floats, and a scale for each block of them: `value = float * scale` in binary32.
    ScaledFloat(ScaleBlocks),
    /// MXFP4 of gpt-oss: codes `[.., cols / 32, 16]`, two consecutive values in a byte, the first one in its low half; and a
    /// power of two for each 32 columns, `[.., cols / 32]`.
    Mxfp4,
    /// Integer codes, and a scale and a zero for each group of columns.
    Integers(Integers),
}

/// The blocks of a matrix that share a scale. All matrices of a stack have the same blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ScaleBlocks {
    /// Rows of one matrix, at least 1.
    pub matrix_rows: u64,
    /// Rows of a block, at least 1.
    pub rows: u64,
    /// Columns of a block, at least 1.
    pub cols: u64,
    /// Rows of scales of one matrix; 0 if one scale serves the whole tensor.
    pub scale_rows: u64,
}

impl ScaleBlocks {
    /// The row of the scales that row `row` of the weight needs.
    pub fn scale_row(&self, row: u64) -> u64 {
        let (matrix, within) = (row / self.matrix_rows.max(1), row % self.matrix_rows.max(1));
        if self.scale_rows == 0 { 0 } else { matrix * self.scale_rows + within / self.rows.max(1) }
    }

    /// The column of the scales that column `col` of the weight needs.
    pub fn scale_col(&self, col: u64) -> u64 {
        col / self.cols.max(1)
    }
}

/// Integer codes, with a scale and a zero for each group of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Integers {
    /// The format, as people name it.
    pub format: IntegerFormat,
    /// Bits of a code, 1 to 8.
    pub bits: u8,
    /// The order of the codes.
    pub order: CodeOrder,
    /// Columns that share a scale, at least 1.
    pub group: u64,
    /// Groups of a row.
    pub groups: u64,
    /// What is subtracted from a code, or added to the product.
    pub zero: Zero,
    /// Whether a part has the group of each column; it follows the zeros.
    pub indexed: bool,
}

/// The format of integer codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntegerFormat {
    /// GPTQ, of which version 1 stores zeros less 1.
    Gptq,
    /// AWQ in its `gemm` version.
    Awq,
    /// compressed-tensors: `pack-quantized` and `int-quantized`.
    CompressedTensors,
    /// MLX's affine mode.
    Mlx,
}

impl IntegerFormat {
    /// Name in its authors' spelling.
    pub const fn name(self) -> &'static str {
        match self {
            IntegerFormat::Gptq => "GPTQ",
            IntegerFormat::Awq => "AWQ",
            IntegerFormat::CompressedTensors => "compressed-tensors",
            IntegerFormat::Mlx => "MLX",
        }
    }
}

/// The order of integer codes. Words have 32 bits, and their first code in the lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeOrder {
    /// Words `[rows, cols * bits / 32]`: a stream of bits for each row.
    Rows,
    /// Words `[cols * bits / 32, rows]`: a stream of bits down each column of words.
    Columns,
    /// Words `[cols, rows / 8]` of 4-bit codes, whose even and odd rows are in different halves of a word.
    Interleaved,
    /// Signed bytes `[rows, cols]`.
    Bytes,
}

impl CodeOrder {
    /// Whether the parts have a column for each row of the weight.
    pub fn is_transposed(self) -> bool {
        matches!(self, CodeOrder::Columns | CodeOrder::Interleaved)
    }
}

/// What integer codes are relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Zero {
    /// This code is 0.
    Fixed(i16),
    /// A code for each group, packed as those of the weights, to which `add` is added.
    Packed {
        /// 1 for version 1 of GPTQ.
        add: i16,
    },
    /// A code for each group, packed along the rows: words `[rows * bits / 32, groups]`.
    PackedRows,
    /// A signed byte for each group.
    Bytes,
    /// A float for each group, which is added to the product of code and scale.
    Offset,
}

/// Bits of a word of integer codes.
const WORD: u64 = 32;

/// The words that codes `codes` of `bits` bits are in.
fn words(codes: &Range<u64>, bits: u64) -> Range<u64> {
    codes.start * bits / WORD..(codes.end * bits).div_ceil(WORD)
}

impl Zero {
    /// Whether the third part holds zeros.
    pub fn is_part(self) -> bool {
        !matches!(self, Zero::Fixed(_))
    }
}

impl Integers {
    /// The number of the part with the group of each column.
    pub fn index_part(&self) -> Option<usize> {
        self.indexed.then_some(2 + usize::from(self.zero.is_part()))
    }

    /// The number of the part with the shape of the weight, where there is one.
    pub fn shape_part(&self) -> usize {
        2 + usize::from(self.zero.is_part()) + usize::from(self.indexed)
    }

    /// The elements of part number `index` that a rectangle needs.
    fn part(&self, index: usize, of: &Rectangle) -> Rectangle {
        let rows = of.rows.first..of.rows.first + of.rows.count;
        let (cols, bits) = (of.cols.clone(), u64::from(self.bits));
        let group = self.group.max(1);
        let groups = if self.indexed { 0..self.groups } else { cols.start / group..cols.end.div_ceil(group) };
        let rectangle = |rows: Range<u64>, cols: Range<u64>| {
            let rows = RowRun { first: rows.start, step: 1, count: rows.end.saturating_sub(rows.start) };
            Rectangle { rows, cols }
        };
        match (index, self.order) {
            (0, CodeOrder::Bytes) => rectangle(rows, cols),
            (0, CodeOrder::Rows) => rectangle(rows, words(&cols, bits)),
            (0, CodeOrder::Columns) => rectangle(words(&cols, bits), rows),
            (0, CodeOrder::Interleaved) => rectangle(cols, words(&rows, bits)),
            (1, order) if order.is_transposed() => rectangle(groups, rows),
            (1, _) => rectangle(rows, groups),
            (2, _) if self.zero.is_part() => match self.zero {
                Zero::Packed { .. } => rectangle(groups, words(&rows, bits)),
                Zero::PackedRows => rectangle(words(&rows, bits), groups),
                _ => rectangle(rows, groups),
            },
            (index, _) if Some(index) == self.index_part() => rectangle(0..1, cols),
            // The shape of the weight.
            _ => rectangle(0..1, 0..2),
        }
    }

    /// Columns of the matrix that part number `index` of a weight is read as.
    fn part_cols(&self, index: usize, (rows, cols): (u64, u64)) -> u64 {
        let packed = |codes: u64| (codes * u64::from(self.bits)).div_ceil(WORD);
        match (index, self.order) {
            (0, CodeOrder::Bytes) => cols,
            (0, CodeOrder::Rows) => packed(cols),
            (0, CodeOrder::Columns) => rows,
            (0, CodeOrder::Interleaved) => packed(rows),
            (1, order) if order.is_transposed() => rows,
            (1, _) => self.groups,
            (2, _) if self.zero.is_part() => match self.zero {
                Zero::Packed { .. } => packed(rows),
                _ => self.groups,
            },
            (index, _) if Some(index) == self.index_part() => cols,
            _ => 2,
        }
    }

    /// The layout in words: `W4 g128 (GPTQ)`.
    fn label(&self) -> String {
        let (bits, format) = (self.bits, self.format.name());
        match self.groups {
            1 => format!("W{bits} per row ({format})"),
            _ => format!("W{bits} g{} ({format})", self.group),
        }
    }
}

/// Rows of a tensor, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RowRun {
    /// The first row.
    pub first: u64,
    /// Rows from one to the next, at least 1.
    pub step: u64,
    /// Number of rows.
    pub count: u64,
}

impl RowRun {
    /// The row after the last one; 0 if there are none.
    fn end(&self) -> u64 {
        self.count.checked_sub(1).map_or(0, |last| self.first + last * self.step + 1)
    }
}

/// Rows and columns of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rectangle {
    /// The rows.
    pub rows: RowRun,
    /// The columns.
    pub cols: Range<u64>,
}

/// The weights of an MXFP4 block.
const MXFP4_BLOCK: u64 = 32;

impl Packed {
    /// The layout and the types in words: `FP8 E4M3, 128x128 scales`.
    pub fn label(&self) -> String {
        match self.layout {
            Layout::Mxfp4 => "MXFP4 (gpt-oss)".into(),
            Layout::Integers(layout) => layout.label(),
            Layout::ScaledFloat(blocks) => {
                let dtype = |part: usize| self.parts.get(part).map(|p| p.dtype);
                let float = match dtype(0) {
                    Some(DType::F8_E5M2) => "E5M2",
                    _ => "E4M3",
                };
                let power = if matches!(dtype(1), Some(DType::F8_E8M0 | DType::U8)) { "E8M0 " } else { "" };
                let scales = match blocks {
                    ScaleBlocks { scale_rows: 0, .. } => format!("one {power}scale"),
                    b if b.cols >= self.cols && b.rows >= b.matrix_rows => {
                        format!("{power}scale per matrix")
                    }
                    b if b.cols >= self.cols && b.rows == 1 => format!("{power}scale per row"),
                    b if b.cols == 1 && b.rows >= b.matrix_rows => format!("{power}scale per column"),
                    b => format!("{}x{} {power}scales", b.rows, b.cols),
                };
                format!("FP8 {float}, {scales}")
            }
        }
    }

    /// Whether encoding the weights again needs `--allow-requantize`: they are integers, or floats of 4 bits.
    pub fn is_quantized(&self) -> bool {
        matches!(self.layout, Layout::Mxfp4 | Layout::Integers(_))
    }

    /// Groups of a row that every window reads, whatever its columns are.
    pub fn groups_read(&self) -> u64 {
        match self.layout {
            Layout::Integers(layout) if layout.indexed => layout.groups,
            _ => 0,
        }
    }

    /// Whether a stack of experts is `[experts, out, in]`, whose plain checkpoint stores it as `[experts, in, out]`.
    pub fn is_transposed_stack(&self) -> bool {
        matches!(self.layout, Layout::Mxfp4)
    }

    /// Whether the codes are stored with a column for each row of the weight.
    pub fn is_stored_transposed(&self) -> bool {
        matches!(&self.layout, Layout::Integers(layout) if layout.order.is_transposed())
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| part.bytes.len().saturating_add(sum))
    }

    /// The rectangle of the weight that rows `rows` and columns `cols` of it are, seen as a matrix of `of` columns; `None` if
    /// it is no rectangle. Several rows of the weight may lie side by side in one of the view.
    pub fn rectangle(&self, of: u64, rows: &Range<u64>, cols: &Range<u64>) -> Option<Rectangle> {
        let step = of.checked_div(self.cols).filter(|step| *step > 0 && step * self.cols == of)?;
        let (beside, start) = (cols.start / self.cols, cols.start % self.cols);
        let end = start.checked_add(cols.end.checked_sub(cols.start)?)?;
        let first = rows.start.checked_mul(step)?.checked_add(beside)?;
        let count = rows.end.checked_sub(rows.start)?;
        let whole_rows = step == 1 || !matches!(self.layout, Layout::Integers(_));
        (end <= self.cols && whole_rows)
            .then_some(Rectangle { rows: RowRun { first, step, count }, cols: start..end })
    }

    /// The elements of part number `index` that `of` needs, as a rectangle of the part's matrix.
    pub fn part(&self, index: usize, of: &Rectangle) -> Rectangle {
        let (rows, Range { start, end }) = (of.rows, of.cols.clone());
        match (self.layout, index) {
            (Layout::Integers(layout), _) => layout.part(index, of),
            (Layout::ScaledFloat(_), 0) => of.clone(),
            (Layout::ScaledFloat(blocks), _) => {
                let first = blocks.scale_row(rows.first);
                let last = rows.end().checked_sub(1).map_or(first, |row| blocks.scale_row(row) + 1);
                let cols = blocks.scale_col(start)..end.checked_sub(1).map_or(0, |c| blocks.scale_col(c) + 1);
                Rectangle { rows: RowRun { first, step: 1, count: last - first }, cols }
            }
            (Layout::Mxfp4, 0) => Rectangle { rows, cols: start / 2..end.div_ceil(2) },
            (Layout::Mxfp4, _) => Rectangle { rows, cols: start / MXFP4_BLOCK..end.div_ceil(MXFP4_BLOCK) },
        }
    }

    /// Columns of the matrix that part number `index` is read as.
    pub fn part_cols(&self, index: usize) -> u64 {
        match (self.layout, index) {
            (Layout::Integers(layout), _) => layout.part_cols(index, (self.rows, self.cols)),
            (Layout::ScaledFloat(_), 0) => self.cols,
            (Layout::ScaledFloat(blocks), _) => self.cols.div_ceil(blocks.cols.max(1)),
            (Layout::Mxfp4, 0) => self.cols / 2,
            (Layout::Mxfp4, _) => self.cols / MXFP4_BLOCK,
        }
    }
}

impl Packed {
    /// The type whose blocks the groups of a weight of MLX's affine mode are; `None` for other weights.
    pub fn mlx_type(&self) -> Option<MlxType> {
        let (Layout::Integers(layout), [_, scales, biases]) = (self.layout, self.parts.as_slice()) else {
            return None;
        };
        let float = MlxFloat::of(scales.dtype).filter(|_| biases.dtype == scales.dtype)?;
        let is_mlx = layout.format == IntegerFormat::Mlx;
        MlxType::new(layout.bits.into(), layout.group, float).filter(|_| is_mlx)
    }
}

impl TensorInfo {
    /// Bytes that the tensor takes in its files, with all of its parts.
    pub fn stored_bytes(&self) -> u64 {
        self.packed.as_ref().map_or(self.bytes.len(), |packed| packed.bytes())
    }

    /// Whether encoding the weights as another type quantizes them a second time.
    pub fn is_quantized(&self) -> bool {
        self.packed.as_ref().map_or(self.dtype.is_quantized(), |packed| packed.is_quantized())
    }

    /// Stored bits for each weight, scales included; `None` for a tensor without weights.
    pub fn bits_per_weight(&self) -> Option<f64> {
        match &self.packed {
            None => Some(self.dtype.bits_per_weight()),
            Some(packed) => {
                let weights = self.shape.numel();
                (weights > 0).then(|| packed.bytes() as f64 * 8.0 / weights as f64)
            }
        }
    }
}
