//! What the quantizers of IQ1_S and IQ1_M share: a sub-block's values in order, its split into three levels, and the
//! groups of eight that are not on the grid.
//!
//! Knows no layout. With three levels the best split by weighted squares is found among all: in rising order the values
//! of a level are neighbours, so that two borders say everything, and prefix sums give each split's fit. Values that
//! are equal stay in the order of their places (the reference leaves that to the C library's `qsort`, which does the
//! same in glibc).

use super::grid::{GridPoint, PointLookup, SignGrid};
use super::nearest_grid_point::{GridGroup, NeighbourLines};
use super::sign_grid::SHIFT;

/// The three levels, with the shift upwards and downwards.
pub const LEVELS: [[f32; 3]; 2] = [[-1.0 + SHIFT, SHIFT, 1.0 + SHIFT], [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT]];

/// The values of four levels, for every combination and either shift.
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

/// The values of an entry before its scale.
pub fn values(entry: GridPoint, minus: bool) -> [f32; 8] {
    entry.values(&SHIFTED[usize::from(minus)])
}

/// A split: its scale, how many values have the lowest level and how many not the highest, and its shifts by number.
#[derive(Clone, Copy)]
pub struct TernarySplit {
    pub scale: f32,
    score: f32,
    borders: (usize, usize),
    pub shifts: usize,
}

/// Splits side by side: those with the same lower border and so many neighbouring upper ones.
pub const STEP: usize = 4;

/// The sums of weight x value x level and weight x level x level of splits side by side, for `K` ways to shift.
pub struct TernarySums<const K: usize> {
    pub cross: [[f32; STEP]; K],
    pub square: [[f32; STEP]; K],
}

/// So much less than the best two splits may be judged by rounding alone, and a good deal more; and a little more again.
const LIKELY: f32 = 1.0 - 24.0 / (1 << 24) as f32;
const POSSIBLE: f32 = 1.0 - 64.0 / (1 << 24) as f32;
const HOPELESS: f32 = 1.0 - 80.0 / (1 << 24) as f32;

impl<const K: usize> TernarySums<K> {
    /// Whether any split may be as good as `ratio`.
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

    /// How good a split is: the ratio that the definition compares without dividing.
    fn ratio(&self, shifts: usize, lane: usize) -> f32 {
        self.cross[shifts][lane] * self.cross[shifts][lane] / self.square[shifts][lane]
    }

    /// Takes a split if its fit is better than the best before.
    fn offer(&self, best: &mut Option<TernarySplit>, borders: (usize, usize), lane: usize, shifts: usize) {
        let (cross, square) = (self.cross[shifts][lane], self.square[shifts][lane]);
        let score = best.map_or(f32::MIN, |best| best.score);
        if square > 0.0 && cross * cross > score * square {
            let scale = cross / square;
            *best = Some(TernarySplit { scale, score: scale * cross, borders, shifts });
        }
    }

    /// The best ratio, if it is more than `least`.
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

/// Where a border has its place in the numbers of all: that before the first value comes last, so that the `W` others
/// fill whole steps.
#[inline(always)]
pub const fn at<const W: usize>(border: usize) -> usize {
    if border == 0 { W } else { border - 1 }
}

/// The steps that hold the upper borders of a lower one, rising; the first may also hold borders that are below it.
fn starts<const W: usize>(low: usize) -> impl Iterator<Item = usize> {
    let none = (low == 0).then_some(W);
    none.into_iter().chain((low.saturating_sub(1) / STEP * STEP..W).step_by(STEP))
}

/// The best of all splits of `W` values: the first border rises, then the second, then the number of the shifts, and a
/// split that is better than the best before takes its place. None where nothing has a weight.
///
/// `total` is the sum of weights; `sums_of(low, start)` are those of the upper borders whose places (see [`at`]) are from
/// `start` on, a multiple of [`STEP`], those past `W` with infinite squares. Which split is the last to take the place is
/// told by those that come near the best of all, as long as nothing lies between near and far: what is far has no say
/// whatever the order, what is near is compared as the definition does. `ROWS` is `W + 1`.
///
/// The best of all is sought among borders in the wrong order too, which saves telling them apart: levels are
/// equally far from each other, so that these have the cross sums of the right order and no smaller squares. Where
/// rounding makes one the best nonetheless, either a split comes near it and all is as before, or none does and the
/// definition decides.
#[inline(always)]
pub fn best_split<const W: usize, const ROWS: usize, const K: usize>(
    total: f32,
    sums_of: impl Fn(usize, usize) -> TernarySums<K>,
) -> Option<TernarySplit> {
    // For each lower border the best ratio, or 0 where it is far from the best of those before.
    let mut tops = [0.0; ROWS];
    tops[0] = sums_of(0, W).best(0.0);
    let mut top = tops[0];
    // In the middle first: there the best is likely, and the rest then far from it.
    for low in (W / 3..=W).chain(0..W / 3) {
        for start in (low.saturating_sub(1) / STEP * STEP..W).step_by(STEP) {
            let sums = sums_of(low, start);
            if sums.reach(top * HOPELESS) {
                tops[low] = sums.best(tops[low]);
                top = if tops[low] > top { tops[low] } else { top };
            }
        }
    }
    // Where products may be too small or too large to be judged, only the definition knows.
    let sound = top * total > 1e-28 && top * total < 1e30 && total < 1e30;
    if !sound {
        return in_turn::<W, K>(sums_of);
    }
    let (likely, possible) = (top * LIKELY, top * POSSIBLE);
    let mut best = None;
    for low in (0..=W).filter(|&low| tops[low] >= possible) {
        for start in starts::<W>(low) {
            let sums = sums_of(low, start);
            if !sums.reach(top * HOPELESS) {
                continue;
            }
            for (lane, shifts) in (0..STEP).flat_map(|lane| (0..K).map(move |shifts| (lane, shifts))) {
                let (high, ratio) = ((start + lane + 1) % ROWS, sums.ratio(shifts, lane));
                if high < low {
                    continue;
                }
                if ratio >= likely {
                    sums.offer(&mut best, (low, high), lane, shifts);
                } else if ratio >= possible {
                    return in_turn::<W, K>(sums_of);
                }
            }
        }
    }
    if best.is_some() { best } else { in_turn::<W, K>(sums_of) }
}

/// [`best_split`] by the definition.
#[inline(never)]
fn in_turn<const W: usize, const K: usize>(
    sums: impl Fn(usize, usize) -> TernarySums<K>,
) -> Option<TernarySplit> {
    let mut best = None;
    for low in 0..=W {
        for high in low..=W {
            let (lane, start) = (at::<W>(high) % STEP, at::<W>(high) / STEP * STEP);
            let sums = sums(low, start);
            (0..K).for_each(|shifts| sums.offer(&mut best, (low, high), lane, shifts));
        }
    }
    best
}

/// The numbers from `start` on, a multiple of [`STEP`].
#[inline(always)]
pub fn chunk<const L: usize>(numbers: &[f32; L], start: usize) -> &[f32; STEP] {
    &numbers.as_chunks::<STEP>().0[start / STEP]
}

/// The places of values in rising order.
pub fn order<const W: usize>(x: &[f32; W]) -> [usize; W] {
    let mut keys: [u64; W] = core::array::from_fn(|i| {
        // Adding 0 makes the zeros of both signs equal. What rises with a float: its bits, all turned where it is
        // negative, else the sign alone.
        let bits = (x[i] + 0.0).to_bits();
        let rising = bits ^ (((bits as i32) >> 31) as u32 | 0x8000_0000);
        u64::from(rising) << 32 | i as u64
    });
    keys.sort_unstable();
    keys.map(|key| key as usize & (W - 1))
}

/// The level numbers of a split, turned around where its scale is negative.
pub fn levels<const W: usize>(order: &[usize; W], split: &TernarySplit) -> [i32; W] {
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

/// A group of eight on the grid: the entry with its levels, or the near one with the least weighted distance, and whether
/// it was on the grid. None where every distance is too large to be a number, where ggml goes on in memory that is
/// not its own.
pub fn place(
    grid: &SignGrid<8, 4>,
    lines: &mut NeighbourLines<8, 4>,
    levels: &[i32; 8],
    (x, weights): (&[f32; 8], &[f32; 8]),
    scale: f32,
    minus: bool,
) -> Option<(GridPoint, bool)> {
    let point = grid.point(levels);
    let PointLookup::Near(list) = grid.place(point) else { return Some((point, true)) };
    let group = GridGroup { x: *x, weights: *weights, rows: &SHIFTED[usize::from(minus)] };
    let nearest = match lines.take_at(group, scale) {
        None => group.nearest(list.iter().map(GridPoint::load), scale),
        Some(doubt) => {
            lines.near(grid, point);
            lines.nearest_at(scale, doubt)
        }
    };
    nearest.map(|entry| (entry, false))
}

/// Adds weight x value x level and weight x level x level of a group to the sums.
pub fn add_sums(
    (cross, square): (&mut f32, &mut f32),
    (x, weights): (&[f32; 8], &[f32; 8]),
    levels: &[f32; 8],
) {
    for ((&x, &w), &q) in x.iter().zip(weights).zip(levels) {
        *cross += w * q * x;
        *square += w * q * q;
    }
}
