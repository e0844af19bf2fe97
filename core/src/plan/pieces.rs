//! The pieces of an output: one as a rule, which lies in place, or many.

use super::Piece;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use serde::{Serialize, Serializer};

/// Pieces in order of their rows. A single one takes no allocation: the plan of a million tensors stays small.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces(Held);

#[derive(Clone, Debug, PartialEq)]
enum Held {
    One(Piece),
    Many(Vec<Piece>),
}

impl From<Piece> for Pieces {
    fn from(piece: Piece) -> Pieces {
        Pieces(Held::One(piece))
    }
}

impl From<Vec<Piece>> for Pieces {
    fn from(mut pieces: Vec<Piece>) -> Pieces {
        match (pieces.pop(), pieces.is_empty()) {
            (Some(one), true) => Pieces(Held::One(one)),
            (last, _) => {
                pieces.extend(last);
                Pieces(Held::Many(pieces))
            }
        }
    }
}

impl Deref for Pieces {
    type Target = [Piece];

    fn deref(&self) -> &[Piece] {
        match &self.0 {
            Held::One(piece) => core::slice::from_ref(piece),
            Held::Many(pieces) => pieces,
        }
    }
}

impl DerefMut for Pieces {
    fn deref_mut(&mut self) -> &mut [Piece] {
        match &mut self.0 {
            Held::One(piece) => core::slice::from_mut(piece),
            Held::Many(pieces) => pieces,
        }
    }
}

impl<'a> IntoIterator for &'a Pieces {
    type Item = &'a Piece;
    type IntoIter = core::slice::Iter<'a, Piece>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Pieces {
    type Item = &'a mut Piece;
    type IntoIter = core::slice::IterMut<'a, Piece>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.deref().serialize(s)
    }
}
