//! Which entry beside a point is the nearest to a group of values, for many scales.
//!
//! Knows no sub-block. The definition is [`GridGroup::nearest`]: of the entries in their order the first with the least
//! weighted distance, each summed in index order, several side by side. [`NeighbourLines`] finds the same entry in less time:
//! written out, the distance of an entry is `C + s * (A * s - B)` where only `A` and `B` are the entry's, so that entries
//! compare as straight lines in the scale `s`. What is summed in another order is off by rounding; entries closer than
//! that can explain are left to the definition. An entry that is the nearest at two scales, beyond doubt, is it at
//! all between.

use super::grid::{GridPoint, HALVES, PointLookup, SignGrid};

/// A group of values, what each counts in a distance, and what the combinations of a half are worth before the scale.
#[derive(Clone, Copy)]
pub struct GridGroup<const N: usize, const H: usize> {
    pub x: [f32; N],
    pub weights: [f32; N],
    pub rows: &'static [[f32; H]],
}

impl<const N: usize, const H: usize> GridGroup<N, H> {
    /// The nearest of entries. None where every distance is too large to be a number.
    pub fn nearest(&self, mut entries: impl Iterator<Item = GridPoint>, scale: f32) -> Option<GridPoint> {
        let (mut best, mut nearest) = (f32::MAX, None);
        let mut batch = [GridPoint::default(); LANES];
        loop {
            let count = batch.iter_mut().zip(&mut entries).map(|(slot, entry)| *slot = entry).count();
            for (&distance, &entry) in self.distances(&batch, scale).iter().zip(&batch[..count]) {
                if distance < best {
                    (best, nearest) = (distance, Some(entry));
                }
            }
            if count < LANES {
                return nearest;
            }
        }
    }

    fn distances(&self, entries: &[GridPoint; LANES], scale: f32) -> [f32; LANES] {
        let mut values = [[0.0; LANES]; N];
        for (lane, entry) in entries.iter().enumerate() {
            for (values, q) in values.iter_mut().zip(entry.values::<N, H>(self.rows)) {
                values[lane] = q;
            }
        }
        let mut distances = [0.0; LANES];
        for ((values, x), w) in values.iter().zip(self.x).zip(self.weights) {
            for (sum, q) in distances.iter_mut().zip(values) {
                let off = scale * q - x;
                *sum += w * off * off;
            }
        }
        distances
    }
}

/// Products of values below this with differences lose nothing but rounding.
pub const LOUD: f32 = 1e6;
/// Entries that a list may hold, rounded up to whole [`LANES`].
const ENTRIES: usize = 296;
const LANES: usize = 8;
/// So many units in the last place of [`NeighbourLines::worth`] two distances may differ by rounding alone: less than 14 of each
/// as the definition sums it, less than 12 of each line, and room for rounding here.
const DOUBT: f32 = 64.0 / (1 << 24) as f32;

/// The lines of the entries near one point, for one group of values.
pub struct NeighbourLines<const N: usize, const H: usize> {
    group: GridGroup<N, H>,
    /// For each half and each of its combinations, what it adds to an entry's `A` and `B`.
    halves: [([f32; HALVES], [f32; HALVES]); 2],
    /// The sums of weights, of weight x magnitude (twice), and of weight x square.
    sums: [f32; 3],
    list: [GridPoint; ENTRIES],
    slopes: [f32; ENTRIES],
    starts: [f32; ENTRIES],
    length: usize,
}

/// The nearest entry at some scale.
#[derive(Clone, Copy, Default)]
pub struct NearestPoint {
    pub entry: GridPoint,
    /// Whether no other comes close.
    pub certain: bool,
}

impl<const N: usize, const H: usize> NeighbourLines<N, H> {
    /// Room for the lines of groups, one after the other.
    pub fn new(grid: &SignGrid<N, H>) -> Self {
        NeighbourLines {
            group: GridGroup { x: [0.0; N], weights: [0.0; N], rows: grid.odd_rows() },
            halves: [([0.0; HALVES], [0.0; HALVES]); 2],
            sums: [0.0; 3],
            list: [GridPoint::default(); ENTRIES],
            slopes: [0.0; ENTRIES],
            starts: [0.0; ENTRIES],
            length: 0,
        }
    }

    /// Takes a group on odd levels.
    pub fn take(&mut self, group: GridGroup<N, H>) {
        let values = group.x.as_chunks::<H>().0.iter().zip(group.weights.as_chunks::<H>().0);
        for ((slopes, starts), (x, w)) in self.halves.iter_mut().zip(values) {
            (slopes[0], starts[0]) = (0.0, 0.0);
            let mut done = 1;
            for (&x, &w) in x.iter().zip(w) {
                spread::<H>(slopes, done, |level| w * odd(level) * odd(level));
                spread::<H>(starts, done, |level| 2.0 * w * x * odd(level));
                done *= levels::<H>();
            }
        }
        self.sums = [0.0; 3];
        for (&x, &w) in group.x.iter().zip(&group.weights) {
            self.sums[0] += w;
            self.sums[1] += 2.0 * w * x.abs();
            self.sums[2] += w * x * x;
        }
        self.group = group;
    }

    /// Takes a group for one scale only, with what an entry's distance there is as its slope: to be asked at the scale 1.
    /// Gives how far apart slopes must be for the distances to differ, see [`NeighbourLines::doubt`].
    pub fn take_at(&mut self, group: GridGroup<N, H>, scale: f32) -> Option<f32> {
        let values = group.x.as_chunks::<H>().0.iter().zip(group.weights.as_chunks::<H>().0);
        let (mut worth, mut loudest) = (0.0, 0.0);
        for ((slopes, starts), (x, w)) in self.halves.iter_mut().zip(values) {
            (slopes[0], *starts) = (0.0, [0.0; HALVES]);
            let mut done = 1;
            for (&x, &w) in x.iter().zip(w) {
                // No level is farther from 0 than the first or the last.
                let ends = [group.rows[0][0], group.rows[levels::<H>() - 1][0]];
                let most = scale * if -ends[0] > ends[1] { -ends[0] } else { ends[1] } + x.abs();
                worth += w * most * most;
                loudest = if x.abs() > loudest { x.abs() } else { loudest };
                spread::<H>(slopes, done, |level| {
                    let off = scale * group.rows[level][0] - x;
                    w * off * off
                });
                done *= levels::<H>();
            }
        }
        self.group = group;
        (worth > 1e-27 && worth < 1e27 && loudest < LOUD && scale < LOUD).then_some(worth * DOUBT)
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
        let sound = worth * scale > 1e-27 && worth < 1e27 && scale < LOUD && self.sums[2] < 1e27;
        sound.then_some(worth * DOUBT)
    }

    /// Takes the entries near `point`; says whether it is on the grid itself.
    pub fn near(&mut self, grid: &SignGrid<N, H>, point: GridPoint) -> bool {
        let PointLookup::Near(list) = grid.place(point) else { return true };
        let slots = self.list.iter_mut().zip(&mut self.slopes).zip(&mut self.starts);
        for (((entry, slope), start), slot) in slots.zip(list) {
            *entry = GridPoint::load(slot);
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
    fn nearest(&self, scale: f32, doubt: f32) -> Option<NearestPoint> {
        self.lowest(scale, doubt, scale)
    }

    /// The nearest entry at the one scale that [`NeighbourLines::take_at`] was told.
    pub fn nearest_at(&self, scale: f32, doubt: f32) -> Option<GridPoint> {
        self.lowest(1.0, doubt, scale).map(|found| found.entry)
    }

    /// The entry whose line is the lowest at `place`; where that is in doubt, the nearest of the lowest ones at `scale`.
    fn lowest(&self, place: f32, doubt: f32, scale: f32) -> Option<NearestPoint> {
        let lines = || {
            let slopes = self.slopes[..self.length].as_chunks::<LANES>().0.iter();
            slopes.zip(self.starts[..self.length].as_chunks::<LANES>().0)
        };
        let mut least = [f32::MAX; LANES];
        for (slopes, starts) in lines() {
            for ((least, &a), &b) in least.iter_mut().zip(slopes).zip(starts) {
                let height = a * place - b;
                *least = if height < *least { height } else { *least };
            }
        }
        let limit = least.into_iter().fold(f32::MAX, |a, b| if b < a { b } else { a }) + doubt;
        let (mut count, mut only, mut at) = ([0_u32; LANES], [0_u32; LANES], 0);
        for (slopes, starts) in lines() {
            for i in 0..LANES {
                let close = if slopes[i] * place - starts[i] <= limit { u32::MAX } else { 0 };
                count[i] = count[i].wrapping_sub(close);
                only[i] |= close & (at + i as u32);
            }
            at += LANES as u32;
        }
        if count.iter().sum::<u32>() == 1 {
            let only = only.iter().fold(0, |a, b| a | b) as usize;
            return Some(NearestPoint { entry: self.list[only.min(ENTRIES - 1)], certain: true });
        }
        let close = (0..self.length).filter(|&i| self.slopes[i] * place - self.starts[i] <= limit);
        let entry = self.group.nearest(close.map(|i| self.list[i]), scale)?;
        Some(NearestPoint { entry, certain: false })
    }

    /// The nearest entries at falling or rising scales.
    pub fn nearest_all(&self, scales: &[f32], doubt: f32, out: &mut [GridPoint]) -> Option<()> {
        let Some((&last, _)) = scales.split_last() else { return Some(()) };
        let first = self.nearest(scales[0], doubt)?;
        let last = if scales.len() > 1 { self.nearest(last, doubt)? } else { first };
        self.between(scales, doubt, out, first, last)
    }

    /// As [`NeighbourLines::nearest_all`], with what is at both ends known.
    fn between(
        &self,
        scales: &[f32],
        doubt: f32,
        out: &mut [GridPoint],
        first: NearestPoint,
        last: NearestPoint,
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

/// The odd number of a level.
fn odd(level: usize) -> f32 {
    (2 * level + 1) as f32
}

/// Adds a value to the combinations of those before it, of which there are `done`.
fn spread<const H: usize>(sums: &mut [f32; HALVES], done: usize, term: impl Fn(usize) -> f32) {
    let (before, more) = sums.split_at_mut(done);
    for (sums, level) in more.chunks_exact_mut(done).zip(1..levels::<H>()) {
        let term = term(level);
        sums.iter_mut().zip(&*before).for_each(|(sum, before)| *sum = before + term);
    }
    let term = term(0);
    before.iter_mut().for_each(|sum| *sum += term);
}
