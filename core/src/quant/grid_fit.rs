//! The search of the IQ2 and IQ3 types: a scale for a sub-block whose magnitudes must lie on a grid.
//!
//! Knows no layout and no super-block. For each of some scales around the one that would put the loudest value on the top level, each
//! group of values takes the nearest levels, or where those are not on the grid the entry near them with the least
//! weighted distance; the scale is then the least squares fit, and the best of all is kept. Sums run in index order,
//! products from the left.

use super::grid::{Grid, Place, Point};
use crate::float::nearest_even;

/// Which scales are tried: `1 / ((top + k * step) / max)` for `k` in `-reach..=reach`.
pub struct Scales {
    pub top: f32,
    pub step: f32,
    pub reach: i8,
}

/// What is kept of groups whose levels are on the grid once the best scale is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Those groups; the others are placed anew.
    OffGrid,
    /// All groups if all are on it, else none.
    AllUnlessOn,
    /// Nothing.
    All,
}

/// What approximates a sub-block of `G` groups.
pub struct Fit<const G: usize> {
    pub scale: f32,
    pub points: [Point; G],
    /// Whether the signs of all values are to be turned.
    pub turned: bool,
}

/// The values of a sub-block in groups of `N`, and what each counts: in sums, and in distances.
pub struct Group<const N: usize, const G: usize> {
    pub x: [[f32; N]; G],
    pub weights: [[f32; N]; G],
    pub roots: [[f32; N]; G],
}

impl<const N: usize, const G: usize> Group<N, G> {
    /// Sums of weight x value x level and weight x level x level.
    fn sums<const H: usize>(&self, grid: &Grid<N, H>, points: &[Point; G]) -> (f32, f32) {
        let (mut cross, mut square) = (0.0, 0.0);
        for ((x, w), &point) in self.x.iter().zip(&self.weights).zip(points) {
            for ((&x, &w), q) in x.iter().zip(w).zip(grid.odd(point)) {
                cross += w * x * q;
                square += w * q * q;
            }
        }
        (cross, square)
    }

    /// The point that group `k` takes with a scale, given with its inverse, and whether its levels are on the grid.
    ///
    /// There is none where every distance is too large to be a number; ggml stops the program there.
    fn take<const H: usize>(
        &self,
        grid: &Grid<N, H>,
        k: usize,
        scale: f32,
        inverse: f32,
    ) -> Option<(Point, bool)> {
        let top = if N == 8 { 2 } else { 7 };
        let x = &self.x[k];
        let point = grid.point(&x.map(|x| nearest_even(0.5 * (inverse * x - 1.0)).clamp(0, top)));
        match grid.place(point) {
            Place::On(_) => Some((point, true)),
            Place::Near(list) => {
                let (mut best, mut nearest) = (f32::MAX, None);
                for entry in list.iter().map(Point::load) {
                    let mut distance = 0.0;
                    for ((q, &x), &w) in grid.odd(entry).iter().zip(x).zip(&self.roots[k]) {
                        let off = scale * q - x;
                        distance += w * off * off;
                    }
                    if distance < best {
                        (best, nearest) = (distance, Some(entry));
                    }
                }
                nearest.map(|p| (p, false))
            }
        }
    }

    /// The best fit, from a scale `first` that stands if none is better. Nothing where ggml would stop the program.
    pub fn fit<const H: usize>(
        &self,
        grid: &Grid<N, H>,
        scales: &Scales,
        max: f32,
        first: f32,
        again: Again,
    ) -> Option<Fit<G>> {
        let mut scale = first;
        let mut best = 0.0;
        let mut points = [Point::default(); G];
        let mut on_grid = [again == Again::OffGrid; G];
        for k in -scales.reach..=scales.reach {
            let inverse = (scales.top + f32::from(k) * scales.step) / max;
            let tried = 1.0 / inverse;
            let (mut taken, mut on) = ([Point::default(); G], [false; G]);
            for g in 0..G {
                (taken[g], on[g]) = self.take(grid, g, tried, inverse)?;
            }
            let (cross, square) = self.sums(grid, &taken);
            if square > 0.0 && cross * cross > best * square {
                (scale, points, on_grid) = (cross / square, taken, on);
                best = scale * cross;
            }
        }
        let some_off = again == Again::All || on_grid.contains(&false);
        if some_off && scale > 0.0 {
            let inverse = 1.0 / scale;
            for g in 0..G {
                if again != Again::OffGrid || !on_grid[g] {
                    points[g] = self.take(grid, g, scale, inverse)?.0;
                }
            }
            let (cross, square) = self.sums(grid, &points);
            if square > 0.0 {
                scale = cross / square;
            }
        }
        // Not a number: ggml stops the program.
        (scale.abs() <= f32::MAX).then_some(Fit { scale: scale.abs(), points, turned: scale < 0.0 })
    }
}
