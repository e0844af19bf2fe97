//! The grids of the IQ1, IQ2 and IQ3 types as their quantizers see them: every combination of levels has a place, either
//! on the grid or beside the entries nearest to it.
//!
//! Knows no block and no values. The entries beside are those of the one, two or three least distances (the number is
//! the type's), counted in levels and without weights, ordered by distance and then by index, as ggml's
//! `iq2xs_init_impl` and `iq3xs_init_impl` order them: where two are equally good the first is taken.
//!
//! The places follow from the entries. They are worked out when the grid is first used, by every thread that
//! comes before the first is done: all store the same numbers, so nobody has to wait for anybody.

use super::grids;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32};

/// A combination of levels, by halves: the number of the first half's combination in the low byte, of the second's in
/// the high one. Combinations are counted with the first value as the lowest digit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GridPoint(u16);

impl GridPoint {
    /// The point of two halves.
    #[inline(always)]
    pub fn new(first: usize, second: usize) -> GridPoint {
        GridPoint((first | second << 8) as u16)
    }

    /// The point whose first half has the number `both % 256` and the second `both / 256`.
    #[inline(always)]
    pub fn of_bytes(both: u16) -> GridPoint {
        GridPoint(both)
    }

    /// The combinations of both halves, each less than [`HALVES`].
    #[inline(always)]
    pub fn halves(self) -> [usize; 2] {
        [usize::from(self.0) & (HALVES - 1), usize::from(self.0 >> 8) & (HALVES - 1)]
    }
}

impl GridPoint {
    /// The values of a point, by what the combinations of a half are worth.
    #[inline(always)]
    pub fn values<const N: usize, const H: usize>(self, rows: &[[f32; H]]) -> [f32; N] {
        let [first, second] = self.halves().map(|half| &rows[half]);
        core::array::from_fn(|i| if i < H { first[i] } else { second[i - H] })
    }
}

/// More than there are combinations of a half, and a power of two.
pub const HALVES: usize = 128;

/// Where a point is.
pub enum PointLookup<'a> {
    /// It is this entry.
    On(u16),
    /// These entries are near.
    Near(&'a [AtomicU16]),
}

/// A grid for groups of `N` values, `H` in a half.
pub struct SignGrid<const N: usize, const H: usize> {
    entries: &'static [u16],
    /// How many different distances the entries near a point may have.
    shells: usize,
    /// The combinations of a half: for each of its values twice the level, and one.
    halves: &'static [[f32; H]],
    ready: AtomicBool,
    places: &'static [AtomicU32],
    near: &'static [AtomicU16],
}

/// Marks the place of an entry; without it, a place is where its list starts in `near`, and how long it is.
const ON: u32 = 1 << 31;
const LENGTH_BITS: u32 = 9;

/// `N` values of `LEVELS` levels each, the first value the lowest digit: `2 * level + 1`.
const fn combinations<const LEVELS: usize, const H: usize, const ALL: usize>() -> [[f32; H]; ALL] {
    let mut all = [[0.0; H]; ALL];
    let mut code = 0;
    while code < ALL {
        let (mut rest, mut i) = (code, 0);
        while i < H {
            all[code][i] = (2 * (rest % LEVELS) + 1) as f32;
            rest /= LEVELS;
            i += 1;
        }
        code += 1;
    }
    all
}

static TERNARY: [[f32; 4]; 81] = combinations::<3, 4, 81>();
static OCTAL: [[f32; 2]; 64] = combinations::<8, 2, 64>();

macro_rules! grids {
    ($($(#[$doc:meta])* $name:ident: $n:literal, $h:literal, $halves:ident, $shells:literal, $near:literal;)*) => { $(
        $(#[$doc])*
        pub static $name: SignGrid<$n, $h> = SignGrid {
            entries: &grids::$name,
            shells: $shells,
            halves: &$halves,
            ready: AtomicBool::new(false),
            places: {
                static PLACES: [AtomicU32; $halves.len() * $halves.len()] =
                    [const { AtomicU32::new(0) }; $halves.len() * $halves.len()];
                &PLACES
            },
            near: {
                static NEAR: [AtomicU16; $near] = [const { AtomicU16::new(0) }; $near];
                &NEAR
            },
        };
    )* };
}

grids! {
    /// The grid of IQ2_XXS.
    IQ2_XXS: 8, 4, TERNARY, 2, 113_157;
    /// The grid of IQ2_XS.
    IQ2_XS: 8, 4, TERNARY, 2, 181_721;
    /// The grid of IQ2_S.
    IQ2_S: 8, 4, TERNARY, 1, 44_716;
    /// The grid of IQ1_S and IQ1_M.
    IQ1_S: 8, 4, TERNARY, 3, 327_721;
    /// The grid of IQ3_XXS.
    IQ3_XXS: 4, 2, OCTAL, 2, 18_985;
    /// The grid of IQ3_S.
    IQ3_S: 4, 2, OCTAL, 3, 24_733;
}

impl<const N: usize, const H: usize> SignGrid<N, H> {
    /// Makes sure that the places are worked out.
    pub fn ready(&self) {
        if !self.ready.load(Acquire) {
            self.work_out();
            self.ready.store(true, Release);
        }
    }

    /// Where a point is; the grid must be [`ready`](SignGrid::ready).
    #[inline(always)]
    pub fn place(&self, point: GridPoint) -> PointLookup<'_> {
        let [first, second] = point.halves();
        let at = self.places[second * self.halves.len() + first].load(Relaxed);
        if at & ON != 0 {
            return PointLookup::On(at as u16);
        }
        let start = (at >> LENGTH_BITS) as usize;
        PointLookup::Near(&self.near[start..start + (at & ((1 << LENGTH_BITS) - 1)) as usize])
    }

    /// The number of an entry.
    #[inline(always)]
    pub fn index(&self, entry: GridPoint) -> u16 {
        match self.place(entry) {
            PointLookup::On(index) => index,
            PointLookup::Near(_) => 0,
        }
    }

    /// Twice the levels of a point, and one.
    #[inline(always)]
    pub fn odd(&self, point: GridPoint) -> [f32; N] {
        point.values(self.halves)
    }

    /// The same of all combinations of a half.
    pub fn odd_rows(&self) -> &'static [[f32; H]] {
        self.halves
    }

    /// The point of levels.
    #[inline(always)]
    pub fn point(&self, levels: &[i32; N]) -> GridPoint {
        let base = if H == 4 { 3 } else { 8 };
        let half = |levels: &[i32]| levels.iter().rev().fold(0, |code, &l| code * base + l as usize);
        GridPoint::new(half(&levels[..H]), half(&levels[H..]))
    }

    /// The point of entry number `index`.
    pub fn entry(&self, index: usize) -> GridPoint {
        let bits = if N == 8 { 2 } else { 3 };
        self.point(&core::array::from_fn(|i| {
            i32::from(self.entries[index] >> (bits * i)) & ((1 << bits) - 1)
        }))
    }

    fn work_out(&self) {
        let mut entries = [GridPoint::default(); 2048];
        let entries = &mut entries[..self.entries.len()];
        entries.iter_mut().enumerate().for_each(|(index, point)| *point = self.entry(index));
        let all = self.halves.len();
        let mut start = 0;
        for (place, number) in self.places.iter().zip(0..) {
            start += self.work_out_place(entries, place, GridPoint::new(number % all, number / all), start);
        }
        debug_assert_eq!(start, self.near.len());
    }

    /// Works out one place, whose list begins at `start`, and gives the length of the list.
    fn work_out_place(
        &self,
        entries: &[GridPoint],
        place: &AtomicU32,
        point: GridPoint,
        start: usize,
    ) -> usize {
        let mut distances = [0_u8; 2048];
        let distances = &mut distances[..entries.len()];
        let mut counts = [0_usize; 256];
        let [first, second] = point.halves().map(|half| self.distances(half));
        for (distance, entry) in distances.iter_mut().zip(entries) {
            let halves = entry.halves();
            *distance = first[halves[0]] + second[halves[1]];
            counts[usize::from(*distance)] += 1;
        }
        if counts[0] > 0 {
            let index = distances.iter().position(|&d| d == 0).unwrap_or(0);
            place.store(ON | index as u32, Relaxed);
            return 0;
        }
        let shells = (0..=u8::MAX).filter(|&d| counts[usize::from(d)] > 0).take(self.shells);
        let listed = shells.flat_map(|shell| entries.iter().zip(&*distances).filter(move |e| *e.1 == shell));
        let mut length = 0;
        for (slot, (entry, _)) in self.near[start..].iter().zip(listed) {
            slot.store(entry.0, Relaxed);
            length += 1;
        }
        place.store((start << LENGTH_BITS | length) as u32, Relaxed);
        length
    }

    /// The sums of squared differences in level between a combination of a half and all of them.
    fn distances(&self, half: usize) -> [u8; HALVES] {
        let mut all = [0; HALVES];
        for (distance, other) in all.iter_mut().zip(self.halves) {
            let twice = other.iter().zip(&self.halves[half]).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
            *distance = (twice / 4.0) as u8;
        }
        all
    }
}

impl GridPoint {
    /// The point that a list holds.
    #[inline(always)]
    pub fn load(slot: &AtomicU16) -> GridPoint {
        GridPoint(slot.load(Relaxed))
    }
}
