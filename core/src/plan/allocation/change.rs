//! The best change of one or two tensors.

use super::{Problem, TypeCandidate, set};
use alloc::vec::Vec;

/// Another candidate for a tensor.
#[derive(Clone, Copy, Debug)]
struct TypeChange {
    tensor: usize,
    to: usize,
    /// Bytes that it adds; negative where it frees some.
    bytes: i64,
    /// Damage that it saves; negative where it adds some.
    saved: f64,
}

/// The two changes of different tensors that save most.
#[derive(Clone, Copy, Default)]
struct Top {
    first: Option<TypeChange>,
    second: Option<TypeChange>,
}

impl Top {
    fn with(self, change: TypeChange) -> Top {
        let more = |than: Option<TypeChange>| than.is_none_or(|t| change.saved > t.saved);
        match self.first {
            Some(first) if !more(self.first) => {
                let second = change.tensor != first.tensor && more(self.second);
                Top { second: if second { Some(change) } else { self.second }, ..self }
            }
            Some(first) if first.tensor == change.tensor => Top { first: Some(change), ..self },
            first => Top { first: Some(change), second: first },
        }
    }

    /// The best one of another tensor than `tensor`.
    fn beside(self, tensor: usize) -> Option<TypeChange> {
        self.first.filter(|c| c.tensor != tensor).or(self.second)
    }

    /// Damage that both save at most.
    fn most(self) -> f64 {
        let saved = |c: Option<TypeChange>| c.map_or(0.0, |c| c.saved.max(0.0));
        saved(self.first) + saved(self.second)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// `chosen` with the best change of one or two tensors that adds at most `left` bytes; `None` where no change brings the damage
/// below `least`. The tensor `held` stays.
pub(super) fn best(
    problem: &Problem,
    chosen: &[usize],
    left: u64,
    held: usize,
    least: f64,
) -> Option<Vec<usize>> {
    let now = problem.damage(chosen);
    let mut changes: Vec<TypeChange> = Vec::new();
    // Bytes that a change frees at most.
    let mut freed = 0_i64;
    for (tensor, &at) in chosen.iter().enumerate().filter(|(t, _)| *t != held) {
        let from = problem.candidate(tensor, at);
        let all = || problem.tensors.get(tensor).into_iter().flatten().enumerate();
        // Of smaller candidates, the next one only: what it frees is for another tensor.
        let below = all().filter(|(_, c)| c.bytes < from.bytes).map(|(_, c)| c.bytes).max();
        let near = |c: &TypeCandidate| c.bytes >= from.bytes || Some(c.bytes) == below;
        for (to, candidate) in all().filter(|(i, c)| *i != at && near(c)) {
            let bytes = signed(candidate.bytes).saturating_sub(signed(from.bytes));
            let change = TypeChange { tensor, to, bytes, saved: from.damage - candidate.damage };
            freed = freed.max(bytes.saturating_neg());
            changes.push(change);
        }
    }
    let room = signed(left).saturating_add(freed);
    let top = changes.iter().filter(|c| c.bytes <= room).fold(Top::default(), |top, c| top.with(*c));
    if now - top.most() >= least {
        return None;
    }
    changes.sort_by_key(|c| c.bytes);
    let (first, second) = best_pair(&changes, signed(left), now - least)?;
    let mut changed = chosen.to_vec();
    for change in [Some(first), second].into_iter().flatten() {
        set(&mut changed, change.tensor, change.to);
    }
    Some(changed)
}

/// The change or pair of changes that adds at most `left` bytes and saves most, if that is more than `enough`. `changes` are in
/// order of bytes.
fn best_pair(changes: &[TypeChange], left: i64, enough: f64) -> Option<(TypeChange, Option<TypeChange>)> {
    let mut tops: Vec<Top> = Vec::with_capacity(changes.len());
    for change in changes {
        tops.push(tops.last().copied().unwrap_or_default().with(*change));
    }
    let (mut best, mut most) = (None, enough);
    for change in changes {
        if change.bytes <= left && change.saved > most {
            (best, most) = (Some((*change, None)), change.saved);
        }
        let room = left.saturating_sub(change.bytes);
        let count = changes.partition_point(|c| c.bytes <= room);
        let top = count.checked_sub(1).and_then(|last| tops.get(last));
        let other = top.and_then(|top| top.beside(change.tensor));
        if let Some(other) = other.filter(|other| change.saved + other.saved > most) {
            (best, most) = (Some((*change, Some(other))), change.saved + other.saved);
        }
    }
    best
}
