//! The search of the IQ2 and IQ3 types: a scale for a sub-block whose magnitudes must lie on a grid.
//!
//! Knows no layout and no super-block. For each of some scales around the one that would put the loudest value on the
//! top level, each group of values takes the nearest levels, or where those are not on the grid the entry near them
//! with the least weighted distance; the scale is then the least squares fit, and the best of all is kept. Sums run in
//! index order, products from the left; what is independent runs side by side, one of `L` lanes for each
//! scale.

use super::grid::{GridPoint, PointLookup, SignGrid};
use super::nearest_grid_point::{GridGroup, LOUD, NeighbourLines};
use crate::float::nearest_even;

/// Which scales are tried: `1 / ((top + k * step) / max)` for `k` in `-reach..=reach`.
pub struct ScaleCandidates {
    pub top: f32,
    pub step: f32,
    pub reach: i8,
}

/// What is kept of groups whose levels are on the grid once the best scale is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RefitRule {
    /// Those groups; the others are placed anew.
    OffGrid,
    /// All groups if all are on it, else none.
    AllUnlessOn,
    /// Nothing.
    All,
}

/// What approximates a sub-block of `G` groups.
pub struct GridFit<const G: usize> {
    pub scale: f32,
    pub points: [GridPoint; G],
    /// Whether the signs of all values are to be turned.
    pub turned: bool,
}

/// The values of a sub-block in groups of `N`, and what each counts: in sums, and in distances.
pub struct GroupedSubBlock<const N: usize, const G: usize> {
    pub x: [[f32; N]; G],
    pub weights: [[f32; N]; G],
    pub roots: [[f32; N]; G],
}

/// What the scales that are tried make of the groups.
struct Tried<const G: usize, const L: usize> {
    /// The scales; lanes past the last repeat it.
    scales: [f32; L],
    points: [[GridPoint; L]; G],
    /// For each group the scales, by bits, with which its levels are on the grid.
    on_grid: [u32; G],
}

/// Below this [`nearest_even`] rounds to a whole number.
const WHOLE: f32 = (1 << 22) as f32;

impl<const N: usize, const G: usize> GroupedSubBlock<N, G> {
    fn group<const H: usize>(&self, grid: &SignGrid<N, H>, g: usize) -> GridGroup<N, H> {
        GridGroup { x: self.x[g], weights: self.roots[g], rows: grid.odd_rows() }
    }

    /// Sums of weight x value x level and weight x level x level.
    fn sums<const H: usize>(&self, grid: &SignGrid<N, H>, points: &[GridPoint; G]) -> (f32, f32) {
        let (mut cross, mut square) = (0.0, 0.0);
        for ((x, w), &point) in self.x.iter().zip(&self.weights).zip(points) {
            for ((&x, &w), q) in x.iter().zip(w).zip(grid.odd(point)) {
                cross += w * x * q;
                square += w * q * q;
            }
        }
        (cross, square)
    }

    /// The same sums for every scale that is tried.
    fn sums_of_all<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        points: &[[GridPoint; L]; G],
    ) -> ([f32; L], [f32; L]) {
        let (mut cross, mut square) = ([0.0; L], [0.0; L]);
        for ((x, w), points) in self.x.iter().zip(&self.weights).zip(points) {
            let mut levels = [[0.0; L]; N];
            for (lane, &point) in points.iter().enumerate() {
                for (levels, q) in levels.iter_mut().zip(grid.odd(point)) {
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

    /// The levels nearest to group `g`, for a scale given by its inverse.
    fn nearest_levels<const H: usize>(&self, grid: &SignGrid<N, H>, g: usize, inverse: f32) -> GridPoint {
        let top = top::<N>() as i32;
        grid.point(&self.x[g].map(|x| nearest_even(0.5 * (inverse * x - 1.0)).clamp(0, top)))
    }

    /// The point that group `g` takes with a scale, given with its inverse, and whether its levels are on the grid: the
    /// definition. None where every distance is too large to be a number; ggml stops the program there.
    fn take<const H: usize>(
        &self,
        grid: &SignGrid<N, H>,
        g: usize,
        scale: f32,
        inverse: f32,
    ) -> Option<(GridPoint, bool)> {
        let point = self.nearest_levels(grid, g, inverse);
        match grid.place(point) {
            PointLookup::On(_) => Some((point, true)),
            PointLookup::Near(list) => {
                let nearest = self.group(grid, g).nearest(list.iter().map(GridPoint::load), scale);
                nearest.map(|entry| (entry, false))
            }
        }
    }

    /// What group `g` takes with every scale.
    fn take_all<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        lines: &mut NeighbourLines<N, H>,
        g: usize,
        (scales, inverses): (&[f32; L], &[f32; L]),
        points: &mut [GridPoint; L],
    ) -> Option<u32> {
        let loudest = self.x[g].iter().fold(0.0, |max: f32, x| if x.abs() > max { x.abs() } else { max });
        lines.take(self.group(grid, g));
        let doubt = match (lines.doubt(scales[0]), lines.doubt(scales[L - 1])) {
            // What distances are worth is the greatest at an end.
            (Some(a), Some(b)) if loudest < LOUD && loudest * inverses[L - 1] < WHOLE => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            _ => return self.take_one_by_one(grid, g, (scales, inverses), points),
        };
        *points = levels_of_all::<N, H, L>(&self.x[g], inverses);
        let (mut on_grid, mut start) = (0, 0);
        while start < L {
            let point = points[start];
            let length = points[start..].iter().take_while(|&&p| p == point).count();
            let end = start + length;
            if lines.near(grid, point) {
                on_grid |= (((1_u64 << length) - 1) << start) as u32;
            } else {
                lines.nearest_all(&scales[start..end], doubt, &mut points[start..end])?;
            }
            start = end;
        }
        Some(on_grid)
    }

    /// [`GroupedSubBlock::take_all`] by the definition.
    fn take_one_by_one<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        g: usize,
        (scales, inverses): (&[f32; L], &[f32; L]),
        points: &mut [GridPoint; L],
    ) -> Option<u32> {
        let mut on_grid = 0;
        for (lane, slot) in points.iter_mut().enumerate() {
            let (point, on) = self.take(grid, g, scales[lane], inverses[lane])?;
            *slot = point;
            on_grid |= u32::from(on) << lane;
        }
        Some(on_grid)
    }

    /// Tries all scales.
    fn try_all<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        lines: &mut NeighbourLines<N, H>,
        scales: &ScaleCandidates,
        max: f32,
    ) -> Option<Tried<G, L>> {
        let inverses: [f32; L] = core::array::from_fn(|lane| {
            let k = (lane as i8 - scales.reach).min(scales.reach);
            (scales.top + f32::from(k) * scales.step) / max
        });
        let mut tried = Tried {
            scales: inverses.map(|inverse| 1.0 / inverse),
            points: [[GridPoint::default(); L]; G],
            on_grid: [0; G],
        };
        for g in 0..G {
            let lanes = (&tried.scales, &inverses);
            tried.on_grid[g] = self.take_all(grid, lines, g, lanes, &mut tried.points[g])?;
        }
        Some(tried)
    }

    /// The best fit, from a scale `first` that stands if none is better. Nothing where ggml would stop the program.
    pub fn fit<const H: usize, const L: usize>(
        &self,
        grid: &SignGrid<N, H>,
        lines: &mut NeighbourLines<N, H>,
        scales: &ScaleCandidates,
        max: f32,
        first: f32,
        again: RefitRule,
    ) -> Option<GridFit<G>> {
        let tried = self.try_all::<H, L>(grid, lines, scales, max)?;
        let (cross, square) = self.sums_of_all(grid, &tried.points);
        let (mut scale, mut best, mut winner) = (first, 0.0, None);
        for lane in 0..=2 * scales.reach as usize {
            let (cross, square) = (cross[lane], square[lane]);
            if square > 0.0 && cross * cross > best * square {
                scale = cross / square;
                (best, winner) = (scale * cross, Some(lane));
            }
        }
        let mut points = [GridPoint::default(); G];
        let mut on_grid = [again == RefitRule::OffGrid; G];
        if let Some(lane) = winner {
            points = tried.points.map(|points| points[lane]);
            on_grid = tried.on_grid.map(|on| on >> lane & 1 == 1);
        }
        let some_off = again == RefitRule::All || on_grid.contains(&false);
        if some_off && scale > 0.0 {
            let inverse = 1.0 / scale;
            for g in 0..G {
                if again != RefitRule::OffGrid || !on_grid[g] {
                    points[g] = self.take(grid, g, scale, inverse)?.0;
                }
            }
            let (cross, square) = self.sums(grid, &points);
            if square > 0.0 {
                scale = cross / square;
            }
        }
        // Not a number: ggml stops the program.
        (scale.abs() <= f32::MAX).then_some(GridFit { scale: scale.abs(), points, turned: scale < 0.0 })
    }
}

/// The highest level of a value where `N` make a group.
const fn top<const N: usize>() -> u8 {
    if N == 8 { 2 } else { 7 }
}

/// The levels nearest to a group for every scale, given by inverses: products with the values below [`WHOLE`].
fn levels_of_all<const N: usize, const H: usize, const L: usize>(
    x: &[f32; N],
    inverses: &[f32; L],
) -> [GridPoint; L] {
    let (top, base) = (f32::from(top::<N>()), f32::from(top::<N>() + 1));
    let mut halves = [[0.0; L]; 2];
    for (half, x) in halves.iter_mut().zip(x.as_chunks::<H>().0) {
        for &x in x.iter().rev() {
            for (code, &inverse) in half.iter_mut().zip(inverses) {
                let level = 0.5 * (inverse * x - 1.0);
                // Cut off first, which is the same for whole bounds.
                let level = if level > 0.0 { level } else { 0.0 };
                let level = if level < top { level } else { top };
                *code = *code * base + ((level + 12_582_912.0) - 12_582_912.0);
            }
        }
    }
    // All whole numbers, and exact; in the low bits of the sum they are integers.
    core::array::from_fn(|lane| {
        GridPoint::of_bytes((halves[0][lane] + 256.0 * halves[1][lane] + 8_388_608.0).to_bits() as u16)
    })
}
