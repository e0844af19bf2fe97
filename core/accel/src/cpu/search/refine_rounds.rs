//! The rounds of [`super::q3_refine`] in which codes change, for the sub-blocks in which one may.

use super::lanes::{TransposedLanes, WIDEST, blank, fill_from, numbers, pick, rows_of};
use fearless_simd::prelude::*;
use quantoscope_core::quant::scale_search::RefinedFit;

/// Sub-blocks per pool: enough that the last rounds, with few sub-blocks, still fill vectors.
pub(super) const POOL: usize = 192;
/// Sub-blocks whose codes are converted to bytes together.
pub(super) const BYTES_AT_ONCE: usize = 2 * WIDEST;
/// Maximum number of rounds.
const ROUNDS: usize = 5;
/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the sum.
const MAGIC: f32 = 12_582_912.0;

/// Sub-blocks whose codes may change.
pub(super) struct MovingPool<const N: usize> {
    half: f32,
    /// Number of sub-blocks.
    pub count: usize,
    /// Their indices in the input.
    at: [usize; POOL],
    /// Codes as floats.
    codes: [[f32; N]; POOL],
    /// Sums of weight x value x code and of weight x code x code.
    sums: [[f32; POOL]; 2],
    /// Number of sub-blocks in the next round, and their indices in the pool.
    moving: usize,
    which: [u8; POOL],
}

impl<const N: usize> MovingPool<N> {
    /// An empty pool for codes from `-half` to `half - 1`.
    #[inline(always)]
    pub(super) fn new(half: f32) -> MovingPool<N> {
        let (codes, sums) = ([[0.0; N]; POOL], [[0.0; POOL]; 2]);
        MovingPool { half, count: 0, at: [0; POOL], codes, sums, moving: 0, which: [0; POOL] }
    }

    /// Adds sub-block `at` of the input.
    #[inline(always)]
    pub(super) fn add(&mut self, at: usize, codes: &[f32; N], [cross, square]: [f32; 2]) {
        let k = self.count;
        (self.at[k], self.codes[k], self.which[k]) = (at, *codes, k as u8);
        (self.sums[0][k], self.sums[1][k]) = (cross, square);
        self.count += 1;
    }

    /// Runs all rounds, writes the fits, and empties the pool.
    #[inline(always)]
    pub(super) fn drain<S: Simd>(&mut self, simd: S, x: &[[f32; N]], found: &mut [RefinedFit<N>]) {
        self.moving = self.count;
        for _ in 0..ROUNDS {
            self.round(simd, x);
        }
        let mut bytes = [[0; N]; BYTES_AT_ONCE];
        for from in (0..self.count).step_by(BYTES_AT_ONCE) {
            as_bytes(simd, self.half, &self.codes[from..from + BYTES_AT_ONCE], &mut bytes);
            for (k, bytes) in (from..self.count).zip(&bytes) {
                let (cross, square) = (self.sums[0][k], self.sums[1][k]);
                let scale = if square > 0.0 { cross / square } else { 0.0 };
                found[self.at[k]] = RefinedFit { scale, codes: *bytes };
            }
        }
        self.count = 0;
    }

    /// One round over the sub-blocks whose codes may still change.
    #[inline(always)]
    fn round<S: Simd>(&mut self, simd: S, x: &[[f32; N]]) {
        let (len, which) = (S::f32s::LEN, self.which);
        let trying = core::mem::take(&mut self.moving);
        for which in which[..trying].chunks(4 * len) {
            match which.len().div_ceil(len) {
                1 => self.pass::<S, 1>(simd, x, which),
                2 => self.pass::<S, 2>(simd, x, which),
                _ => self.pass::<S, 4>(simd, x, which),
            }
        }
    }

    /// One round over up to `G` vectors of sub-blocks.
    #[inline(always)]
    fn pass<S: Simd, const G: usize>(&mut self, simd: S, x: &[[f32; N]], which: &[u8]) {
        let len = S::f32s::LEN;
        let mut lanes: MovingLanes<S, N, G> = MovingLanes {
            half: self.half,
            x: blank(simd),
            codes: blank(simd),
            cross: gather(simd, &self.sums[0], which),
            square: gather(simd, &self.sums[1], which),
        };
        let (codes, at) = (&self.codes, &self.at);
        fill_from(
            simd,
            &mut lanes.x,
            #[inline(always)]
            |j| which.get(j).map(|&k| &x[at[usize::from(k)]]),
        );
        fill_from(
            simd,
            &mut lanes.codes,
            #[inline(always)]
            |j| which.get(j).map(|&k| &codes[usize::from(k)]),
        );
        let moved = lanes.moves(simd);
        let codes = &mut self.codes;
        rows_of::<S, N, G>(
            simd,
            &lanes.codes,
            #[inline(always)]
            |j, at, v| {
                if let Some(&k) = which.get(j) {
                    v.store_slice(&mut codes[usize::from(k)][at..at + len]);
                }
            },
        );
        for (g, which) in which.chunks(len).enumerate() {
            let [cross, square] = [lanes.cross[g], lanes.square[g]].map(|v| numbers::<S>(v));
            let moved = moved[g].to_bitmask();
            for (j, &k) in which.iter().enumerate() {
                (self.sums[0][usize::from(k)], self.sums[1][usize::from(k)]) = (cross[j], square[j]);
                self.which[self.moving] = k;
                self.moving += (moved >> j & 1) as usize;
            }
        }
    }
}

/// Codes plus `half`, as bytes. `codes` holds whole vectors of sub-blocks.
#[inline(always)]
pub(super) fn as_bytes<S: Simd, const N: usize>(simd: S, half: f32, codes: &[[f32; N]], out: &mut [[u8; N]]) {
    let (codes, out) = (codes.as_flattened(), out.as_flattened_mut());
    let (len, shift) = (S::f32s::LEN, S::f32s::splat(simd, MAGIC + half));
    for (four, out) in codes.chunks_exact(4 * len).zip(out.chunks_exact_mut(4 * len)) {
        let mut words = [S::u32s::splat(simd, 0); 4];
        for (words, four) in words.iter_mut().zip(four.chunks_exact(len)) {
            *words = (S::f32s::from_slice(simd, four) + shift).bitcast::<S::u32s>() & 0xFF;
        }
        let [a, b, c, d] = words;
        a.relaxed_narrow(b).relaxed_narrow(c.relaxed_narrow(d)).store_slice(out);
    }
}

/// Gathers the numbers of some sub-blocks.
#[inline(always)]
fn gather<S: Simd, const G: usize>(simd: S, from: &[f32; POOL], which: &[u8]) -> [S::f32s; G] {
    let mut out = [S::f32s::splat(simd, 0.0); G];
    for (out, which) in out.iter_mut().zip(which.chunks(S::f32s::LEN)) {
        for (lane, &at) in out.as_mut_slice().iter_mut().zip(which) {
            *lane = from[usize::from(at)];
        }
    }
    out
}

/// Transposed sub-blocks.
struct MovingLanes<S: Simd, const N: usize, const G: usize> {
    half: f32,
    x: TransposedLanes<S, N, G>,
    codes: TransposedLanes<S, N, G>,
    cross: [S::f32s; G],
    square: [S::f32s; G],
}

impl<S: Simd, const N: usize, const G: usize> MovingLanes<S, N, G> {
    /// Changes codes in index order if that improves the fit. Returns the sub-blocks in which a code may
    /// change again.
    #[inline(always)]
    fn moves(&mut self, simd: S) -> [S::mask32s; G] {
        let splat = |x: f32| S::f32s::splat(simd, x);
        let int = |x: f32| splat(x).bitcast::<S::i32s>();
        let (zero, magic) = (splat(0.0), splat(MAGIC));
        let (bottom, top) = (int(MAGIC - self.half), int(MAGIC + self.half - 1.0));
        let (low_bits, high_bits) = (S::i32s::splat(simd, 0x007F_FFFF), S::i32s::splat(simd, 0x4B00_0000));
        let mut moved = [S::mask32s::splat(simd, false); G];
        for (x, codes) in self.x.iter().zip(&mut self.codes) {
            for g in 0..G {
                let (x, q, cross, square) = (x[g], codes[g], self.cross[g], self.square[g]);
                let w = x * x;
                let wx = w * x;
                let without = cross - wx * q;
                let rest = square - w * q * q;
                // The quotient may have any size: as in the reference, only the low bits of the sum count.
                let sum = (x * rest / without + magic).bitcast::<S::i32s>();
                let sum = ((sum & low_bits) | high_bits).max(bottom).min(top);
                let new = sum.bitcast::<S::f32s>() - magic;
                let with = without + wx * new;
                let whole = rest + w * new * new;
                let helps = (with * with * square).simd_gt(cross * cross * whole) & whole.simd_gt(zero);
                let tried = without.simd_gt(zero) & !new.simd_eq(q);
                let moves = tried & helps;
                codes[g] = pick::<S>(moves, new, q);
                self.cross[g] = pick::<S>(moves, with, cross);
                self.square[g] = pick::<S>(moves, whole, square);
                moved[g] |= moves;
            }
        }
        self.move_again(simd, moved)
    }

    /// Sub-blocks with a changed code in which another one may change.
    #[inline(always)]
    fn move_again(&self, simd: S, moved: [S::mask32s; G]) -> [S::mask32s; G] {
        let mut stay = [S::mask32s::splat(simd, true); G];
        for (x, codes) in self.x.iter().zip(&self.codes) {
            for g in 0..G {
                let (x, q) = (x[g], codes[g]);
                let w = x * x;
                let (without, rest) = (self.cross[g] - w * x * q, self.square[g] - w * q * q);
                stay[g] &= stays(simd, self.half, x, q, without, rest);
            }
        }
        let mut again = moved;
        for (again, stay) in again.iter_mut().zip(stay) {
            *again &= !stay;
        }
        again
    }
}

/// Lanes in which a code certainly stays, given the sums without it. The comparison is multiplied by the
/// divisor instead of dividing; its rounding errors are far below the margin of 0.001 steps.
#[inline(always)]
pub(super) fn stays<S: Simd>(
    simd: S,
    half: f32,
    x: S::f32s,
    code: S::f32s,
    without: S::f32s,
    rest: S::f32s,
) -> S::mask32s {
    let splat = |x: f32| S::f32s::splat(simd, x);
    // The quotient is limited to the codes.
    let limited = (x * rest).max(splat(-half) * without).min(splat(half - 1.0) * without);
    let certain = (limited - code * without).abs().simd_lt(splat(0.499) * without);
    // A divisor must be positive; if the value of largest magnitude is positive, none is.
    certain | !without.simd_gt(splat(0.0))
}
