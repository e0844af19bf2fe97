//! The segments of an output: one as a rule, which is stored in place, or many.

use super::{Axis, Grid, Operand};
use crate::dtype::DType;
use crate::quant::Encoding;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut, Range};
use serde::{Serialize, Serializer};

/// What happens to the values or bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputOp {
    /// Copies the source's bytes. The grid of such an output is one row of bytes (`U8`), or of plain floats.
    Copy,
    /// Rearranges the source's blocks without loss.
    Transcode(DType),
    /// Encodes the values.
    Encode(Encoding),
    /// Measures the values and writes nothing.
    Measure,
}

impl OutputOp {
    /// The type that is written; `None` where bytes are copied or nothing is written.
    pub fn dtype(self) -> Option<DType> {
        match self {
            OutputOp::Encode(encoding) => Some(encoding.dtype()),
            OutputOp::Transcode(to) => Some(to),
            OutputOp::Copy | OutputOp::Measure => None,
        }
    }
}

/// Consecutive rows of an output that come from one operand.
///
/// The operands that few segments have are boxed, so that the plan of a million tensors stays small.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// Rows of the output.
    pub rows: Range<u64>,
    /// The operand that the values come from.
    pub from: Operand,
    /// The operand that they are compared with, in comparisons.
    pub against: Option<Box<Operand>>,
    /// One weight per column, for encodings that use them: a row of the importance matrix.
    pub importance: Option<Box<Operand>>,
    /// The norm gain that [`Op::Gain`](super::Op::Gain) and [`Op::Ungain`](super::Op::Ungain) take: a vector.
    pub gain: Option<Box<Operand>>,
    /// What happens to the values.
    pub op: OutputOp,
}

impl Segment {
    /// All rows of `grid` from one operand, without a second operand.
    pub fn whole(grid: Grid, from: Operand, op: OutputOp) -> Segment {
        Segment { rows: 0..grid.rows, from, against: None, importance: None, gain: None, op }
    }

    /// Whether vectors lie along the rows, so that a window must hold all rows of the segment.
    pub fn runs_along_rows(&self) -> bool {
        self.from.ops.iter().any(|op| op.axis() == Some(Axis::Out))
    }

    /// The rows `rows` of the output, which must lie in the segment, as a segment that starts at row `at`.
    pub(crate) fn slice(&self, rows: Range<u64>, at: u64) -> Segment {
        let skipped = rows.start - self.rows.start;
        let later = |o: &Operand| o.starting_at(skipped);
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

/// Segments in order of their rows. A single one needs no allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Segments(Held);

#[derive(Clone, Debug, PartialEq)]
enum Held {
    One(Segment),
    Many(Vec<Segment>),
}

impl From<Segment> for Segments {
    fn from(segment: Segment) -> Segments {
        Segments(Held::One(segment))
    }
}

impl From<Vec<Segment>> for Segments {
    fn from(mut segments: Vec<Segment>) -> Segments {
        match (segments.pop(), segments.is_empty()) {
            (Some(one), true) => Segments(Held::One(one)),
            (last, _) => {
                segments.extend(last);
                Segments(Held::Many(segments))
            }
        }
    }
}

impl Deref for Segments {
    type Target = [Segment];

    fn deref(&self) -> &[Segment] {
        match &self.0 {
            Held::One(segment) => core::slice::from_ref(segment),
            Held::Many(segments) => segments,
        }
    }
}

impl DerefMut for Segments {
    fn deref_mut(&mut self) -> &mut [Segment] {
        match &mut self.0 {
            Held::One(segment) => core::slice::from_mut(segment),
            Held::Many(segments) => segments,
        }
    }
}

impl<'a> IntoIterator for &'a Segments {
    type Item = &'a Segment;
    type IntoIter = core::slice::Iter<'a, Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Segments {
    type Item = &'a mut Segment;
    type IntoIter = core::slice::IterMut<'a, Segment>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl Serialize for Segments {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.deref().serialize(s)
    }
}
