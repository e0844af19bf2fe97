//! Which entry beside a point is the nearest to a group of values, for many scales.
//!
//! Knows no sub-block. The definition is [`Group::nearest`]: of the entries in their order the first with the least
//! weighted distance, summed in index order. [`Lines`] finds the same entry in less time: written out, the distance of
//! an entry is `C + s * (A * s - B)` where only `A` and `B` are the entry's, so that entries compare as straight lines
//! in the scale `s`. What is summed in another order is off by rounding; entries closer than that can explain
//! are left to the definition. An entry that is the nearest at two scales, beyond doubt, is it at all between.

use super::grid::{Grid, HALVES, Place, Point};

/// A group of values, and what each counts in a distance.
pub struct Group<'a, const N: usize> {
    pub x: &'a [f32; N],
    pub roots: &'a [f32; N],
}

impl<const N: usize> Group<'_, N> {
    /// The nearest of entries. None where every distance is too large to be a number.
    pub fn nearest<const H: usize>(
        &self,
        grid: &Grid<N, H>,
        entries: impl Iterator<Item = Point>,
        scale: f32,
    ) -> Option<Point> {
        let (mut best, mut nearest) = (f32::MAX, None);
        for entry in entries {
            let distance =
                grid.odd(entry).iter().zip(self.x).zip(self.roots).fold(0.0, |sum, ((q, &x), &w)| {
                    let off = scale * q - x;
                    sum + w * off * off
                });
            if distance < best {
                (best, nearest) = (distance, Some(entry));
            }
        }
        nearest
    }
}

/// Entries that a list may hold, rounded up to whole [`LANES`].
const ENTRIES: usize = 296;
const LANES: usize = 8;
/// So many units in the last place of [`Lines::worth`] two distances may differ by rounding alone: less than 14 of each
/// as the definition sums it, less than 12 of each line, and room for rounding here.
const DOUBT: f32 = 64.0 / (1 << 24) as f32;

/// The lines of the entries near one point, for one group of values.
pub struct Lines<'a, const N: usize, const H: usize> {
    grid: &'a Grid<N, H>,
    group: Group<'a, N>,
    /// For each half and each of its combinations, what it adds to an entry's `A` and `B`.
    halves: [([f32; HALVES], [f32; HALVES]); 2],
    /// The sums of weights, of weight x magnitude (twice), and of weight x square.
    sums: [f32; 3],
    list: [Point; ENTRIES],
    slopes: [f32; ENTRIES],
    starts: [f32; ENTRIES],
    length: usize,
}

/// The nearest entry at some scale.
#[derive(Clone, Copy, Default)]
pub struct Found {
    pub entry: Point,
    /// Whether no other comes close.
    pub certain: bool,
}

impl<'a, const N: usize, const H: usize> Lines<'a, N, H> {
    /// For a group, with no list yet.
    pub fn new(grid: &'a Grid<N, H>, group: Group<'a, N>) -> Self {
        let mut halves = [([0.0; HALVES], [0.0; HALVES]); 2];
        for (k, (slopes, starts)) in halves.iter_mut().enumerate() {
            let mut done = 1;
            for (&x, &w) in group.x[k * H..].iter().zip(&group.roots[k * H..]).take(H) {
                done = spread::<H>(slopes, done, |q| w * q * q);
                spread::<H>(starts, done / levels::<H>(), |q| 2.0 * w * x * q);
            }
        }
        let sum =
            |f: fn(f32) -> f32| group.x.iter().zip(group.roots).fold(0.0, |sum, (&x, &w)| sum + w * f(x));
        let sums = [sum(|_| 1.0), sum(|x| 2.0 * x.abs()), sum(|x| x * x)];
        let (list, lines) = ([Point::default(); ENTRIES], [0.0; ENTRIES]);
        Lines { grid, group, halves, sums, list, slopes: lines, starts: lines, length: 0 }
    }

    /// No distance at `scale` is larger, in units of the scale.
    fn worth(&self, scale: f32) -> f32 {
        let top = (2 * levels::<H>() - 1) as f32;
        scale * top * top * self.sums[0] + top * self.sums[1] + self.sums[2] / scale
    }

    /// How far apart two lines must be at `scale` for the distances to differ; none where numbers are so large or small
    /// that more than rounding could be lost.
    pub fn doubt(&self, scale: f32) -> Option<f32> {
        let worth = self.worth(scale);
        let sound = worth * scale > 1e-27 && worth < 1e27 && scale < 1e6 && self.sums[2] < 1e27;
        sound.then_some(worth * DOUBT)
    }

    /// Takes the entries near `point`; says whether it is on the grid itself.
    pub fn near(&mut self, point: Point) -> bool {
        let Place::Near(list) = self.grid.place(point) else { return true };
        let slots = self.list.iter_mut().zip(&mut self.slopes).zip(&mut self.starts);
        for (((entry, slope), start), slot) in slots.zip(list) {
            *entry = Point::load(slot);
            let [first, second] = entry.halves();
            *slope = self.halves[0].0[first] + self.halves[1].0[second];
            *start = self.halves[0].1[first] + self.halves[1].1[second];
        }
        // Lines that are never the lowest fill up the last lanes.
        self.length = list.len().next_multiple_of(LANES).min(ENTRIES);
        self.slopes[list.len()..self.length].fill(0.0);
        self.starts[list.len()..self.length].fill(f32::MIN);
        false
    }

    /// The nearest entry at `scale`.
    pub fn nearest(&self, scale: f32, doubt: f32) -> Option<Found> {
        let lines = || {
            let slopes = self.slopes[..self.length].as_chunks::<LANES>().0.iter();
            slopes.zip(self.starts[..self.length].as_chunks::<LANES>().0)
        };
        let mut least = [f32::MAX; LANES];
        for (slopes, starts) in lines() {
            for ((least, &a), &b) in least.iter_mut().zip(slopes).zip(starts) {
                let height = a * scale - b;
                *least = if height < *least { height } else { *least };
            }
        }
        let limit = least.into_iter().fold(f32::MAX, |a, b| if b < a { b } else { a }) + doubt;
        let (mut count, mut place, mut at) = ([0_u32; LANES], [0_u32; LANES], 0);
        for (slopes, starts) in lines() {
            for i in 0..LANES {
                let close = if slopes[i] * scale - starts[i] <= limit { u32::MAX } else { 0 };
                count[i] = count[i].wrapping_sub(close);
                place[i] |= close & (at + i as u32);
            }
            at += LANES as u32;
        }
        if count.iter().sum::<u32>() == 1 {
            let only = place.iter().fold(0, |a, b| a | b) as usize;
            return Some(Found { entry: self.list[only.min(ENTRIES - 1)], certain: true });
        }
        let close = (0..self.length).filter(|&i| self.slopes[i] * scale - self.starts[i] <= limit);
        let entry = self.group.nearest(self.grid, close.map(|i| self.list[i]), scale)?;
        Some(Found { entry, certain: false })
    }

    /// The nearest entries at falling or rising scales.
    pub fn nearest_all(&self, scales: &[f32], doubt: f32, out: &mut [Point]) -> Option<()> {
        let Some((&last, _)) = scales.split_last() else { return Some(()) };
        let first = self.nearest(scales[0], doubt)?;
        let last = if scales.len() > 1 { self.nearest(last, doubt)? } else { first };
        self.between(scales, doubt, out, first, last)
    }

    /// As [`Lines::nearest_all`], with what is at both ends known.
    fn between(
        &self,
        scales: &[f32],
        doubt: f32,
        out: &mut [Point],
        first: Found,
        last: Found,
    ) -> Option<()> {
        let count = out.len();
        out[0] = first.entry;
        out[count - 1] = last.entry;
        if first.certain && last.certain && first.entry == last.entry {
            out.fill(first.entry);
        } else if count > 2 {
            let middle = self.nearest(scales[count / 2], doubt)?;
            self.between(&scales[..=count / 2], doubt, &mut out[..=count / 2], first, middle)?;
            self.between(&scales[count / 2..], doubt, &mut out[count / 2..], middle, last)?;
        }
        Some(())
    }
}

/// Levels of a value where `H` values make a half.
const fn levels<const H: usize>() -> usize {
    if H == 4 { 3 } else { 8 }
}

/// Adds a value to the combinations of those before it, of which there are `done`: gives how many there are then.
fn spread<const H: usize>(sums: &mut [f32; HALVES], done: usize, term: impl Fn(f32) -> f32) -> usize {
    let (before, more) = sums.split_at_mut(done);
    for (sums, level) in more.chunks_exact_mut(done).zip(1..levels::<H>()) {
        let term = term((2 * level + 1) as f32);
        sums.iter_mut().zip(&*before).for_each(|(sum, before)| *sum = before + term);
    }
    let term = term(1.0);
    before.iter_mut().for_each(|sum| *sum += term);
    done * levels::<H>()
}
