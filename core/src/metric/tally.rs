//! Counts of elements of a kind, with the place of the first.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// How many elements are of some kind (NaN or infinite, beyond rounding), and where the first is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Tally {
    /// Number of elements.
    pub count: u64,
    /// Row-major index of the first, absent where `count` is 0.
    pub first: Option<u64>,
}

impl Tally {
    /// Adds the elements of another window. Commutative.
    pub fn merge(&mut self, other: &Tally) {
        self.count += other.count;
        self.first = earlier(self.first, other.first);
    }
}

impl Serialize for Tally {
    /// In JSON an absent `first` is left out; binary forms have every field.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let all = self.first.is_some() || !s.is_human_readable();
        let mut out = s.serialize_struct("Tally", 1 + usize::from(all))?;
        out.serialize_field("count", &self.count)?;
        if all {
            out.serialize_field("first", &self.first)?;
        }
        out.end()
    }
}

/// Result of comparing stored bytes exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteComparison {
    /// Number of blocks that differ (of bytes, for tensors that are copied).
    pub differing: u64,
    /// Row-major index of the first element of the first differing block.
    pub first: Option<u64>,
    /// True if the encoding cannot represent the values at all.
    pub refused: bool,
}

impl ByteComparison {
    /// Adds the result of another window. Commutative.
    pub fn merge(&mut self, other: &ByteComparison) {
        self.differing += other.differing;
        self.refused |= other.refused;
        self.first = earlier(self.first, other.first);
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
