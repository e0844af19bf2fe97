//! What the quantizers of IQ1_S and IQ1_M share: a sub-block's values in order, its split into three levels, and the
//! groups of eight that are not on the grid.
//!
//! Knows no layout. With three levels the best split by weighted squares is found among all: in rising order the values
//! of a level are neighbours, so that two borders say everything, and prefix sums give each split's fit. Values that
//! are equal stay in the order of their places (the reference leaves that to the C library's `qsort`, which does the
//! same in glibc).

use super::grid::{Grid, Place, Point};
use super::spread::SHIFT;

/// The three levels, with the shift upwards and downwards.
pub const LEVELS: [[f32; 3]; 2] = [[-1.0 + SHIFT, SHIFT, 1.0 + SHIFT], [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT]];

/// The best split so far.
#[derive(Clone, Copy)]
pub struct Split<T> {
    pub scale: f32,
    score: f32,
    /// How many values have the lowest level, and how many not the highest.
    pub borders: (usize, usize),
    /// Which shifts.
    pub shifts: T,
}

/// The best of splits, each with the sums that its fit follows from.
pub struct Best<T>(Option<Split<T>>);

impl<T: Copy> Best<T> {
    pub const NONE: Best<T> = Best(None);

    /// Takes a split if its fit is better than all before.
    #[inline(always)]
    pub fn offer(&mut self, cross: f32, square: f32, borders: (usize, usize), shifts: T) {
        let score = self.0.map_or(f32::MIN, |best| best.score);
        if square > 0.0 && cross * cross > score * square {
            let scale = cross / square;
            self.0 = Some(Split { scale, score: scale * cross, borders, shifts });
        }
    }

    /// The best; none where nothing has a weight.
    pub fn get(self) -> Option<Split<T>> {
        self.0
    }
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
pub fn levels<T, const W: usize>(order: &[usize; W], split: &Split<T>) -> [i32; W] {
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

/// A group of eight on the grid: the entry with its levels, or the near one with the least weighted distance. None where
/// every distance is too large to be a number, where ggml goes on in memory that is not its own.
pub fn place(
    grid: &Grid<8, 4>,
    levels: &[i32; 8],
    x: &[f32; 8],
    weights: &[f32; 8],
    scale: f32,
    shifted: &[f32; 3],
) -> Option<(Point, bool)> {
    let point = grid.point(levels);
    let Place::Near(list) = grid.place(point) else { return Some((point, true)) };
    let (mut best, mut nearest) = (f32::MAX, None);
    for entry in list.iter().map(Point::load) {
        let mut distance = 0.0;
        for ((q, &x), &w) in values(grid, entry, shifted).iter().zip(x).zip(weights) {
            let off = scale * q - x;
            distance += w * off * off;
        }
        if distance < best {
            (best, nearest) = (distance, Some(entry));
        }
    }
    nearest.map(|entry| (entry, false))
}

/// The values of an entry before its scale.
pub fn values(grid: &Grid<8, 4>, entry: Point, shifted: &[f32; 3]) -> [f32; 8] {
    grid.odd(entry).map(|q| shifted[(q as usize / 2).min(2)])
}

/// Adds weight x value x level and weight x level x level of a group to the sums.
pub fn add_sums((cross, square): (&mut f32, &mut f32), x: &[f32; 8], weights: &[f32; 8], levels: &[f32; 8]) {
    for ((&x, &w), &q) in x.iter().zip(weights).zip(levels) {
        *cross += w * q * x;
        *square += w * q * q;
    }
}
