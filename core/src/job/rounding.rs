//! Whether two float tensors are the same but for rounding, element by element. Knows no encodings and no verdicts.

use super::wide::TileValues;
use super::{Read, Tally};
use crate::dtype::DType;
use crate::float::Spacing;
use crate::plan::Op;

/// By how much the elements of two float tensors may differ.
///
/// One of the two is the other rounded to nearest: they differ by at most half of the distance of the coarser type's numbers, in
/// the octave of the smaller magnitude. Two tensors of one type are so equal, but for the sign of zeros.
pub(super) struct Allowed {
    types: [Spacing; 2],
    /// Binary64 values are worked on as binary32 before they become something narrower: they are rounded twice.
    twice: bool,
    /// Each side's type and the constant that its converter had added.
    shifts: [(Spacing, f64); 2],
}

/// Binary32.
const SINGLE: Spacing = Spacing { precision: 24, least: -126 };

impl Allowed {
    /// For two reads of plain float types; `None` for other types.
    pub(super) fn between(reference: &Read, candidate: &Read) -> Option<Allowed> {
        let dtypes = [reference.dtype, candidate.dtype];
        let (a, b) = (Spacing::of(dtypes[0])?, Spacing::of(dtypes[1])?);
        let twice = dtypes.contains(&DType::F64) && a.precision.min(b.precision) < SINGLE.precision;
        let added = |read: &Read| {
            let constants = read.ops.iter().map(|op| if let Op::Add(c) = op { f64::from(*c) } else { 0.0 });
            constants.map(f64::abs).sum()
        };
        Some(Allowed { types: [a, b], twice, shifts: [(a, added(reference)), (b, added(candidate))] })
    }

    /// The most by which two finite elements may differ.
    #[inline(always)]
    fn difference(&self, r: f64, q: f64) -> f64 {
        let least = if r.abs() < q.abs() { r.abs() } else { q.abs() };
        let [a, b] = self.types.map(|t| t.half(least));
        let mut allowed = if a > b { a } else { b };
        if self.twice {
            allowed += SINGLE.half(least);
        }
        for ((spacing, constant), value) in self.shifts.iter().zip([r, q]) {
            // The converter added and rounded to what is stored, and the constant is taken off again.
            if *constant != 0.0 {
                let stored = value.abs() + constant;
                allowed += spacing.half(stored) + 2.0 * SINGLE.half(stored);
            }
        }
        allowed
    }

    /// The elements that differ by more, where both sides are finite.
    pub(super) fn exceeded(&self, reference: TileValues<'_>, candidate: TileValues<'_>) -> Tally {
        let mut found = Tally::default();
        for at in 0..reference.len().min(candidate.len()) {
            let (r, q) = (reference.get(at), candidate.get(at));
            if r != q && r.is_finite() && q.is_finite() && (r - q).abs() > self.difference(r, q) {
                found.merge(&Tally { count: 1, first: Some(at as u64) });
            }
        }
        found
    }
}
