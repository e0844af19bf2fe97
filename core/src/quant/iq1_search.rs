//! Shared code of the IQ1_S and IQ1_M encoders: sorted values, the split of a sub-block into three levels,
//! and groups of eight on the grid.
//!
//! With three levels the best split by weighted squares is found among all splits: in ascending order, values
//! with the same level are neighbours, so two borders describe a split, and prefix sums give its fit. Equal
//! values stay in index order. The reference leaves that to `qsort`, which does the same in glibc. Knows no
//! layout.

use super::grid::{GridPoint, PointLookup, SignGrid};
use super::nearest_grid_point::{GridGroup, NeighbourLines};
use super::sign_grid::SHIFT;

/// The three levels, with the positive and the negative shift.
pub(super) const LEVELS: [[f32; 3]; 2] =
    [[-1.0 + SHIFT, SHIFT, 1.0 + SHIFT], [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT]];

/// Values of four levels, for both shifts and every combination.
static SHIFTED: [[[f32; 4]; 81]; 2] = {
    let mut all = [[[0.0; 4]; 81]; 2];
    let mut at = 0;
    while at < 2 * 81 * 4 {
        let (minus, code, i) = (at / (81 * 4), at / 4 % 81, at % 4);
        all[minus][code][i] = LEVELS[minus][code / 3_usize.pow(i as u32) % 3];
        at += 1;
    }
    all
};

/// Values of an entry before its scale; `minus` selects the negative shift.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn values(entry: GridPoint, minus: bool) -> [f32; 8] {
    entry.values(&SHIFTED[usize::from(minus)])
}

/// A split of a sub-block into three levels.
#[derive(Clone, Copy)]
pub(super) struct TernarySplit {
    /// Least-squares scale; may be negative.
    pub scale: f32,
    /// Reduction of the squared error: larger is better.
    score: f32,
    /// Number of values with the lowest level, and with one of the two lower levels.
    borders: (usize, usize),
    /// Combination of shifts, by number.
    pub shifts: usize,
}

/// Splits evaluated side by side: one lower border with neighbouring upper borders.
pub(super) const STEP: usize = 4;

/// Sums of [`STEP`] splits, for `K` combinations of shifts.
pub(super) struct TernarySums<const K: usize> {
    /// Sums of weight x value x level.
    pub cross: [[f32; STEP]; K],
    /// Sums of weight x level x level.
    pub square: [[f32; STEP]; K],
}

/// Share of the best ratio above which a split may be the best, given rounding, with a margin.
const CANDIDATE: f32 = 1.0 - 24.0 / (1 << 24) as f32;
/// Share of the best ratio between which and [`CANDIDATE`] a split could still be affected by rounding; such
/// a case is resolved by the definition.
const AMBIGUOUS: f32 = 1.0 - 64.0 / (1 << 24) as f32;
/// Share of the best ratio below which splits are skipped.
const PRUNED: f32 = 1.0 - 80.0 / (1 << 24) as f32;

impl<const K: usize> TernarySums<K> {
    /// True if any split exceeds `ratio`.
    #[inline(always)]
    fn reach(&self, ratio: f32) -> bool {
        let mut any = false;
        for (cross, square) in self.cross.iter().zip(&self.square) {
            for (cross, square) in cross.iter().zip(square) {
                any |= cross * cross > ratio * square;
            }
        }
        any
    }

    /// Quality of a split: the ratio that the definition compares without dividing.
    #[cfg_attr(target_arch = "wasm32", inline)]
    fn ratio(&self, shifts: usize, lane: usize) -> f32 {
        self.cross[shifts][lane] * self.cross[shifts][lane] / self.square[shifts][lane]
    }

    /// Replaces the best split if this one is better.
    #[cfg_attr(target_arch = "wasm32", inline)]
    fn offer(&self, best: &mut Option<TernarySplit>, borders: (usize, usize), lane: usize, shifts: usize) {
        let (cross, square) = (self.cross[shifts][lane], self.square[shifts][lane]);
        let score = best.map_or(f32::MIN, |best| best.score);
        if square > 0.0 && cross * cross > score * square {
            let scale = cross / square;
            *best = Some(TernarySplit { scale, score: scale * cross, borders, shifts });
        }
    }

    /// The best ratio, or `least` if none is larger.
    #[cfg_attr(target_arch = "wasm32", inline)]
    fn best(&self, least: f32) -> f32 {
        let mut best = [least; STEP];
        for (cross, square) in self.cross.iter().zip(&self.square) {
            for ((best, cross), square) in best.iter_mut().zip(cross).zip(square) {
                let ratio = cross * cross / square;
                *best = if ratio > *best { ratio } else { *best };
            }
        }
        best.into_iter().fold(least, |a, b| if b > a { b } else { a })
    }
}

/// Position of a border in the arrays of sums. The border before the first value comes last, so that the `W`
/// others fill whole steps.
#[inline(always)]
pub(super) const fn border_slot<const W: usize>(border: usize) -> usize {
    if border == 0 { W } else { border - 1 }
}

/// First positions of the steps that hold the upper borders of a lower border, ascending. The first step may
/// hold lower borders too.
fn starts<const W: usize>(low: usize) -> impl Iterator<Item = usize> {
    let none = (low == 0).then_some(W);
    none.into_iter().chain((low.saturating_sub(1) / STEP * STEP..W).step_by(STEP))
}

/// The best of all splits of `W` values; `None` if all weights are zero.
///
/// In the order of the definition the first border rises, then the second, then the number of the shifts, and
/// a split that is better than the best so far replaces it.
///
/// - `total`: sum of the weights.
/// - `sums_of(low, start)`: sums of the upper borders whose positions (see [`border_slot`]) start at `start`,
///   a multiple of [`STEP`]; positions from `W` on have infinite squares.
/// - `ROWS` is `W + 1`.
///
/// The first pass finds the best ratio. Which split wins is then decided among those near the best ratio,
/// with the comparisons of the definition, provided that no split lies between near and far: far splits
/// cannot win in any order.
///
/// The first pass includes borders in the wrong order, which saves a comparison. Levels are equidistant, so
/// these have the cross sums of the right order and squares that are not smaller. If rounding makes one of
/// them the best, either a valid split is near it and nothing changes, or none is and the definition decides.
#[inline(always)]
pub(super) fn best_split<const W: usize, const ROWS: usize, const K: usize>(
    total: f32,
    sums_of: impl Fn(usize, usize) -> TernarySums<K>,
) -> Option<TernarySplit> {
    // For each lower border the best ratio, or 0 if it is far from the best of those before.
    let mut best_ratios = [0.0; ROWS];
    best_ratios[0] = sums_of(0, W).best(0.0);
    let mut best_ratio = best_ratios[0];
    // The middle comes first: the best split is likely there, so that the others are pruned.
    for low in (W / 3..=W).chain(0..W / 3) {
        for start in (low.saturating_sub(1) / STEP * STEP..W).step_by(STEP) {
            let sums = sums_of(low, start);
            if sums.reach(best_ratio * PRUNED) {
                best_ratios[low] = sums.best(best_ratios[low]);
                best_ratio = if best_ratios[low] > best_ratio { best_ratios[low] } else { best_ratio };
            }
        }
    }
    // If products may be too small or too large to compare, only the definition decides.
    let in_range = best_ratio * total > 1e-28 && best_ratio * total < 1e30 && total < 1e30;
    if !in_range {
        return best_split_in_order::<W, K>(sums_of);
    }
    let (candidate, ambiguous) = (best_ratio * CANDIDATE, best_ratio * AMBIGUOUS);
    let mut best = None;
    for low in (0..=W).filter(|&low| best_ratios[low] >= ambiguous) {
        for start in starts::<W>(low) {
            let sums = sums_of(low, start);
            if !sums.reach(best_ratio * PRUNED) {
                continue;
            }
            for (lane, shifts) in (0..STEP).flat_map(|lane| (0..K).map(move |shifts| (lane, shifts))) {
                let (high, ratio) = ((start + lane + 1) % ROWS, sums.ratio(shifts, lane));
                if high < low {
                    continue;
                }
                if ratio >= candidate {
                    sums.offer(&mut best, (low, high), lane, shifts);
                } else if ratio >= ambiguous {
                    return best_split_in_order::<W, K>(sums_of);
                }
            }
        }
    }
    if best.is_some() { best } else { best_split_in_order::<W, K>(sums_of) }
}

/// [`best_split`] by the definition.
#[inline(never)]
fn best_split_in_order<const W: usize, const K: usize>(
    sums: impl Fn(usize, usize) -> TernarySums<K>,
) -> Option<TernarySplit> {
    let mut best = None;
    for low in 0..=W {
        for high in low..=W {
            let (lane, start) = (border_slot::<W>(high) % STEP, border_slot::<W>(high) / STEP * STEP);
            let sums = sums(low, start);
            (0..K).for_each(|shifts| sums.offer(&mut best, (low, high), lane, shifts));
        }
    }
    best
}

/// The [`STEP`] numbers from `start` on, a multiple of [`STEP`].
#[inline(always)]
pub(super) fn chunk<const L: usize>(numbers: &[f32; L], start: usize) -> &[f32; STEP] {
    &numbers.as_chunks::<STEP>().0[start / STEP]
}

/// Indices of the values in ascending order.
pub(super) fn order<const W: usize>(x: &[f32; W]) -> [usize; W] {
    let mut keys: [u64; W] = core::array::from_fn(|i| {
        // Adding 0 makes zeros of both signs equal. The key ascends with the float: all bits inverted if
        // negative, else the sign bit.
        let bits = (x[i] + 0.0).to_bits();
        let rising = bits ^ (((bits as i32) >> 31) as u32 | 0x8000_0000);
        u64::from(rising) << 32 | i as u64
    });
    keys.sort_unstable();
    keys.map(|key| key as usize & (W - 1))
}

/// Level numbers of a split, reversed if its scale is negative.
pub(super) fn levels<const W: usize>(order: &[usize; W], split: &TernarySplit) -> [i32; W] {
    let mut levels = [1; W];
    let (low, high) = if split.scale < 0.0 { (2, 0) } else { (0, 2) };
    for (rank, &place) in order.iter().enumerate() {
        if rank < split.borders.0 {
            levels[place] = low;
        } else if rank >= split.borders.1 {
            levels[place] = high;
        }
    }
    levels
}

/// Places a group of eight on the grid: the entry with its levels, or the neighbour with the smallest
/// weighted distance. Also returns whether the levels were on the grid.
///
/// `None` if every distance is too large for binary32; ggml then reads outside its arrays.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn place_group(
    grid: &SignGrid<8, 4>,
    neighbours: &mut NeighbourLines<8, 4>,
    levels: &[i32; 8],
    (x, weights): (&[f32; 8], &[f32; 8]),
    scale: f32,
    minus: bool,
) -> Option<(GridPoint, bool)> {
    let point = grid.point(levels);
    let PointLookup::Neighbours(list) = grid.lookup(point) else { return Some((point, true)) };
    let group = GridGroup { x: *x, weights: *weights, rows: &SHIFTED[usize::from(minus)] };
    let nearest = match neighbours.set_group_at(group, scale) {
        None => group.nearest(list.iter().map(GridPoint::load), scale),
        Some(tolerance) => {
            neighbours.load(grid, point);
            neighbours.nearest_at(scale, tolerance)
        }
    };
    nearest.map(|entry| (entry, false))
}

/// Adds weight x value x level and weight x level x level of a group to the sums.
#[cfg_attr(target_arch = "wasm32", inline)]
pub(super) fn add_sums(
    (cross, square): (&mut f32, &mut f32),
    (x, weights): (&[f32; 8], &[f32; 8]),
    levels: &[f32; 8],
) {
    for ((&x, &w), &q) in x.iter().zip(weights).zip(levels) {
        *cross += w * q * x;
        *square += w * q * q;
    }
}
