//! Everything that is measured of one tensor: what a job returns for its window, a report collects, and journals and
//! workers exchange. Knows no encodings, files or engines.
//!
//! Measurements of disjoint windows of one tensor form a commutative monoid under [`Measurements::merge`].

use super::{ByteComparison, Histogram, MergeTree, Moments, PackedHistogram, PairSums, Tally};
use crate::error::Error;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What to measure, and over which grid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeasurementSpec {
    /// Rows of the grid.
    pub rows: u64,
    /// Columns of the grid.
    pub cols: u64,
    /// Whether a histogram of the source is taken.
    pub histogram: bool,
    /// Number of encodings whose error is measured.
    pub encodings: usize,
    /// Number of encodings whose bytes are compared with the candidate's.
    pub identity: usize,
    /// Root mean square error up to which a row counts as equal; see [`super::Merge::finish_row`].
    pub row_floor: f64,
}

/// Measurements of a tensor, or of some windows of it. Figures are available once every window has been merged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurements {
    pub(crate) moments: MergeTree<Moments>,
    pub(crate) histogram: Option<PackedHistogram>,
    pub(crate) error: MergeTree<PairSums>,
    pub(crate) encodings: Vec<Result<MergeTree<PairSums>, Error>>,
    pub(crate) identity: Vec<ByteComparison>,
    pub(crate) bytes: Option<ByteComparison>,
    pub(crate) nonfinite: Tally,
    pub(crate) beyond_rounding: Tally,
}

impl Measurements {
    /// No window yet.
    pub fn new(spec: &MeasurementSpec) -> Measurements {
        let MeasurementSpec { rows, cols, histogram, encodings, identity, row_floor } = *spec;
        Measurements {
            moments: MergeTree::new(rows, cols),
            histogram: histogram.then(PackedHistogram::default),
            error: MergeTree::new(rows, cols).with_floor(row_floor),
            encodings: (0..encodings).map(|_| Ok(MergeTree::new(rows, cols))).collect(),
            identity: vec![ByteComparison::default(); identity],
            bytes: None,
            nonfinite: Tally::default(),
            beyond_rounding: Tally::default(),
        }
    }

    /// Adds the measurements of other windows of the same tensor, taken with the same spec. The order of calls changes
    /// no bit of any figure.
    pub fn merge(&mut self, other: Measurements) {
        self.moments.absorb(other.moments);
        self.error.absorb(other.error);
        if let (Some(all), Some(part)) = (&mut self.histogram, &other.histogram) {
            all.merge_packed(part);
        }
        for (slot, part) in self.encodings.iter_mut().zip(other.encodings) {
            match (&mut *slot, part) {
                (Ok(tree), Ok(part)) => tree.absorb(part),
                (Ok(_), Err(e)) => *slot = Err(e),
                (Err(_), Ok(_)) => {}
                // The earlier element is named, whichever window came first.
                (Err(old), Err(new)) => {
                    if new.detail().element < old.detail().element {
                        *old = new;
                    }
                }
            }
        }
        self.identity.iter_mut().zip(&other.identity).for_each(|(a, b)| a.merge(b));
        if let Some(part) = other.bytes {
            self.bytes.get_or_insert_default().merge(&part);
        }
        self.nonfinite.merge(&other.nonfinite);
        self.beyond_rounding.merge(&other.beyond_rounding);
    }

    /// Moments of the source.
    pub fn moments(&self) -> Option<Moments> {
        self.moments.total()
    }

    /// Histogram of the source, where the spec asks for one.
    pub fn histogram(&self) -> Option<Histogram> {
        self.histogram.as_ref().map(PackedHistogram::unpack)
    }

    /// Error of the written values, or of the candidate, against the source.
    pub fn error(&self) -> Option<PairSums> {
        self.error.total()
    }

    /// For each encoding of the spec its error, or the reason why it cannot represent the values.
    pub fn encodings(&self) -> impl Iterator<Item = Result<Option<PairSums>, &Error>> {
        self.encodings.iter().map(|tree| tree.as_ref().map(MergeTree::total))
    }

    /// For each identity encoding of the spec, how its bytes compare with the candidate's.
    pub fn identity(&self) -> &[ByteComparison] {
        &self.identity
    }

    /// For copies and transcodes with a candidate: how the bytes compare.
    pub fn bytes(&self) -> Option<ByteComparison> {
        self.bytes
    }

    /// NaN and infinities among plain floats that are written. Indices are those of the grid.
    pub fn nonfinite(&self) -> Tally {
        self.nonfinite
    }

    /// Elements that differ from the candidate's by more than the rounding of the coarser type.
    pub fn beyond_rounding(&self) -> Tally {
        self.beyond_rounding
    }
}
