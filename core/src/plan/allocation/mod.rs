//! Choice of a type for each tensor, so that the predicted damage to a model is least under a budget of bytes.
//!
//! This is a knapsack problem with one choice for each tensor. Tensors start at their smallest type; steps along the lower
//! convex hull of size and damage are taken in the order of damage saved for each byte, as long as they fit. From each point of
//! this path, the best change of one or two tensors spends what is left of the budget. The largest tensor, whose steps are as
//! large as many others together, is tried at each of its types. Of few tensors, the best choice is searched for exactly.
//! More bytes never give more damage: every choice that is compared under a budget is compared under a larger one too. Knows no
//! files, types or models.

mod change;
mod search;

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// What a tensor costs at one of its types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypeCandidate {
    /// Bytes in the file, with padding.
    pub bytes: u64,
    /// Predicted damage: finite and at least 0; anything else counts as the greatest finite number.
    pub damage: f64,
}

/// A choice for all tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// For each tensor, the index of its candidate.
    pub chosen: Vec<usize>,
    /// Bytes of all chosen candidates.
    pub bytes: u64,
    /// The sum of their damage.
    pub damage: f64,
}

/// A budget below the least bytes that are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// The least bytes.
    pub least: u64,
}

/// A step from one candidate of a tensor to the next one on its hull.
#[derive(Clone, Copy, Debug)]
struct HullStep {
    tensor: usize,
    /// Index of the candidate that the step leads to.
    to: usize,
    bytes: u64,
    saved: f64,
}

impl HullStep {
    /// Saved damage for each byte.
    fn gain(&self) -> f64 {
        self.saved / self.bytes.max(1) as f64
    }
}

/// Chooses one candidate of each tensor, with at most `budget` bytes together.
///
/// The result depends on the candidates and the budget only. Candidates of a tensor may be in any order; a tensor without
/// candidates is an error of the caller and counts as one that costs nothing.
///
/// # Errors
///
/// [`TooSmall`] if the smallest candidates together are larger than the budget.
pub fn allocate(tensors: &[Vec<TypeCandidate>], budget: u64) -> Result<Allocation, TooSmall> {
    let problem = Problem::of(tensors);
    let least = problem.smallest.iter().map(|c| c.bytes).fold(0, u64::saturating_add);
    if least > budget {
        return Err(TooSmall { least });
    }
    if search::is_small(&problem) {
        return Ok(problem.allocation(search::exact(&problem, budget)));
    }
    let largest = problem.largest();
    let candidates = 0..problem.tensors.get(largest).map_or(0, Vec::len);
    let fitting = candidates.filter(|index| problem.fits(largest, *index, least, budget));
    let choices = fitting.map(|index| problem.along_hulls(budget, (largest, index)));
    let best = choices.reduce(|a, b| problem.better(a, b));
    Ok(problem.allocation(best.unwrap_or_else(|| problem.start.clone())))
}

/// Candidates with the order in which they are taken.
struct Problem {
    /// Candidates with sound damage.
    tensors: Vec<Vec<TypeCandidate>>,
    /// Index of the smallest candidate of each tensor, and the candidate.
    start: Vec<usize>,
    smallest: Vec<TypeCandidate>,
    /// Steps along all hulls, the greatest gain first. Steps of one tensor are in order of bytes, for hulls are convex.
    steps: Vec<HullStep>,
}

/// The better candidate first: least bytes, then least damage, then the first.
fn by_bytes(a: (usize, &TypeCandidate), b: (usize, &TypeCandidate)) -> Ordering {
    a.1.bytes.cmp(&b.1.bytes).then(a.1.damage.total_cmp(&b.1.damage)).then(a.0.cmp(&b.0))
}

impl Problem {
    fn of(tensors: &[Vec<TypeCandidate>]) -> Problem {
        let sound = |c: &TypeCandidate| {
            let damage = if c.damage.is_finite() { c.damage.max(0.0) } else { f64::MAX };
            TypeCandidate { damage, ..*c }
        };
        let nothing = TypeCandidate { bytes: 0, damage: 0.0 };
        let tensors: Vec<Vec<TypeCandidate>> = tensors
            .iter()
            .map(|t| if t.is_empty() { vec![nothing] } else { t.iter().map(sound).collect() })
            .collect();
        let mut problem = Problem { tensors, start: Vec::new(), smallest: Vec::new(), steps: Vec::new() };
        for (tensor, candidates) in problem.tensors.iter().enumerate() {
            let hull = hull(candidates);
            problem.start.push(hull.first().copied().unwrap_or(0));
            let first = hull.first().and_then(|&i| candidates.get(i)).copied();
            problem.smallest.push(first.unwrap_or(nothing));
            let pairs = hull.windows(2).filter_map(|pair| match *pair {
                [from, to] => Some((*candidates.get(from)?, to, *candidates.get(to)?)),
                _ => None,
            });
            problem.steps.extend(pairs.map(|(a, to, b)| HullStep {
                tensor,
                to,
                bytes: b.bytes - a.bytes,
                saved: a.damage - b.damage,
            }));
        }
        // Of equal gains the earlier tensor comes first, and its steps stay in their order: the sort is stable.
        problem.steps.sort_by(|a, b| b.gain().total_cmp(&a.gain()).then(a.tensor.cmp(&b.tensor)));
        problem
    }

    fn candidate(&self, tensor: usize, index: usize) -> TypeCandidate {
        let one = self.tensors.get(tensor).and_then(|t| t.get(index)).copied();
        one.unwrap_or(TypeCandidate { bytes: 0, damage: f64::MAX })
    }

    /// The tensor with the greatest step; the first one if there are no steps.
    fn largest(&self) -> usize {
        let step = self.steps.iter().max_by(|a, b| a.bytes.cmp(&b.bytes).then(b.tensor.cmp(&a.tensor)));
        step.map_or(0, |s| s.tensor)
    }

    /// Damage that changes of two tensors save at most.
    fn most_saved(&self, held: usize) -> f64 {
        let (mut first, mut second) = (0.0_f64, 0.0_f64);
        for (_, candidates) in self.tensors.iter().enumerate().filter(|(t, _)| *t != held) {
            let damage = || candidates.iter().map(|c| c.damage);
            let span = damage().fold(0.0, f64::max) - damage().fold(f64::MAX, f64::min);
            (first, second) = if span > first { (span, first) } else { (first, second.max(span)) };
        }
        first + second
    }

    /// Whether a tensor at this candidate leaves room for all others at their smallest.
    fn fits(&self, tensor: usize, index: usize, least: u64, budget: u64) -> bool {
        let own = self.smallest.get(tensor).map_or(0, |c| c.bytes);
        let bytes = (least - own).checked_add(self.candidate(tensor, index).bytes);
        bytes.is_some_and(|bytes| bytes <= budget)
    }

    /// The best choice that is at most two changes away from the path of steps. A tensor is held at a candidate.
    fn along_hulls(&self, budget: u64, (held, index): (usize, usize)) -> Vec<usize> {
        let mut chosen = self.start.clone();
        set(&mut chosen, held, index);
        let mut left = budget.saturating_sub(self.bytes(&chosen));
        let mut taken: Vec<(usize, usize, u64)> = Vec::new();
        for step in self.steps.iter().filter(|s| s.tensor != held) {
            let Some(rest) = left.checked_sub(step.bytes) else { break };
            taken.push((step.tensor, chosen.get(step.tensor).copied().unwrap_or(0), step.bytes));
            set(&mut chosen, step.tensor, step.to);
            left = rest;
        }
        let most = self.most_saved(held);
        let mut best = chosen.clone();
        let mut least = self.damage(&best);
        // Backwards: the last points are the best ones, and the damage of earlier ones is soon too large.
        while self.damage(&chosen) - most < least {
            if let Some(changed) = change::best(self, &chosen, left, held, least) {
                (least, best) = (self.damage(&changed), changed);
            }
            let Some((tensor, before, bytes)) = taken.pop() else { break };
            set(&mut chosen, tensor, before);
            left += bytes;
        }
        best
    }

    fn bytes(&self, chosen: &[usize]) -> u64 {
        let all = chosen.iter().enumerate().map(|(tensor, &i)| self.candidate(tensor, i).bytes);
        all.fold(0, u64::saturating_add)
    }

    fn damage(&self, chosen: &[usize]) -> f64 {
        chosen.iter().enumerate().map(|(tensor, &i)| self.candidate(tensor, i).damage).fold(0.0, |a, d| a + d)
    }

    /// The choice with less damage; of equal ones that with fewer bytes, then the first.
    fn better(&self, a: Vec<usize>, b: Vec<usize>) -> Vec<usize> {
        let order = self.damage(&a).total_cmp(&self.damage(&b));
        if order.then(self.bytes(&a).cmp(&self.bytes(&b))) == Ordering::Greater { b } else { a }
    }

    fn allocation(&self, chosen: Vec<usize>) -> Allocation {
        Allocation { bytes: self.bytes(&chosen), damage: self.damage(&chosen), chosen }
    }
}

/// Gives a tensor another candidate.
fn set(chosen: &mut [usize], tensor: usize, index: usize) {
    chosen.iter_mut().skip(tensor).take(1).for_each(|c| *c = index);
}

/// The lower convex hull of bytes and damage: indices of candidates by bytes, each with less damage than the one before.
fn hull(candidates: &[TypeCandidate]) -> Vec<usize> {
    let mut order: Vec<(usize, &TypeCandidate)> = candidates.iter().enumerate().collect();
    order.sort_by(|a, b| by_bytes(*a, *b));
    let mut hull: Vec<(usize, TypeCandidate)> = Vec::new();
    for (index, &next) in order {
        if hull.last().is_some_and(|(_, last)| last.damage <= next.damage) {
            continue;
        }
        while let [.., (_, a), (_, b)] = hull.as_slice() {
            let first = (a.damage - b.damage) * (next.bytes - b.bytes) as f64;
            let second = (b.damage - next.damage) * (b.bytes - a.bytes) as f64;
            if first > second {
                break;
            }
            hull.pop();
        }
        hull.push((index, next));
    }
    hull.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudorandom numbers.
    struct SizeDraw(u64);

    impl SizeDraw {
        fn next(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }
    }

    fn tensors(draw: &mut SizeDraw, count: usize) -> Vec<Vec<TypeCandidate>> {
        let candidate = |draw: &mut SizeDraw| TypeCandidate {
            bytes: 32 * (1 + draw.next(40)),
            damage: draw.next(1000) as f64 / 64.0,
        };
        let tensor = |draw: &mut SizeDraw| (0..1 + draw.next(5)).map(|_| candidate(draw)).collect();
        (0..count).map(|_| tensor(draw)).collect()
    }

    /// The least damage of all choices that fit.
    fn brute_force(tensors: &[Vec<TypeCandidate>], budget: u64) -> Option<f64> {
        let Some((first, rest)) = tensors.split_first() else { return Some(0.0) };
        let with = |c: &TypeCandidate| Some(c.damage + brute_force(rest, budget.checked_sub(c.bytes)?)?);
        first.iter().filter_map(with).min_by(f64::total_cmp)
    }

    #[test]
    fn few_tensors_have_the_least_damage_of_all_choices() {
        let mut draw = SizeDraw(0x9E37_79B9_7F4A_7C15);
        for round in 0..400 {
            let tensors = tensors(&mut draw, 1 + round % 7);
            let budget = draw.next(32 * 160);
            match (allocate(&tensors, budget), brute_force(&tensors, budget)) {
                (Ok(found), Some(best)) => {
                    assert!(found.bytes <= budget, "round {round}");
                    assert!((found.damage - best).abs() < 1e-9, "round {round}: {} for {best}", found.damage);
                }
                (Err(small), None) => {
                    let least: u64 =
                        tensors.iter().map(|t| t.iter().map(|c| c.bytes).min().unwrap_or(0)).sum();
                    assert_eq!(small.least, least, "round {round}");
                }
                (found, best) => panic!("round {round}: {found:?} for {best:?}"),
            }
        }
    }

    #[test]
    fn many_tensors_stay_under_every_budget_and_near_the_bound() {
        let mut draw = SizeDraw(7);
        let tensors = tensors(&mut draw, 300);
        let least: u64 = tensors.iter().map(|t| t.iter().map(|c| c.bytes).min().unwrap_or(0)).sum();
        let mut before = f64::INFINITY;
        for budget in (least..least + 60_000).step_by(1777) {
            let found = allocate(&tensors, budget).expect("it fits");
            assert!(found.bytes <= budget);
            let bound = search::bound(&Problem::of(&tensors), budget);
            assert!(found.damage >= bound - 1e-9, "{} below the bound {bound}", found.damage);
            assert!(found.damage <= bound + 16.0, "{} far from the bound {bound}", found.damage);
            assert!(found.damage <= before + 1e-9, "more bytes, more damage");
            before = found.damage;
        }
    }

    #[test]
    fn order_of_candidates_changes_no_bytes() {
        let mut draw = SizeDraw(11);
        let tensors = tensors(&mut draw, 60);
        let turned: Vec<Vec<TypeCandidate>> =
            tensors.iter().map(|t| t.iter().rev().copied().collect()).collect();
        let budget = 60 * 32 * 18;
        let (a, b) = (allocate(&tensors, budget), allocate(&turned, budget));
        let sums = |a: Result<Allocation, TooSmall>| a.map(|a| (a.bytes, a.damage));
        assert_eq!(sums(a), sums(b));
    }

    #[test]
    fn damage_that_is_no_number_is_avoided() {
        let nan = TypeCandidate { bytes: 10, damage: f64::NAN };
        let sound = TypeCandidate { bytes: 20, damage: 5.0 };
        let found = allocate(&[vec![nan, sound]], 20).expect("it fits");
        assert_eq!(found.chosen, [1]);
        let found = allocate(&[vec![nan, sound]], 19).expect("it fits");
        assert_eq!(found.chosen, [0]);
        assert_eq!(allocate(&[vec![sound]], 19), Err(TooSmall { least: 20 }));
    }
}
