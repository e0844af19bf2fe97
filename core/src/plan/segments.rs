//! The pieces of an output: one as a rule, which lies in place, or many.

use super::Segment;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use serde::{Serialize, Serializer};

/// Pieces in order of their rows. A single one takes no allocation: the plan of a million tensors stays small.
#[derive(Clone, Debug, PartialEq)]
pub struct Segments(Held);

#[derive(Clone, Debug, PartialEq)]
enum Held {
    One(Segment),
    Many(Vec<Segment>),
}

impl From<Segment> for Segments {
    fn from(piece: Segment) -> Segments {
        Segments(Held::One(piece))
    }
}

impl From<Vec<Segment>> for Segments {
    fn from(mut pieces: Vec<Segment>) -> Segments {
        match (pieces.pop(), pieces.is_empty()) {
            (Some(one), true) => Segments(Held::One(one)),
            (last, _) => {
                pieces.extend(last);
                Segments(Held::Many(pieces))
            }
        }
    }
}

impl Deref for Segments {
    type Target = [Segment];

    fn deref(&self) -> &[Segment] {
        match &self.0 {
            Held::One(piece) => core::slice::from_ref(piece),
            Held::Many(pieces) => pieces,
        }
    }
}

impl DerefMut for Segments {
    fn deref_mut(&mut self) -> &mut [Segment] {
        match &mut self.0 {
            Held::One(piece) => core::slice::from_mut(piece),
            Held::Many(pieces) => pieces,
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
