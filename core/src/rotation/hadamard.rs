//! Hadamard matrices of every order that Sylvester's doubling of Paley's gives, made when asked for, never stored.
//!
//! Rules version 1: `H_n = H_m (x) H_2^k`, with `m` the smallest order such that `n = m 2^k` and `H_m` can be
//! constructed; row and column `a 2^k + b` belong to row and column `a` of `H_m` and `b` of the Sylvester part. `H_m` is
//! Paley's first construction over a prime field where there is one, else his second over a prime field, else the
//! first and then the second over a field of a prime power.
//!
//! Applying one is `log2 2^k` rounds of butterflies, strides 1, 2, 4, ..., then the rows of `H_m` as sums in index
//! order. Nothing here scales. Knows no signs, no side and no model.

use super::float_trait::Float;
use super::galois_field::{GaloisField, prime_power};
use alloc::vec;
use alloc::vec::Vec;

/// The largest `m`: its matrix has a byte for each entry, and applying it costs `m` additions a value.
const LARGEST_BASE: u64 = 2048;

/// How `H_m` is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Construction {
    /// `[1]`.
    One,
    /// `q + 1` rows, `q = 3` modulo 4.
    First(u32),
    /// `2 (q + 1)` rows, `q = 1` modulo 4.
    Second(u32),
}

/// A Hadamard matrix, ready to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Hadamard {
    /// `m`, rows of the dense part.
    base: usize,
    /// Its entries, row by row: 1 or -1.
    entries: Vec<i8>,
    /// `2^k`, rows of the Sylvester part.
    doubled: usize,
}

/// Values of a stretch whose rounds are done together: half of a first-level cache.
const NEAR: usize = 4096;

/// The rounds of strides from `stride` to below `end`, two at a time where there are two: each value is moved half as often.
#[inline(always)]
fn rounds<T: Float>(x: &mut [T], mut stride: usize, end: usize) {
    while 2 * stride < end {
        for four in x.chunks_exact_mut(4 * stride) {
            let (low, high) = four.split_at_mut(2 * stride);
            let ((a, b), (c, d)) = (low.split_at_mut(stride), high.split_at_mut(stride));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (p, q, r, s) = (*a + *b, *a - *b, *c + *d, *c - *d);
                (*a, *b, *c, *d) = (p + r, q + s, p - r, q - s);
            }
        }
        stride *= 4;
    }
    if stride < end {
        for pair in x.chunks_exact_mut(2 * stride) {
            let (low, high) = pair.split_at_mut(stride);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
    }
}

fn construction(m: u64) -> Option<Construction> {
    if m == 1 {
        return Some(Construction::One);
    }
    if !m.is_multiple_of(4) || m > LARGEST_BASE {
        return None;
    }
    let (first, second) = (m as u32 - 1, m as u32 / 2 - 1);
    let is = |q: u32, remainder: u32, prime: bool| {
        q % 4 == remainder && prime_power(q).is_some_and(|(_, k)| (k == 1) == prime)
    };
    [true, false].into_iter().find_map(|prime| {
        let one = is(first, 3, prime).then_some(Construction::First(first));
        one.or_else(|| is(second, 1, prime).then_some(Construction::Second(second)))
    })
}

/// The smallest constructible `m` and the `2^k` with `n = m 2^k`.
fn factor(n: u64) -> Option<(Construction, u64, u64)> {
    if n == 0 {
        return None;
    }
    let odd = n >> n.trailing_zeros();
    let mut m = odd;
    while m <= n {
        if let Some(c) = construction(m) {
            return Some((c, m, n / m));
        }
        m *= 2;
    }
    None
}

/// Whether there is a matrix of this order.
pub fn exists(n: u64) -> bool {
    factor(n).is_some()
}

/// `S` bordered: a row of ones on top, `corner` down the side, the Jacobsthal matrix within.
fn bordered(q: u32, side: i8) -> Option<Vec<Vec<i8>>> {
    let inner = GaloisField::new(q)?.jacobsthal();
    let mut rows = Vec::with_capacity(inner.len() + 1);
    let mut top = vec![1; inner.len() + 1];
    top[0] = 0;
    rows.push(top);
    rows.extend(inner.into_iter().map(|row| core::iter::once(side).chain(row).collect()));
    Some(rows)
}

/// Paley's first: `I + S`, `S` skew.
fn first(q: u32) -> Option<Vec<i8>> {
    let mut rows = bordered(q, -1)?;
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += 1;
    }
    Some(rows.concat())
}

/// Paley's second: `S (x) [[1, 1], [1, -1]] + I (x) [[1, -1], [-1, -1]]`, `S` symmetric.
fn second(q: u32) -> Option<Vec<i8>> {
    let rows = bordered(q, 1)?;
    let mut entries = Vec::with_capacity(4 * rows.len() * rows.len());
    for (i, row) in rows.iter().enumerate() {
        for (of_s, of_i) in [([1, 1], [1, -1]), ([1, -1], [-1, -1])] {
            for (j, &s) in row.iter().enumerate() {
                let diagonal = i8::from(i == j);
                entries.extend([s * of_s[0] + diagonal * of_i[0], s * of_s[1] + diagonal * of_i[1]]);
            }
        }
    }
    Some(entries)
}

impl Hadamard {
    /// The matrix of order `n`; `None` where these constructions give none, or only a dense part beyond 2048.
    pub fn new(n: u64) -> Option<Hadamard> {
        let (construction, m, doubled) = factor(n)?;
        let entries = match construction {
            Construction::One => vec![1],
            Construction::First(q) => first(q)?,
            Construction::Second(q) => second(q)?,
        };
        Some(Hadamard { base: m as usize, entries, doubled: usize::try_from(doubled).ok()? })
    }

    /// Its order.
    pub fn order(&self) -> usize {
        self.base * self.doubled
    }

    /// The order of its dense part; 1 where it is Sylvester's alone.
    pub fn base(&self) -> usize {
        self.base
    }

    /// The order of its Sylvester part, a power of two.
    pub fn doubled(&self) -> usize {
        self.doubled
    }

    /// The entry of its dense part at a row and column, 1 or -1.
    pub fn dense_entry(&self, row: usize, col: usize) -> i8 {
        self.entries[row * self.base + col]
    }

    /// The entry at a row and column, 1 or -1.
    pub fn entry(&self, row: usize, col: usize) -> i8 {
        // Shifts, for oracles ask for every entry there is.
        let (bits, within) = (self.doubled.trailing_zeros(), self.doubled - 1);
        let (a, b) = (row >> bits, row & within);
        let (c, d) = (col >> bits, col & within);
        let sign = if (b & d).count_ones().is_multiple_of(2) { 1 } else { -1 };
        self.dense_entry(a, c) * sign
    }

    /// Replaces a vector by its product with the matrix, or with its transpose, times nothing.
    ///
    /// Element `i` of the vector is `x[i * width..][..width]`: `width` vectors side by side, each computed as if alone.
    #[inline(always)]
    pub fn apply<T: Float>(&self, x: &mut [T], width: usize, transposed: bool) {
        self.apply_from(x, width, width, transposed);
    }

    /// [`Hadamard::apply`] of one vector, where `near` does rounds in a way of its own: given the vector and the order of
    /// the Sylvester part, those of strides 1, 2, 4, ... below the power of two that it returns, at most that order.
    #[inline(always)]
    pub fn apply_after<T: Float>(
        &self,
        x: &mut [T],
        transposed: bool,
        near: impl Fn(&mut [T], usize) -> usize,
    ) {
        let stride = near(x, self.doubled);
        self.apply_from(x, 1, stride, transposed);
    }

    /// What is left once the rounds below `stride` are done.
    #[inline(always)]
    fn apply_from<T: Float>(&self, x: &mut [T], width: usize, stride: usize, transposed: bool) {
        let part = self.doubled * width;
        // First all rounds that stay in a stretch of the nearest cache: which stretch comes first is the same to a value.
        let mut stretch = stride.max(1);
        while stretch < part && stretch < NEAR {
            stretch *= 2;
        }
        for values in x.chunks_exact_mut(stretch) {
            rounds(values, stride, stretch);
        }
        rounds(x, stretch, part);
        if self.base > 1 {
            self.mix(x, part, transposed);
        }
    }

    /// The dense part: stretches of values at a time, so that the old values of a stretch stay in the nearest cache.
    #[inline(always)]
    fn mix<T: Float>(&self, x: &mut [T], part: usize, transposed: bool) {
        const STRETCH: usize = 32;
        let m = self.base;
        let mut old = vec![[T::ZERO; STRETCH]; m];
        for start in (0..part).step_by(STRETCH) {
            let len = STRETCH.min(part - start);
            for (a, old) in old.iter_mut().enumerate() {
                old[..len].copy_from_slice(&x[a * part + start..][..len]);
            }
            for row in 0..m {
                let sign = |col: usize| {
                    let at = if transposed { col * m + row } else { row * m + col };
                    T::sign(self.entries[at] < 0)
                };
                let mut sums = [T::ZERO; STRETCH];
                for (col, old) in old.iter().enumerate() {
                    let sign = sign(col);
                    for (sum, &value) in sums.iter_mut().zip(old) {
                        // The product with 1 or -1 is exact; the sum starts from the first one, so that -0 stays.
                        *sum = if col == 0 { sign * value } else { *sum + sign * value };
                    }
                }
                x[row * part + start..][..len].copy_from_slice(&sums[..len]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_up_to_512_that_has_one_is_orthogonal() {
        let mut missing = Vec::new();
        for n in 1..=512_u64 {
            let Some(h) = Hadamard::new(n) else {
                if n.is_multiple_of(4) {
                    missing.push(n);
                }
                continue;
            };
            let n = n as usize;
            assert_eq!(h.order(), n);
            let rows: Vec<Vec<i8>> = (0..n).map(|r| (0..n).map(|c| h.entry(r, c)).collect()).collect();
            for (i, a) in rows.iter().enumerate() {
                assert!(a.iter().all(|&e| e == 1 || e == -1));
                for (j, b) in rows[..=i].iter().enumerate() {
                    let dot: i32 = a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
                    assert_eq!(dot, if i == j { n as i32 } else { 0 }, "order {n}, rows {i} and {j}");
                }
            }
        }
        let unknown = [
            92, 116, 156, 172, 184, 188, 232, 236, 260, 268, 292, 324, 356, 372, 376, 404, 412, 428, 436,
            452, 472, 476, 508,
        ];
        assert_eq!(missing, unknown);
    }

    #[test]
    fn the_hidden_sizes_of_models_have_one() {
        let parts = [
            (576, 36),
            (640, 20),
            (896, 28),
            (960, 60),
            (1152, 36),
            (1536, 12),
            (2304, 36),
            (2560, 20),
            (2816, 44),
            (2880, 180),
            (3072, 12),
            (3584, 28),
            (3840, 60),
            (4096, 1),
            (4608, 36),
            (5120, 20),
            (5376, 84),
            (6144, 12),
            (7168, 28),
            (8192, 1),
        ];
        for (n, base) in parts {
            assert_eq!(Hadamard::new(n).map(|h| h.base()), Some(base), "{n}");
        }
    }

    #[test]
    fn applying_is_the_product_and_the_transpose_undoes_it() {
        for n in [1_usize, 2, 8, 12, 24, 28, 36, 52, 100, 244] {
            let h = Hadamard::new(n as u64).unwrap();
            let x: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 101) as f64 - 50.0).collect();
            let product: Vec<f64> =
                (0..n).map(|r| (0..n).map(|c| f64::from(h.entry(r, c)) * x[c]).sum()).collect();
            let mut y = x.clone();
            h.apply(&mut y, 1, false);
            assert_eq!(y, product, "{n}");
            h.apply(&mut y, 1, true);
            let back: Vec<f64> = y.iter().map(|v| v / n as f64).collect();
            assert_eq!(back, x, "{n}");
        }
    }
}
