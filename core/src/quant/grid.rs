//! The grids of the IQ1, IQ2 and IQ3 types with neighbour lists: every combination of levels is either a grid
//! entry or has a list of the nearest entries.
//!
//! Neighbours are the entries at the one, two or three smallest distances (the number depends on the type).
//! Distances count squared level differences without weights. Lists are ordered by distance, then by index,
//! as in ggml's `iq2xs_init_impl` and `iq3xs_init_impl`: of equally good neighbours the first is taken.
//!
//! The lists are computed when a grid is first used, by every thread that arrives before the first one
//! finishes. All threads store the same numbers, so no thread has to wait. Knows no blocks and no values.

use super::grids;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32};

/// A combination of levels: the index of the first half's combination in the low byte, of the second half's
/// in the high byte.
///
/// Combinations of a half are numbered with the first value as the lowest digit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GridPoint(u16);

impl GridPoint {
    /// Creates a point from the combinations of its halves.
    #[inline(always)]
    pub(super) fn new(first: usize, second: usize) -> GridPoint {
        GridPoint((first | second << 8) as u16)
    }

    /// Creates a point from both combinations: `first + 256 * second`.
    #[inline(always)]
    pub(super) fn of_bytes(both: u16) -> GridPoint {
        GridPoint(both)
    }

    /// Combinations of both halves, each below [`HALVES`].
    #[inline(always)]
    pub(super) fn halves(self) -> [usize; 2] {
        [usize::from(self.0) & (HALVES - 1), usize::from(self.0 >> 8) & (HALVES - 1)]
    }
}

impl GridPoint {
    /// Values of the point; `rows` has the values of every combination of a half.
    #[inline(always)]
    pub(super) fn values<const N: usize, const H: usize>(self, rows: &[[f32; H]]) -> [f32; N] {
        let [first, second] = self.halves().map(|half| &rows[half]);
        core::array::from_fn(|i| if i < H { first[i] } else { second[i - H] })
    }
}

/// Upper bound of the combinations of a half, a power of two.
pub(super) const HALVES: usize = 128;

/// Result of looking up a point.
pub(super) enum PointLookup<'a> {
    /// The point is the grid entry with this index.
    Entry(u16),
    /// The point is not on the grid; these entries are its neighbours, as encoded points.
    Neighbours(&'a [AtomicU16]),
}

/// Grid for groups of `N` values, with `H = N / 2` values in a half.
pub(super) struct SignGrid<const N: usize, const H: usize> {
    /// Entries of the grid, as in [`grids`].
    entries: &'static [u16],
    /// Number of different distances in a neighbour list.
    shells: usize,
    /// Values of every combination of a half: twice the level plus 1.
    halves: &'static [[f32; H]],
    /// True once the lists are computed.
    ready: AtomicBool,
    /// For every point: its entry or its neighbour list; see [`ON`].
    places: &'static [AtomicU32],
    /// All neighbour lists.
    near: &'static [AtomicU16],
}

/// Flag of a point that is an entry. Without it, the value is the start of the list in `near` and its length.
const ON: u32 = 1 << 31;
/// Bits of the length of a list.
const LENGTH_BITS: u32 = 9;

/// All combinations of `H` values with `LEVELS` levels each, as `2 * level + 1`; the first value is the
/// lowest digit.
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

/// Combinations of four values with three levels.
static TERNARY: [[f32; 4]; 81] = combinations::<3, 4, 81>();
/// Combinations of two values with eight levels.
static OCTAL: [[f32; 2]; 64] = combinations::<8, 2, 64>();

macro_rules! grids {
    ($($(#[$doc:meta])* $name:ident: $n:literal, $h:literal, $halves:ident, $shells:literal, $near:literal;)*) => { $(
        $(#[$doc])*
        pub(super) static $name: SignGrid<$n, $h> = SignGrid {
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
    /// Grid of IQ2_XXS.
    IQ2_XXS: 8, 4, TERNARY, 2, 113_157;
    /// Grid of IQ2_XS.
    IQ2_XS: 8, 4, TERNARY, 2, 181_721;
    /// Grid of IQ2_S.
    IQ2_S: 8, 4, TERNARY, 1, 44_716;
    /// Grid of IQ1_S and IQ1_M.
    IQ1_S: 8, 4, TERNARY, 3, 327_721;
    /// Grid of IQ3_XXS.
    IQ3_XXS: 4, 2, OCTAL, 2, 18_985;
    /// Grid of IQ3_S.
    IQ3_S: 4, 2, OCTAL, 3, 24_733;
}

impl<const N: usize, const H: usize> SignGrid<N, H> {
    /// Computes the neighbour lists if they are not ready.
    pub(super) fn ready(&self) {
        if !self.ready.load(Acquire) {
            self.compute_places();
            self.ready.store(true, Release);
        }
    }

    /// Looks up a point. The grid must be [`ready`](SignGrid::ready).
    #[inline(always)]
    pub(super) fn lookup(&self, point: GridPoint) -> PointLookup<'_> {
        let [first, second] = point.halves();
        let at = self.places[second * self.halves.len() + first].load(Relaxed);
        if at & ON != 0 {
            return PointLookup::Entry(at as u16);
        }
        let start = (at >> LENGTH_BITS) as usize;
        PointLookup::Neighbours(&self.near[start..start + (at & ((1 << LENGTH_BITS) - 1)) as usize])
    }

    /// Index of an entry.
    #[inline(always)]
    pub(super) fn index(&self, entry: GridPoint) -> u16 {
        match self.lookup(entry) {
            PointLookup::Entry(index) => index,
            PointLookup::Neighbours(_) => 0,
        }
    }

    /// Values of a point: twice the level plus 1.
    #[inline(always)]
    pub(super) fn odd_levels(&self, point: GridPoint) -> [f32; N] {
        point.values(self.halves)
    }

    /// Values of all combinations of a half.
    pub(super) fn half_values(&self) -> &'static [[f32; H]] {
        self.halves
    }

    /// The point with these levels.
    #[inline(always)]
    pub(super) fn point(&self, levels: &[i32; N]) -> GridPoint {
        let base = if H == 4 { 3 } else { 8 };
        let half = |levels: &[i32]| levels.iter().rev().fold(0, |code, &l| code * base + l as usize);
        GridPoint::new(half(&levels[..H]), half(&levels[H..]))
    }

    /// The point of the entry with this index.
    pub(super) fn entry(&self, index: usize) -> GridPoint {
        let bits = if N == 8 { 2 } else { 3 };
        self.point(&core::array::from_fn(|i| {
            i32::from(self.entries[index] >> (bits * i)) & ((1 << bits) - 1)
        }))
    }

    /// Computes all places and neighbour lists.
    fn compute_places(&self) {
        let mut entries = [GridPoint::default(); 2048];
        let entries = &mut entries[..self.entries.len()];
        entries.iter_mut().enumerate().for_each(|(index, point)| *point = self.entry(index));
        let all = self.halves.len();
        let mut start = 0;
        for (place, number) in self.places.iter().zip(0..) {
            start += self.compute_place(entries, place, GridPoint::new(number % all, number / all), start);
        }
        debug_assert_eq!(start, self.near.len());
    }

    /// Computes the place of a point, whose list would start at `start`; returns the length of the list.
    fn compute_place(
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

    /// Squared level differences between a combination of a half and all combinations.
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
    /// Reads a point from a neighbour list.
    #[inline(always)]
    pub(super) fn load(slot: &AtomicU16) -> GridPoint {
        GridPoint(slot.load(Relaxed))
    }
}
