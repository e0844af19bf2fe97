//! The search that moves single codes, [`Searches::refined`](quantoscope_core::quant::searches::Searches::refined).
//!
//! In four sub-blocks of five nothing moves. A code stays where the divisor of the quotient that would replace it is
//! not above zero, and for certain where the quotient is nearer to it than by half a step: seeing that takes neither a
//! division nor the codes before, and sub-blocks of which all codes stay are done. The others are put together anew
//! before each round, so that no lane waits for the slowest.

use super::lanes::{Columns, blank, fill, fill_from, loudest, numbers, pick, rows_of};
use fearless_simd::prelude::*;
use quantoscope_core::quant::searches::{EPSILON, Refined};

/// Vectors of sub-blocks that are started side by side.
const PAIR: usize = 2;
/// Sub-blocks that are put together anew.
const POOL: usize = 512;
/// Rounds at most.
const ROUNDS: usize = 5;
/// Its sum with a small number has the nearest integer in its low bits.
const MAGIC: f32 = 12_582_912.0;

/// Finds the codes and scales of all sub-blocks.
#[inline(always)]
pub fn search<S: Simd, const N: usize>(simd: S, half: i32, x: &[[f32; N]], found: &mut [Refined<N>]) {
    let mut pool = Pool::new(half as f32);
    for (x, found) in x.chunks(POOL).zip(found.chunks_mut(POOL)) {
        pool.start(simd, x);
        for _ in 0..ROUNDS {
            pool.round(simd, x);
        }
        pool.finish(simd, found);
    }
}

/// Sub-blocks on their way.
struct Pool<const N: usize> {
    half: f32,
    /// Codes as numbers.
    codes: [[f32; N]; POOL],
    bytes: [[u8; N]; POOL],
    /// Sums of weight x value x code, and of weight x code x code.
    sums: [[f32; POOL]; 2],
    /// The sub-blocks that moved in the last round, or have not been tried.
    moving: usize,
    which: [u16; POOL],
}

impl<const N: usize> Pool<N> {
    #[inline(always)]
    fn new(half: f32) -> Pool<N> {
        Pool {
            half,
            codes: [[0.0; N]; POOL],
            bytes: [[0; N]; POOL],
            sums: [[0.0; POOL]; 2],
            moving: 0,
            which: [0; POOL],
        }
    }

    /// The codes of the grid on which the loudest value is `-half`, and which sub-blocks have one that may move.
    #[inline(always)]
    fn start<S: Simd>(&mut self, simd: S, x: &[[f32; N]]) {
        let len = S::f32s::LEN;
        self.moving = 0;
        let mut first = First::new(simd);
        for (n, rows) in x.chunks(PAIR * len).enumerate() {
            let from = n * PAIR * len;
            fill(simd, &mut first.x, rows);
            let max = loudest::<S, N, PAIR>(simd, &first.x);
            first.code(simd, self.half, &max);
            let codes = &mut self.codes;
            rows_of::<S, N, PAIR>(
                &first.codes,
                #[inline(always)]
                |j, at, v| v.store_slice(&mut codes[from + j][at..at + len]),
            );
            let stay = first.stay(simd, self.half);
            for g in 0..PAIR {
                let from = from + g * len;
                first.cross[g].store_slice(&mut self.sums[0][from..from + len]);
                first.square[g].store_slice(&mut self.sums[1][from..from + len]);
                let silent = max[g].abs().simd_lt(EPSILON);
                for j in lanes(silent.to_bitmask()) {
                    self.codes[from + j] = [-self.half; N];
                    (self.sums[0][from + j], self.sums[1][from + j]) = (0.0, 0.0);
                }
                for j in lanes((!(stay[g] | silent)).to_bitmask()) {
                    self.which[self.moving] = (from + j) as u16;
                    self.moving += 1;
                }
            }
        }
    }

    /// One round over the sub-blocks that still move.
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

    /// One round over up to `G` vectors of them.
    #[inline(always)]
    fn pass<S: Simd, const G: usize>(&mut self, simd: S, x: &[[f32; N]], which: &[u16]) {
        let len = S::f32s::LEN;
        let (mut values, mut lanes) = (
            blank::<S, N, G>(simd),
            Lanes {
                half: self.half,
                codes: blank(simd),
                cross: gather(simd, &self.sums[0], which),
                square: gather(simd, &self.sums[1], which),
            },
        );
        fill_from(
            simd,
            &mut values,
            #[inline(always)]
            |j| which.get(j).map(|&at| &x[usize::from(at)]),
        );
        let codes = &self.codes;
        fill_from(
            simd,
            &mut lanes.codes,
            #[inline(always)]
            |j| which.get(j).map(|&at| &codes[usize::from(at)]),
        );
        let moved = lanes.moves(simd, &values);
        let codes = &mut self.codes;
        rows_of::<S, N, G>(
            &lanes.codes,
            #[inline(always)]
            |j, at, v| {
                if let Some(&to) = which.get(j) {
                    v.store_slice(&mut codes[usize::from(to)][at..at + len]);
                }
            },
        );
        for (g, which) in which.chunks(len).enumerate() {
            let [cross, square] = [lanes.cross[g], lanes.square[g]].map(|v| numbers::<S>(v));
            let moved = moved[g].to_bitmask();
            for (j, &at) in which.iter().enumerate() {
                (self.sums[0][usize::from(at)], self.sums[1][usize::from(at)]) = (cross[j], square[j]);
                self.which[self.moving] = at;
                self.moving += (moved >> j & 1) as usize;
            }
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, found: &mut [Refined<N>]) {
        let count = (found.len() * N).next_multiple_of(4 * S::f32s::LEN);
        let (codes, out) = (&self.codes.as_flattened()[..count], &mut self.bytes.as_flattened_mut()[..count]);
        bytes(simd, self.half, codes, out);
        let sums = self.sums[0].iter().zip(&self.sums[1]);
        for ((found, codes), (&cross, &square)) in found.iter_mut().zip(&self.bytes).zip(sums) {
            let scale = if square > 0.0 { cross / square } else { 0.0 };
            *found = Refined { scale, codes: *codes };
        }
    }
}

/// Codes counted from `-half`, as bytes; of both a multiple of four vectors.
#[inline(always)]
fn bytes<S: Simd>(simd: S, half: f32, codes: &[f32], out: &mut [u8]) {
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

/// The lanes whose bits are set.
#[inline(always)]
fn lanes(mut bits: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(
        #[inline(always)]
        move || {
            let lane = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
            bits &= bits - 1;
            Some(lane)
        },
    )
}

/// The numbers of some sub-blocks.
#[inline(always)]
fn gather<S: Simd, const G: usize>(simd: S, from: &[f32; POOL], which: &[u16]) -> [S::f32s; G] {
    let mut out = [S::f32s::splat(simd, 0.0); G];
    for (out, which) in out.iter_mut().zip(which.chunks(S::f32s::LEN)) {
        for (lane, &at) in out.as_mut_slice().iter_mut().zip(which) {
            *lane = from[usize::from(at)];
        }
    }
    out
}

/// The first codes of sub-blocks side by side, and what each adds to the sums.
struct First<S: Simd, const N: usize> {
    x: Columns<S, N, PAIR>,
    codes: Columns<S, N, PAIR>,
    crosses: Columns<S, N, PAIR>,
    squares: Columns<S, N, PAIR>,
    cross: [S::f32s; PAIR],
    square: [S::f32s; PAIR],
}

impl<S: Simd, const N: usize> First<S, N> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let (all, none) = (blank(simd), [S::f32s::splat(simd, 0.0); PAIR]);
        First { x: all, codes: all, crosses: all, squares: all, cross: none, square: none }
    }

    /// Finds the codes of the grid on which the loudest value is `-half`.
    #[inline(always)]
    fn code(&mut self, simd: S, half: f32, max: &[S::f32s; PAIR]) {
        let top = S::f32s::splat(simd, half - 1.0).bitcast::<S::i32s>();
        let mut inverse = *max;
        for inverse in &mut inverse {
            *inverse = S::f32s::splat(simd, -half) / *inverse;
        }
        self.cross = [S::f32s::splat(simd, 0.0); PAIR];
        self.square = self.cross;
        for i in 0..N {
            for g in 0..PAIR {
                let x = self.x[i][g];
                let q = (inverse[g] * x).round_ties_even().bitcast::<S::i32s>().min(top).bitcast::<S::f32s>();
                let w = x * x;
                let (cross, square) = (w * x * q, w * q * q);
                (self.codes[i][g], self.crosses[i][g], self.squares[i][g]) = (q, cross, square);
                self.cross[g] += cross;
                self.square[g] += square;
            }
        }
    }

    /// The sub-blocks in which no code can move. Its quotient is compared with the code times the divisor; the
    /// roundings of that are far below the thousandth of a step that is left to them.
    #[inline(always)]
    fn stay(&self, simd: S, half: f32) -> [S::mask32s; PAIR] {
        let splat = |x: f32| S::f32s::splat(simd, x);
        let (bottom, top, near, zero) = (splat(-half), splat(half - 1.0), splat(0.499), splat(0.0));
        let mut stay = [S::mask32s::splat(simd, true); PAIR];
        let columns = self.codes.iter().zip(&self.crosses).zip(&self.squares);
        for (((codes, crosses), squares), x) in columns.zip(&self.x) {
            for g in 0..PAIR {
                let without = self.cross[g] - crosses[g];
                let product = x[g] * (self.square[g] - squares[g]);
                // A quotient beyond the codes is limited to them.
                let limited = product.max(bottom * without).min(top * without);
                let certain = (limited - codes[g] * without).abs().simd_lt(near * without);
                // What is not above zero is no divisor: where the loudest value is positive, none is.
                stay[g] &= certain | !without.simd_gt(zero);
            }
        }
        stay
    }
}

/// Sub-blocks side by side.
struct Lanes<S: Simd, const N: usize, const G: usize> {
    half: f32,
    codes: Columns<S, N, G>,
    cross: [S::f32s; G],
    square: [S::f32s; G],
}

impl<S: Simd, const N: usize, const G: usize> Lanes<S, N, G> {
    /// Moves the code of one value after the other where that helps; tells which sub-blocks had one moved.
    #[inline(always)]
    fn moves(&mut self, simd: S, x: &Columns<S, N, G>) -> [S::mask32s; G] {
        let splat = |x: f32| S::f32s::splat(simd, x);
        let int = |x: f32| splat(x).bitcast::<S::i32s>();
        let (zero, magic) = (splat(0.0), splat(MAGIC));
        let (bottom, top) = (int(MAGIC - self.half), int(MAGIC + self.half - 1.0));
        let (low_bits, high_bits) = (S::i32s::splat(simd, 0x007F_FFFF), S::i32s::splat(simd, 0x4B00_0000));
        let mut moved = [S::mask32s::splat(simd, false); G];
        for (x, codes) in x.iter().zip(&mut self.codes) {
            for g in 0..G {
                let (x, q, cross, square) = (x[g], codes[g], self.cross[g], self.square[g]);
                let w = x * x;
                let wx = w * x;
                let without = cross - wx * q;
                let rest = square - w * q * q;
                // A quotient of any size: what counts is the low bits of the sum, taken for a number near the constant.
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
        moved
    }
}
