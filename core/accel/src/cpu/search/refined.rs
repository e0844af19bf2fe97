//! The search that moves single codes, [`ScaleSearch::q3_refine`](quantoscope_core::quant::scale_search::ScaleSearch::q3_refine).
//!
//! In four sub-blocks of five nothing moves. A code stays where the divisor of the quotient that would replace it is
//! not above zero, and for certain where the quotient is nearer to it than by half a step: seeing that takes neither a
//! division nor the codes before, and sub-blocks of which all codes stay are done. The others are put together anew
//! before each round, so that no lane waits for the slowest.

use super::lanes::{TransposedLanes, blank, fill, loudest, numbers, pick, rows_of};
use super::scale_of_scales::{MOST, MovingPool, POOL, as_bytes, stays};
use fearless_simd::prelude::*;
use quantoscope_core::quant::scale_search::{EPSILON, RefinedFit};

/// Vectors of sub-blocks that are started side by side.
const PAIR: usize = 2;

/// Finds the codes and scales of all sub-blocks.
#[inline(always)]
pub fn search<S: Simd, const N: usize>(simd: S, half: i32, x: &[[f32; N]], found: &mut [RefinedFit<N>]) {
    let at_once = PAIR * S::f32s::LEN;
    let (mut first, mut pool) = (First::new(simd, half as f32), MovingPool::new(half as f32));
    for (n, rows) in x.chunks(at_once).enumerate() {
        let from = n * at_once;
        let to = from + rows.len();
        first.start(simd, rows);
        first.note(simd, from, &mut found[from..to], &mut pool);
        if to == x.len() || pool.count + at_once > POOL {
            pool.drain(simd, x, found);
        }
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

/// The first codes of sub-blocks side by side, and what each adds to the sums.
struct First<S: Simd, const N: usize> {
    half: f32,
    x: TransposedLanes<S, N, PAIR>,
    codes: TransposedLanes<S, N, PAIR>,
    crosses: TransposedLanes<S, N, PAIR>,
    squares: TransposedLanes<S, N, PAIR>,
    cross: [S::f32s; PAIR],
    square: [S::f32s; PAIR],
    /// The loudest values.
    max: [S::f32s; PAIR],
    /// The codes, sub-block by sub-block.
    rows: [[f32; N]; MOST],
    bytes: [[u8; N]; MOST],
}

impl<S: Simd, const N: usize> First<S, N> {
    #[inline(always)]
    fn new(simd: S, half: f32) -> Self {
        let (all, none) = (blank(simd), [S::f32s::splat(simd, 0.0); PAIR]);
        First {
            half,
            x: all,
            codes: all,
            crosses: all,
            squares: all,
            cross: none,
            square: none,
            max: none,
            rows: [[0.0; N]; MOST],
            bytes: [[0; N]; MOST],
        }
    }

    /// Takes sub-blocks in, and codes them.
    #[inline(always)]
    fn start(&mut self, simd: S, rows: &[[f32; N]]) {
        let len = S::f32s::LEN;
        fill(simd, &mut self.x, rows);
        self.max = loudest::<S, N, PAIR>(simd, &self.x);
        self.code(simd);
        let rows = &mut self.rows;
        rows_of::<S, N, PAIR>(
            simd,
            &self.codes,
            #[inline(always)]
            |j, at, v| v.store_slice(&mut rows[j][at..at + len]),
        );
        as_bytes(simd, self.half, &self.rows[..PAIR * len], &mut self.bytes);
    }

    /// Notes what is found by that, and puts into the pool what may not stay.
    #[inline(always)]
    fn note(&self, simd: S, from: usize, found: &mut [RefinedFit<N>], pool: &mut MovingPool<N>) {
        let (len, stay, zero) = (S::f32s::LEN, self.stay(simd), S::f32s::splat(simd, 0.0));
        for (g, found) in found.chunks_mut(len).enumerate() {
            let (cross, square, at) = (self.cross[g], self.square[g], g * len);
            let scales = numbers::<S>(pick::<S>(square.simd_gt(zero), cross / square, zero));
            for ((found, scale), bytes) in found.iter_mut().zip(scales).zip(&self.bytes[at..]) {
                *found = RefinedFit { scale, codes: *bytes };
            }
            let silent = self.max[g].abs().simd_lt(EPSILON);
            for j in lanes(silent.to_bitmask()) {
                if let Some(found) = found.get_mut(j) {
                    *found = RefinedFit { scale: 0.0, codes: [0; N] };
                }
            }
            let sums = [numbers::<S>(cross), numbers::<S>(square)];
            for j in lanes((!(stay[g] | silent)).to_bitmask()) {
                pool.add(from + at + j, &self.rows[at + j], sums.map(|all| all[j]));
            }
        }
    }

    /// Finds the codes of the grid on which the loudest value is `-half`.
    #[inline(always)]
    fn code(&mut self, simd: S) {
        let top = S::f32s::splat(simd, self.half - 1.0).bitcast::<S::i32s>();
        let mut inverse = self.max;
        for inverse in &mut inverse {
            *inverse = S::f32s::splat(simd, -self.half) / *inverse;
        }
        // Not in `self`, where every addition would go by way of memory.
        let mut sums = [[S::f32s::splat(simd, 0.0); 2]; PAIR];
        for i in 0..N {
            for (g, &inverse) in inverse.iter().enumerate() {
                let x = self.x[i][g];
                let q = (inverse * x).round_ties_even().bitcast::<S::i32s>().min(top).bitcast::<S::f32s>();
                let w = x * x;
                let (cross, square) = (w * x * q, w * q * q);
                (self.codes[i][g], self.crosses[i][g], self.squares[i][g]) = (q, cross, square);
                sums[g] = [sums[g][0] + cross, sums[g][1] + square];
            }
        }
        (self.cross, self.square) = (sums.map(|s| s[0]), sums.map(|s| s[1]));
    }

    /// The sub-blocks in which no code can move.
    #[inline(always)]
    fn stay(&self, simd: S) -> [S::mask32s; PAIR] {
        let mut stay = [S::mask32s::splat(simd, true); PAIR];
        for i in 0..N {
            for (g, stay) in stay.iter_mut().enumerate() {
                let without = self.cross[g] - self.crosses[i][g];
                let rest = self.square[g] - self.squares[i][g];
                *stay &= stays(simd, self.half, self.x[i][g], self.codes[i][g], without, rest);
            }
        }
        stay
    }
}
