//! The exact choice for few tensors: a search with a bound.

use super::{HullStep, Problem};
use alloc::vec;
use alloc::vec::Vec;

/// The most choices of all tensors together that are searched, whatever the budget.
const CHOICES: usize = 200_000;

/// Whether there are so few choices that the best one is searched for.
pub(super) fn is_small(problem: &Problem) -> bool {
    let choices = problem.tensors.iter().try_fold(1_usize, |n, t| n.checked_mul(t.len()));
    choices.is_some_and(|n| n <= CHOICES)
}

/// A choice of the first tensors.
struct PartialChoice {
    chosen: Vec<usize>,
    bytes: u64,
    damage: f64,
}

/// Damage below which no choice of the tensors from `first` on can be, in `room` bytes: the steps of their hulls in order of
/// gains, the last one in part. `None` if not even the smallest candidates fit.
fn bound_from(problem: &Problem, first: usize, room: u64) -> Option<f64> {
    let rest = problem.smallest.get(first..)?;
    let least = rest.iter().map(|c| c.bytes).fold(0, u64::saturating_add);
    let mut left = room.checked_sub(least)?;
    let mut damage = rest.iter().map(|c| c.damage).fold(0.0, |a, d| a + d);
    for step in problem.steps.iter().filter(|s| s.tensor >= first) {
        let HullStep { bytes, saved, .. } = *step;
        match left.checked_sub(bytes) {
            Some(rest) => (left, damage) = (rest, damage - saved),
            None => return Some(damage - saved * left as f64 / bytes as f64),
        }
    }
    Some(damage)
}

/// Damage below which no choice can be.
#[cfg(test)]
pub(super) fn bound(problem: &Problem, budget: u64) -> f64 {
    bound_from(problem, 0, budget).unwrap_or(f64::INFINITY)
}

/// The choice with the least damage; of equal ones, the first that is found.
pub(super) fn exact(problem: &Problem, budget: u64) -> Vec<usize> {
    let mut best = problem.start.clone();
    let mut least = problem.damage(&best);
    let mut open = vec![PartialChoice { chosen: Vec::new(), bytes: 0, damage: 0.0 }];
    while let Some(prefix) = open.pop() {
        let tensor = prefix.chosen.len();
        let Some(candidates) = problem.tensors.get(tensor) else {
            let damage = problem.damage(&prefix.chosen);
            if damage < least {
                (least, best) = (damage, prefix.chosen);
            }
            continue;
        };
        let mut next: Vec<(f64, PartialChoice)> = Vec::new();
        for (index, candidate) in candidates.iter().enumerate() {
            let Some(bytes) = prefix.bytes.checked_add(candidate.bytes).filter(|b| *b <= budget) else {
                continue;
            };
            let damage = prefix.damage + candidate.damage;
            let rest = bound_from(problem, tensor + 1, budget - bytes);
            let Some(bound) = rest.map(|rest| damage + rest).filter(|bound| *bound < least) else { continue };
            let mut chosen = prefix.chosen.clone();
            chosen.push(index);
            next.push((bound, PartialChoice { chosen, bytes, damage }));
        }
        // The choice with the least bound is last on the stack, so that it is extended first.
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        open.extend(next.into_iter().map(|(_, prefix)| prefix));
    }
    best
}
