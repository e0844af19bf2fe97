//! The search that changes single codes,
//! [`ScaleSearch::q3_refine`](quantoscope_core::quant::scale_search::ScaleSearch::q3_refine) (make_q3_quants
//! of ggml).
//!
//! In four of five sub-blocks no code changes. A code stays if the divisor of its new quotient is not
//! positive, or if the quotient is closer to it than half a step. That test needs neither a division nor the
//! other codes, and sub-blocks in which all codes stay are finished. The others are packed into full vectors
//! before each round, so that no lane is idle.

use super::lanes::{TransposedLanes, blank, fill, numbers, pick, rows_of, signed_absmax};
use super::refine_rounds::{BYTES_AT_ONCE, MovingPool, POOL, as_bytes, stays};
use fearless_simd::prelude::*;
use quantoscope_core::quant::scale_search::{EPSILON, RefinedFit};

/// Vectors of sub-blocks processed together.
const PAIR: usize = 2;

/// Computes codes and scales of all sub-blocks.
#[inline(always)]
pub(super) fn search<S: Simd, const N: usize>(
    simd: S,
    half: i32,
    x: &[[f32; N]],
    found: &mut [RefinedFit<N>],
) {
    let at_once = PAIR * S::f32s::LEN;
    let (mut first, mut pool) = (FirstCodes::new(simd, half as f32), MovingPool::new(half as f32));
    for (n, rows) in x.chunks(at_once).enumerate() {
        let from = n * at_once;
        let to = from + rows.len();
        first.load(simd, rows);
        first.emit(simd, from, &mut found[from..to], &mut pool);
        if to == x.len() || pool.count + at_once > POOL {
            pool.drain(simd, x, found);
        }
    }
}

/// Indices of the set bits.
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

/// The first codes of transposed sub-blocks, and their terms of the sums.
struct FirstCodes<S: Simd, const N: usize> {
    half: f32,
    x: TransposedLanes<S, N, PAIR>,
    codes: TransposedLanes<S, N, PAIR>,
    crosses: TransposedLanes<S, N, PAIR>,
    squares: TransposedLanes<S, N, PAIR>,
    cross: [S::f32s; PAIR],
    square: [S::f32s; PAIR],
    /// The values of largest magnitude.
    max: [S::f32s; PAIR],
    /// The codes, row by row.
    rows: [[f32; N]; BYTES_AT_ONCE],
    bytes: [[u8; N]; BYTES_AT_ONCE],
}

impl<S: Simd, const N: usize> FirstCodes<S, N> {
    #[inline(always)]
    fn new(simd: S, half: f32) -> Self {
        let (all, none) = (blank(simd), [S::f32s::splat(simd, 0.0); PAIR]);
        FirstCodes {
            half,
            x: all,
            codes: all,
            crosses: all,
            squares: all,
            cross: none,
            square: none,
            max: none,
            rows: [[0.0; N]; BYTES_AT_ONCE],
            bytes: [[0; N]; BYTES_AT_ONCE],
        }
    }

    /// Loads sub-blocks and computes their first codes.
    #[inline(always)]
    fn load(&mut self, simd: S, rows: &[[f32; N]]) {
        let len = S::f32s::LEN;
        fill(simd, &mut self.x, rows);
        self.max = signed_absmax::<S, N, PAIR>(simd, &self.x);
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

    /// Writes the fits, and adds the sub-blocks whose codes may change to the pool.
    #[inline(always)]
    fn emit(&self, simd: S, from: usize, found: &mut [RefinedFit<N>], pool: &mut MovingPool<N>) {
        let (len, stay, zero) = (S::f32s::LEN, self.stay(simd), S::f32s::splat(simd, 0.0));
        for (g, found) in found.chunks_mut(len).enumerate() {
            let (cross, square, at) = (self.cross[g], self.square[g], g * len);
            let scales = numbers::<S>(pick::<S>(square.simd_gt(zero), cross / square, zero));
            for ((found, scale), bytes) in found.iter_mut().zip(scales).zip(&self.bytes[at..]) {
                *found = RefinedFit { scale, codes: *bytes };
            }
            let near_zero = self.max[g].abs().simd_lt(EPSILON);
            for j in lanes(near_zero.to_bitmask()) {
                if let Some(found) = found.get_mut(j) {
                    *found = RefinedFit { scale: 0.0, codes: [0; N] };
                }
            }
            let sums = [numbers::<S>(cross), numbers::<S>(square)];
            for j in lanes((!(stay[g] | near_zero)).to_bitmask()) {
                pool.add(from + at + j, &self.rows[at + j], sums.map(|all| all[j]));
            }
        }
    }

    /// Computes the codes of the grid that maps the value of largest magnitude to `-half`.
    #[inline(always)]
    fn code(&mut self, simd: S) {
        let top = S::f32s::splat(simd, self.half - 1.0).bitcast::<S::i32s>();
        let mut inverse = self.max;
        for inverse in &mut inverse {
            *inverse = S::f32s::splat(simd, -self.half) / *inverse;
        }
        // Local variables: in `self`, every addition would go through memory.
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

    /// Sub-blocks in which no code can change.
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
