//! Weights that a checkpoint stores as several tensors: codes, and the scales that they are multiplied by.
//!
//! A packed weight is one [`TensorInfo`] of its true shape. Its [`Layout`] says which elements of the parts a rectangle of
//! the weight needs; the values are decoded in `job`. Knows no file format.

use super::TensorInfo;
use crate::dtype::DType;
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

    /// Whether the weights have 4 bits or fewer, so that encoding them again needs `--allow-requantize`.
    pub fn has_few_bits(&self) -> bool {
        matches!(self.layout, Layout::Mxfp4)
    }

    /// Whether a stack of experts is `[experts, out, in]`, whose plain checkpoint stores it as `[experts, in, out]`.
    pub fn is_transposed_stack(&self) -> bool {
        matches!(self.layout, Layout::Mxfp4)
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
        (end <= self.cols).then_some(Rectangle { rows: RowRun { first, step, count }, cols: start..end })
    }

    /// The elements of part number `index` that `of` needs, as a rectangle of the part's matrix.
    pub fn part(&self, index: usize, of: &Rectangle) -> Rectangle {
        let (rows, Range { start, end }) = (of.rows, of.cols.clone());
        match (self.layout, index) {
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
            (Layout::ScaledFloat(_), 0) => self.cols,
            (Layout::ScaledFloat(blocks), _) => self.cols.div_ceil(blocks.cols.max(1)),
            (Layout::Mxfp4, 0) => self.cols / 2,
            (Layout::Mxfp4, _) => self.cols / MXFP4_BLOCK,
        }
    }
}

impl TensorInfo {
    /// Bytes that the tensor takes in its files, with all of its parts.
    pub fn stored_bytes(&self) -> u64 {
        self.packed.as_ref().map_or(self.bytes.len(), |packed| packed.bytes())
    }

    /// Whether encoding the weights as another type quantizes them a second time.
    pub fn is_quantized(&self) -> bool {
        self.packed.as_ref().map_or(self.dtype.is_quantized(), |packed| packed.has_few_bits())
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
