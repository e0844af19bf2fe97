//! The parts of a GGUF's tensors that a tensor of a Hugging Face folder is made of, and the segments that they become.

use super::gguf_mapping::row_map;
use super::{ColumnRange, Grid, Op, Operand, OutputOp, RowMap, Segment, Side};
use crate::format::Checkpoint;
use crate::model::gguf_tensors::{GgufTensor, GgufTensors, Order, Part, ValueStep};
use crate::tensor::TensorInfo;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A GGUF tensor and a part of it that a tensor of the folder holds.
pub(super) struct GgufPiece<'a> {
    pub(super) index: usize,
    pub(super) info: &'a TensorInfo,
    pub(super) gguf: &'a GgufTensor,
    part: &'a Part,
    /// The first row of the part in the GGUF tensor.
    at: u64,
}

/// The parts of the GGUF's tensors by tensor of the folder.
pub(super) fn pieces<'a>(
    gguf: &'a GgufTensors,
    checkpoint: &'a Checkpoint,
) -> BTreeMap<usize, Vec<GgufPiece<'a>>> {
    let by_name: BTreeMap<&str, usize> =
        checkpoint.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let mut pieces: BTreeMap<usize, Vec<GgufPiece<'a>>> = BTreeMap::new();
    for gguf in &gguf.tensors {
        let index = by_name.get(gguf.name.as_str()).copied();
        let Some((index, info)) = index.and_then(|i| Some((i, checkpoint.tensors.get(i)?))) else { continue };
        let mut at = 0;
        for part in &gguf.parts {
            pieces.entry(part.source).or_default().push(GgufPiece { index, info, gguf, part, at });
            at += part.rows;
        }
    }
    pieces
}

/// The grid of a tensor of the folder, and the segments that its pieces are.
pub(super) fn segments(
    tensor: &TensorInfo,
    pieces: &[GgufPiece<'_>],
) -> core::result::Result<(Grid, Vec<Segment>), String> {
    let cols = pieces.first().map_or(0, |p| p.part.view.cols);
    let rows = tensor.shape.numel().checked_div(cols).unwrap_or(0);
    if pieces.iter().any(|p| p.part.view.cols != cols) || rows.checked_mul(cols) != Some(tensor.shape.numel())
    {
        return Err("its parts in the GGUF have rows of several lengths".into());
    }
    let mut found: Vec<Segment> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        found.push(piece.segment()?);
    }
    found.sort_by_key(|s| s.rows.start);
    let first = found.first().map_or(0, |s| s.rows.start);
    if first > 0 {
        found.insert(0, unused_rows(first, pieces)?);
    }
    let mut joined: Vec<Segment> = Vec::with_capacity(found.len());
    let mut end = 0;
    for segment in found {
        if segment.rows.start != end {
            return Err("its parts in the GGUF overlap, or leave a gap".into());
        }
        end = segment.rows.end;
        match joined.last_mut() {
            Some(last) if continues(last, &segment) => last.rows.end = end,
            _ => joined.push(segment),
        }
    }
    if end != rows {
        return Err("the GGUF does not have all of its rows".into());
    }
    Ok((Grid { rows, cols }, joined))
}

/// Whether `next` continues the rows of the same tensor.
fn continues(last: &Segment, next: &Segment) -> bool {
    let follows = last.from.row.checked_add(last.rows.end - last.rows.start) == Some(next.from.row);
    let plain = |s: &Segment| s.from.map == RowMap::Identity && s.from.columns.is_none();
    follows
        && plain(last)
        && plain(next)
        && last.from.tensor == next.from.tensor
        && last.from.ops == next.from.ops
}

/// The positions of padding, which a GGUF leaves out because no token has them: zeros.
fn unused_rows(rows: u64, pieces: &[GgufPiece<'_>]) -> core::result::Result<Segment, String> {
    let Some(piece) = pieces.first().filter(|p| p.gguf.name == "position_embd.weight" && p.part.rows >= rows)
    else {
        return Err("the GGUF does not have its first rows".into());
    };
    let mut from = Operand::whole(Side::Source, piece.index, piece.info);
    from.ops.push(Op::Set(0.0));
    Ok(Segment { rows: 0..rows, from, against: None, importance: None, gain: None, op: OutputOp::Copy })
}

impl GgufPiece<'_> {
    /// The rows of the folder's tensor that the piece is.
    fn segment(&self) -> core::result::Result<Segment, String> {
        let view = self.part.view;
        let from = Operand { row: self.at, ..Operand::whole(Side::Source, self.index, self.info) };
        let whole = view.col == 0 && view.cols == self.gguf.cols;
        let (rows, mut from) = match view.order {
            Order::Transpose { step: 1 } if view.col == 0 && self.part.rows == view.cols => {
                let columns = Some(Box::new(ColumnRange { at: 0, of: self.gguf.cols }));
                (self.gguf.cols, Operand { columns, map: RowMap::Transpose { step: 1 }, ..from })
            }
            Order::Rows | Order::Permute { .. } | Order::SwapColumns { .. } if whole => {
                (self.part.rows, Operand { map: row_map(view.order).inverse(), ..from })
            }
            _ => {
                let name = &self.gguf.name;
                return Err(format!("its columns are those of several tensors ({name} is one of them)"));
            }
        };
        match self.gguf.step {
            ValueStep::None => {}
            ValueStep::AddOne => from.ops.push(Op::Add(-1.0)),
            ValueStep::NegExp => from.ops.push(Op::LogNeg),
        }
        let rows = view.row..view.row.checked_add(rows).ok_or("its rows do not fit 64 bits")?;
        Ok(Segment { rows, from, against: None, importance: None, gain: None, op: OutputOp::Copy })
    }
}
