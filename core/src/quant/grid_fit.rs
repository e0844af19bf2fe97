//! Scale search of the IQ2 and IQ3 types: fits a sub-block whose magnitudes must lie on a grid.
//!
//! For each candidate scale, each group of values takes the nearest levels; if these are not on the grid, it
//! takes the neighbouring entry with the smallest weighted distance. The scale is then the least-squares fit,
//! and the best of all candidates is kept. Sums run in index order, products from the left. Independent sums
//! run side by side, with one of `L` lanes for each candidate. Knows no layout and no super-blocks.

use super::grid::{GridPoint, PointLookup, SignGrid};
use super::nearest_grid_point::{GridGroup, MAX_MAGNITUDE, NeighbourLines};
use crate::float::nearest_even;

/// Candidate scales: `1 / ((top + k * step) / max)` for `k` in `-reach..=reach`, where `max` is the largest
/// magnitude.
pub(super) struct ScaleCandidates {
    /// Top level of the grid, as a multiple of the scale.
    pub top: f32,
    /// Distance of neighbouring candidates.
    pub step: f32,
    /// Candidates on either side of the first.
    pub reach: i8,
}

/// Which groups are placed again with the best scale.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RefitRule {
    /// Groups whose nearest levels were not on the grid.
    OffGrid,
    /// All groups, unless the nearest levels of all were on the grid.
    AllUnlessOn,
    /// All groups.
    All,
}

/// Approximation of a sub-block with `G` groups.
pub(super) struct GridFit<const G: usize> {
    /// Scale, not negative.
    pub scale: f32,
    /// Grid entry of each group.
    pub points: [GridPoint; G],
    /// True if the fitted scale was negative, so that all signs must be flipped.
    pub negated: bool,
}

/// A sub-block in `G` groups of `N` values.
pub(super) struct GroupedSubBlock<const N: usize, const G: usize> {
    /// Magnitudes.
    pub x: [[f32; N]; G],
    /// Weights in sums.
    pub weights: [[f32; N]; G],
    /// Square roots of the weights, used in distances.
    pub roots: [[f32; N]; G],
}

/// Grid points of all groups for all candidate scales.
struct ScaleTrials<const G: usize, const L: usize> {
    /// Candidate scales; lanes after the last repeat it.
    scales: [f32; L],
    /// Point of each group for each candidate.
    points: [[GridPoint; L]; G],
    /// For each group the candidates, by bits, for which its nearest levels are on the grid.
    on_grid: [u32; G],
}

/// Magnitude below which [`nearest_even`] rounds to an integer.
const WHOLE: f32 = (1 << 22) as f32;

impl<const N: usize, const G: usize> GroupedSubBlock<N, G> {
    /// Group `g` with the weights of distances.
    fn group<const H: usize>(&self, grid: &SignGrid<N, H>, g: usize) -> GridGroup<N, H> {
        GridGroup { x: self.x[g], weights: self.roots[g], rows: grid.half_values() }
    }

    /// Sums of weight x value x level and of weight x level x level.
    fn sums<const H: usize>(&self, grid: &SignGrid<N, H>, points: &[GridPoint; G]) -> (f32, f32) {
        let (mut cross, mut square) = (0.0, 0.0);
        for ((x, w), &point) in self.x.iter().zip(&self.weights).zip(points) {
            for ((&x, &w), q) in x.iter().zip(w).zip(grid.odd_levels(point)) {
                cross += w * x * q;
                square += w * q * q;
            }
        }
        (cross, square)
    }

    /// [`GroupedSubBlock::sums`] for every candidate scale.
    fn sums_by_lane<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        points: &[[GridPoint; L]; G],
    ) -> ([f32; L], [f32; L]) {
        let (mut cross, mut square) = ([0.0; L], [0.0; L]);
        for ((x, w), points) in self.x.iter().zip(&self.weights).zip(points) {
            let mut levels = [[0.0; L]; N];
            for (lane, &point) in points.iter().enumerate() {
                for (levels, q) in levels.iter_mut().zip(grid.odd_levels(point)) {
                    levels[lane] = q;
                }
            }
            for ((&x, &w), levels) in x.iter().zip(w).zip(&levels) {
                let wx = w * x;
                for ((cross, square), &q) in cross.iter_mut().zip(&mut square).zip(levels) {
                    *cross += wx * q;
                    *square += w * q * q;
                }
            }
        }
        (cross, square)
    }

    /// Nearest levels of group `g`, for a scale given by its inverse.
    fn nearest_levels<const H: usize>(&self, grid: &SignGrid<N, H>, g: usize, inverse: f32) -> GridPoint {
        let top = top::<N>() as i32;
        grid.point(&self.x[g].map(|x| nearest_even(0.5 * (inverse * x - 1.0)).clamp(0, top)))
    }

    /// Places group `g` with a scale, given with its inverse; returns the point and whether the nearest
    /// levels are on the grid. This is the definition.
    ///
    /// `None` if every distance is too large for binary32; ggml aborts the program then.
    fn place<const H: usize>(
        &self,
        grid: &SignGrid<N, H>,
        g: usize,
        scale: f32,
        inverse: f32,
    ) -> Option<(GridPoint, bool)> {
        let point = self.nearest_levels(grid, g, inverse);
        match grid.lookup(point) {
            PointLookup::Entry(_) => Some((point, true)),
            PointLookup::Neighbours(list) => {
                let nearest = self.group(grid, g).nearest(list.iter().map(GridPoint::load), scale);
                nearest.map(|entry| (entry, false))
            }
        }
    }

    /// Places group `g` with every candidate scale; returns the candidates that are on the grid, by bits.
    fn place_by_lane<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        neighbours: &mut NeighbourLines<N, H>,
        g: usize,
        (scales, inverses): (&[f32; L], &[f32; L]),
        points: &mut [GridPoint; L],
    ) -> Option<u32> {
        let absmax = self.x[g].iter().fold(0.0, |max: f32, x| if x.abs() > max { x.abs() } else { max });
        neighbours.set_group(self.group(grid, g));
        let tolerance = match (neighbours.tolerance(scales[0]), neighbours.tolerance(scales[L - 1])) {
            // The bound of the distances is largest at one of the end candidates.
            (Some(a), Some(b)) if absmax < MAX_MAGNITUDE && absmax * inverses[L - 1] < WHOLE => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            _ => return self.place_in_order(grid, g, (scales, inverses), points),
        };
        *points = nearest_levels_by_lane::<N, H, L>(&self.x[g], inverses);
        let (mut on_grid, mut start) = (0, 0);
        while start < L {
            let point = points[start];
            let length = points[start..].iter().take_while(|&&p| p == point).count();
            let end = start + length;
            if neighbours.load(grid, point) {
                on_grid |= (((1_u64 << length) - 1) << start) as u32;
            } else {
                neighbours.nearest_all(&scales[start..end], tolerance, &mut points[start..end])?;
            }
            start = end;
        }
        Some(on_grid)
    }

    /// [`GroupedSubBlock::place_by_lane`] by the definition.
    fn place_in_order<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        g: usize,
        (scales, inverses): (&[f32; L], &[f32; L]),
        points: &mut [GridPoint; L],
    ) -> Option<u32> {
        let mut on_grid = 0;
        for (lane, slot) in points.iter_mut().enumerate() {
            let (point, on) = self.place(grid, g, scales[lane], inverses[lane])?;
            *slot = point;
            on_grid |= u32::from(on) << lane;
        }
        Some(on_grid)
    }

    /// Places all groups with all candidate scales.
    fn try_scales<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        neighbours: &mut NeighbourLines<N, H>,
        scales: &ScaleCandidates,
        max: f32,
    ) -> Option<ScaleTrials<G, L>> {
        let inverses: [f32; L] = core::array::from_fn(|lane| {
            let k = (lane as i8 - scales.reach).min(scales.reach);
            (scales.top + f32::from(k) * scales.step) / max
        });
        let mut trials = ScaleTrials {
            scales: inverses.map(|inverse| 1.0 / inverse),
            points: [[GridPoint::default(); L]; G],
            on_grid: [0; G],
        };
        for g in 0..G {
            let lanes = (&trials.scales, &inverses);
            trials.on_grid[g] = self.place_by_lane(grid, neighbours, g, lanes, &mut trials.points[g])?;
        }
        Some(trials)
    }

    /// Searches the best fit, starting from the scale `first`, which stays if no candidate is better.
    ///
    /// `None` in the cases in which ggml aborts the program.
    pub(super) fn fit<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        neighbours: &mut NeighbourLines<N, H>,
        scales: &ScaleCandidates,
        max: f32,
        first: f32,
        refit: RefitRule,
    ) -> Option<GridFit<G>> {
        let trials = self.try_scales::<H, L>(grid, neighbours, scales, max)?;
        let (cross, square) = self.sums_by_lane(grid, &trials.points);
        let (mut scale, mut best, mut winner) = (first, 0.0, None);
        for lane in 0..=2 * scales.reach as usize {
            let (cross, square) = (cross[lane], square[lane]);
            if square > 0.0 && cross * cross > best * square {
                scale = cross / square;
                (best, winner) = (scale * cross, Some(lane));
            }
        }
        let mut points = [GridPoint::default(); G];
        let mut on_grid = [refit == RefitRule::OffGrid; G];
        if let Some(lane) = winner {
            points = trials.points.map(|points| points[lane]);
            on_grid = trials.on_grid.map(|on| on >> lane & 1 == 1);
        }
        let some_off = refit == RefitRule::All || on_grid.contains(&false);
        if some_off && scale > 0.0 {
            let inverse = 1.0 / scale;
            for g in 0..G {
                if refit != RefitRule::OffGrid || !on_grid[g] {
                    points[g] = self.place(grid, g, scale, inverse)?.0;
                }
            }
            let (cross, square) = self.sums(grid, &points);
            if square > 0.0 {
                scale = cross / square;
            }
        }
        // ggml aborts the program for NaN.
        (scale.abs() <= f32::MAX).then_some(GridFit { scale: scale.abs(), points, negated: scale < 0.0 })
    }
}

/// Highest level of a value in groups of `N`.
const fn top<const N: usize>() -> u8 {
    if N == 8 { 2 } else { 7 }
}

/// Nearest levels of a group for every candidate, given by inverses. Products with the values must be below
/// [`WHOLE`].
fn nearest_levels_by_lane<const N: usize, const H: usize, const L: usize>(
    x: &[f32; N],
    inverses: &[f32; L],
) -> [GridPoint; L] {
    let (top, base) = (f32::from(top::<N>()), f32::from(top::<N>() + 1));
    let mut halves = [[0.0; L]; 2];
    for (half, x) in halves.iter_mut().zip(x.as_chunks::<H>().0) {
        for &x in x.iter().rev() {
            for (code, &inverse) in half.iter_mut().zip(inverses) {
                let level = 0.5 * (inverse * x - 1.0);
                // Clamping before rounding gives the same result for integer bounds.
                let level = if level > 0.0 { level } else { 0.0 };
                let level = if level < top { level } else { top };
                *code = *code * base + ((level + 12_582_912.0) - 12_582_912.0);
            }
        }
    }
    core::array::from_fn(|lane| {
        // All numbers are exact integers; adding 2^23 moves them to the low bits.
        GridPoint::of_bytes((halves[0][lane] + 256.0 * halves[1][lane] + 8_388_608.0).to_bits() as u16)
    })
}
