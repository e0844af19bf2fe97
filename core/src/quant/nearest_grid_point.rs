//! Search for the neighbour of a grid point that is nearest to a group of values, for many scales.
//!
//! The definition is [`GridGroup::nearest`]: of the neighbours in order, the first with the smallest weighted
//! distance, summed in index order. [`NeighbourLines`] finds the same entry faster. The distance of an entry
//! is `C + s * (A * s - B)`, where `s` is the scale and only `A` and `B` depend on the entry, so entries
//! compare as straight lines in `s`. These sums run in another order and differ by rounding; entries closer
//! than that are compared by the definition. If an entry is the nearest with certainty at two scales, it is
//! the nearest between them as well. Knows no sub-blocks.

use super::grid::{GridPoint, HALVES, PointLookup, SignGrid};

/// A group of values with the data of its distances.
#[derive(Clone, Copy)]
pub(super) struct GridGroup<const N: usize, const H: usize> {
    /// Values.
    pub x: [f32; N],
    /// Weights of the squared differences.
    pub weights: [f32; N],
    /// Values of every combination of a half, before the scale.
    pub rows: &'static [[f32; H]],
}

impl<const N: usize, const H: usize> GridGroup<N, H> {
    /// The nearest of `entries`; `None` if every distance is too large for binary32.
    pub(super) fn nearest(
        &self,
        mut entries: impl Iterator<Item = GridPoint>,
        scale: f32,
    ) -> Option<GridPoint> {
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

    /// Weighted distances of eight entries at `scale`.
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
                let difference = scale * q - x;
                *sum += w * difference * difference;
            }
        }
        distances
    }
}

/// Magnitude of values and scales below which the products of [`NeighbourLines`] lose nothing but rounding.
pub(super) const MAX_MAGNITUDE: f32 = 1e6;
/// Longest neighbour list, rounded up to a multiple of [`LANES`].
const ENTRIES: usize = 296;
/// Entries compared side by side.
const LANES: usize = 8;
/// Bound of the rounding difference of two distances, relative to [`NeighbourLines::distance_bound`].
///
/// In units in the last place: below 14 for each distance by the definition, below 12 for each line, and a
/// margin.
const ROUNDING: f32 = 64.0 / (1 << 24) as f32;

/// Lines of the neighbours of one point, for one group of values.
pub(super) struct NeighbourLines<const N: usize, const H: usize> {
    /// The group.
    group: GridGroup<N, H>,
    /// For each half and each of its combinations, its contributions to `A` and `B` of an entry.
    halves: [([f32; HALVES], [f32; HALVES]); 2],
    /// Sums of weight, of 2 x weight x magnitude, and of weight x square.
    sums: [f32; 3],
    /// Loaded neighbours.
    list: [GridPoint; ENTRIES],
    /// `A` of each neighbour.
    slopes: [f32; ENTRIES],
    /// `B` of each neighbour.
    starts: [f32; ENTRIES],
    /// Number of loaded neighbours, padded to a multiple of [`LANES`].
    length: usize,
}

/// The nearest neighbour at some scale.
#[derive(Clone, Copy, Default)]
pub(super) struct NearestPoint {
    /// The entry.
    pub entry: GridPoint,
    /// True if no other neighbour is within the rounding tolerance.
    pub certain: bool,
}

impl<const N: usize, const H: usize> NeighbourLines<N, H> {
    /// Creates empty lines for groups on `grid`.
    pub(super) fn new(grid: &SignGrid<N, H>) -> Self {
        NeighbourLines {
            group: GridGroup { x: [0.0; N], weights: [0.0; N], rows: grid.half_values() },
            halves: [([0.0; HALVES], [0.0; HALVES]); 2],
            sums: [0.0; 3],
            list: [GridPoint::default(); ENTRIES],
            slopes: [0.0; ENTRIES],
            starts: [0.0; ENTRIES],
            length: 0,
        }
    }

    /// Sets the group, for levels `2 * level + 1` at any scale.
    pub(super) fn set_group(&mut self, group: GridGroup<N, H>) {
        let values = group.x.as_chunks::<H>().0.iter().zip(group.weights.as_chunks::<H>().0);
        for ((slopes, starts), (x, w)) in self.halves.iter_mut().zip(values) {
            (slopes[0], starts[0]) = (0.0, 0.0);
            let mut combined = 1;
            for (&x, &w) in x.iter().zip(w) {
                extend_sums::<H>(slopes, combined, |level| w * odd(level) * odd(level));
                extend_sums::<H>(starts, combined, |level| 2.0 * w * x * odd(level));
                combined *= levels::<H>();
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

    /// Sets the group for a single scale; the slope of an entry is then its distance at that scale, and is
    /// evaluated at the scale 1.
    ///
    /// Returns the tolerance of distances, see [`NeighbourLines::tolerance`].
    pub(super) fn set_group_at(&mut self, group: GridGroup<N, H>, scale: f32) -> Option<f32> {
        let values = group.x.as_chunks::<H>().0.iter().zip(group.weights.as_chunks::<H>().0);
        let (mut bound, mut absmax) = (0.0, 0.0);
        for ((slopes, starts), (x, w)) in self.halves.iter_mut().zip(values) {
            (slopes[0], *starts) = (0.0, [0.0; HALVES]);
            let mut combined = 1;
            for (&x, &w) in x.iter().zip(w) {
                // The first or last level has the largest magnitude.
                let ends = [group.rows[0][0], group.rows[levels::<H>() - 1][0]];
                let most = scale * if -ends[0] > ends[1] { -ends[0] } else { ends[1] } + x.abs();
                bound += w * most * most;
                absmax = if x.abs() > absmax { x.abs() } else { absmax };
                extend_sums::<H>(slopes, combined, |level| {
                    let difference = scale * group.rows[level][0] - x;
                    w * difference * difference
                });
                combined *= levels::<H>();
            }
        }
        self.group = group;
        (bound > 1e-27 && bound < 1e27 && absmax < MAX_MAGNITUDE && scale < MAX_MAGNITUDE)
            .then_some(bound * ROUNDING)
    }

    /// Upper bound of all distances at `scale`, in units of the scale.
    fn distance_bound(&self, scale: f32) -> f32 {
        let top = (2 * levels::<H>() - 1) as f32;
        scale * top * top * self.sums[0] + top * self.sums[1] + self.sums[2] / scale
    }

    /// Difference of two lines at `scale` above which the distances differ with certainty.
    ///
    /// `None` if numbers are so large or small that more than rounding could be lost.
    pub(super) fn tolerance(&self, scale: f32) -> Option<f32> {
        let bound = self.distance_bound(scale);
        let in_range = bound * scale > 1e-27 && bound < 1e27 && scale < MAX_MAGNITUDE && self.sums[2] < 1e27;
        in_range.then_some(bound * ROUNDING)
    }

    /// Loads the neighbours of `point`; returns true if the point itself is on the grid.
    pub(super) fn load(&mut self, grid: &SignGrid<N, H>, point: GridPoint) -> bool {
        let PointLookup::Neighbours(list) = grid.lookup(point) else { return true };
        let slots = self.list.iter_mut().zip(&mut self.slopes).zip(&mut self.starts);
        for (((entry, slope), start), slot) in slots.zip(list) {
            *entry = GridPoint::load(slot);
            let [first, second] = entry.halves();
            *slope = self.halves[0].0[first] + self.halves[1].0[second];
            *start = self.halves[0].1[first] + self.halves[1].1[second];
        }
        // The last lanes are padded with lines that are never the lowest.
        self.length = list.len().next_multiple_of(LANES).min(ENTRIES);
        self.slopes[list.len()..self.length].fill(0.0);
        self.starts[list.len()..self.length].fill(f32::MIN);
        false
    }

    /// The nearest neighbour at `scale`.
    fn nearest(&self, scale: f32, tolerance: f32) -> Option<NearestPoint> {
        self.lowest(scale, tolerance, scale)
    }

    /// The nearest neighbour at the scale of [`NeighbourLines::set_group_at`].
    pub(super) fn nearest_at(&self, scale: f32, tolerance: f32) -> Option<GridPoint> {
        self.lowest(1.0, tolerance, scale).map(|found| found.entry)
    }

    /// The neighbour whose line is lowest at `place`; if several are within the tolerance, the nearest of
    /// them at `scale` by the definition.
    fn lowest(&self, place: f32, tolerance: f32, scale: f32) -> Option<NearestPoint> {
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
        let limit = least.into_iter().fold(f32::MAX, |a, b| if b < a { b } else { a }) + tolerance;
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

    /// The nearest neighbours at monotonic scales.
    pub(super) fn nearest_all(&self, scales: &[f32], tolerance: f32, out: &mut [GridPoint]) -> Option<()> {
        let Some((&last, _)) = scales.split_last() else { return Some(()) };
        let first = self.nearest(scales[0], tolerance)?;
        let last = if scales.len() > 1 { self.nearest(last, tolerance)? } else { first };
        self.bisect(scales, tolerance, out, first, last)
    }

    /// [`NeighbourLines::nearest_all`] between two ends with known results, by bisection.
    fn bisect(
        &self,
        scales: &[f32],
        tolerance: f32,
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
            let middle = self.nearest(scales[count / 2], tolerance)?;
            self.bisect(&scales[..=count / 2], tolerance, &mut out[..=count / 2], first, middle)?;
            self.bisect(&scales[count / 2..], tolerance, &mut out[count / 2..], middle, last)?;
        }
        Some(())
    }
}

/// Levels of a value with `H` values in half a group.
const fn levels<const H: usize>() -> usize {
    if H == 4 { 3 } else { 8 }
}

/// Value of a level on the odd grid.
fn odd(level: usize) -> f32 {
    (2 * level + 1) as f32
}

/// Extends the sums of `combined` combinations by one more value.
fn extend_sums<const H: usize>(sums: &mut [f32; HALVES], combined: usize, term: impl Fn(usize) -> f32) {
    let (before, more) = sums.split_at_mut(combined);
    for (sums, level) in more.chunks_exact_mut(combined).zip(1..levels::<H>()) {
        let term = term(level);
        sums.iter_mut().zip(&*before).for_each(|(sum, before)| *sum = before + term);
    }
    let term = term(0);
    before.iter_mut().for_each(|sum| *sum += term);
}
