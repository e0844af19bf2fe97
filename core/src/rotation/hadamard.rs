//! Hadamard matrices of every order that Sylvester's and Paley's constructions reach. Constructed on request,
//! never stored.
//!
//! Rules version 1: `H_n = H_m (x) H_2^k`, where `n = m 2^k` and `m` is the smallest order for which `H_m`
//! can be constructed. Row and column `a 2^k + b` belong to row and column `a` of `H_m` and `b` of the
//! Sylvester part. `H_m` is Paley's first construction over a prime field if there is one, else his second
//! over a prime field, else the first and then the second over a field of prime-power order.
//!
//! A product takes `k` rounds of butterflies (fast Walsh-Hadamard transform) with strides 1, 2, 4, ..., then
//! the rows of `H_m` as sums in index order. Nothing here scales. Knows no signs, rotation sides or models.
//!
//! Source: R. E. A. C. Paley, "On Orthogonal Matrices" (1933).

use super::float_trait::Float;
use super::galois_field::{GaloisField, prime_power};
use alloc::vec;
use alloc::vec::Vec;

/// Largest `m`. The matrix takes a byte per entry, and a product `m` additions per value.
const LARGEST_BASE: u64 = 2048;

/// Construction of `H_m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Construction {
    /// `[1]`.
    One,
    /// Paley's first construction over GF(q): order `q + 1`, `q = 3` modulo 4.
    First(u32),
    /// Paley's second construction over GF(q): order `2 (q + 1)`, `q = 1` modulo 4.
    Second(u32),
}

/// Hadamard matrix `H_n` of order `n`, unnormalized: entries are 1 and -1.
#[derive(Clone, Debug, PartialEq)]
pub struct Hadamard {
    /// `m`, the order of the dense part.
    base: usize,
    /// Entries of `H_m`, row-major: 1 or -1.
    entries: Vec<i8>,
    /// `2^k`, the order of the Sylvester part.
    doubled: usize,
}

/// Values of a chunk whose rounds are done together: half of a 32 KiB L1 cache.
const L1_VALUES: usize = 4096;

/// Butterfly rounds of the strides from `stride` to below `end`.
///
/// Two rounds are done at a time if possible, so that each value is loaded half as often.
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

/// Construction of a base matrix of order `m`, by the preference of rules version 1.
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
        let by_first = is(first, 3, prime).then_some(Construction::First(first));
        by_first.or_else(|| is(second, 1, prime).then_some(Construction::Second(second)))
    })
}

/// Returns the construction of the smallest possible `m`, `m`, and the `2^k` with `n = m 2^k`.
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

/// True if a Hadamard matrix of order `n` can be constructed.
pub fn exists(n: u64) -> bool {
    factor(n).is_some()
}

/// The Jacobsthal matrix with a border: a row of ones on top, a column of `side` on the left, 0 in the
/// corner.
fn bordered(q: u32, side: i8) -> Option<Vec<Vec<i8>>> {
    let inner = GaloisField::new(q)?.jacobsthal();
    let mut rows = Vec::with_capacity(inner.len() + 1);
    let mut top = vec![1; inner.len() + 1];
    top[0] = 0;
    rows.push(top);
    rows.extend(inner.into_iter().map(|row| core::iter::once(side).chain(row).collect()));
    Some(rows)
}

/// Entries of Paley's first construction: `I + S`, with `S` the skew-symmetric bordered matrix.
fn first(q: u32) -> Option<Vec<i8>> {
    let mut rows = bordered(q, -1)?;
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += 1;
    }
    Some(rows.concat())
}

/// Entries of Paley's second construction: `S (x) [[1, 1], [1, -1]] + I (x) [[1, -1], [-1, -1]]`, with `S`
/// the symmetric bordered matrix.
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
    /// Constructs the matrix of order `n`.
    ///
    /// Returns `None` if the constructions do not reach the order, or only with a dense part larger than
    /// 2048.
    pub fn new(n: u64) -> Option<Hadamard> {
        let (construction, m, doubled) = factor(n)?;
        let entries = match construction {
            Construction::One => vec![1],
            Construction::First(q) => first(q)?,
            Construction::Second(q) => second(q)?,
        };
        Some(Hadamard { base: m as usize, entries, doubled: usize::try_from(doubled).ok()? })
    }

    /// Order of the matrix.
    pub fn order(&self) -> usize {
        self.base * self.doubled
    }

    /// Order of the dense part `H_m`; 1 for a pure Sylvester matrix.
    pub fn base(&self) -> usize {
        self.base
    }

    /// Order of the Sylvester part, a power of two.
    pub fn doubled(&self) -> usize {
        self.doubled
    }

    /// Entry of the dense part, 1 or -1.
    pub fn dense_entry(&self, row: usize, col: usize) -> i8 {
        self.entries[row * self.base + col]
    }

    /// Entry of the matrix, 1 or -1.
    pub fn entry(&self, row: usize, col: usize) -> i8 {
        // Shifts instead of divisions, because reference computations read every entry.
        let (bits, within) = (self.doubled.trailing_zeros(), self.doubled - 1);
        let (a, b) = (row >> bits, row & within);
        let (c, d) = (col >> bits, col & within);
        let sign = if (b & d).count_ones().is_multiple_of(2) { 1 } else { -1 };
        self.dense_entry(a, c) * sign
    }

    /// Replaces a vector by its product with the matrix, or with its transpose, without scaling.
    ///
    /// `x` is `[order, width]`, row-major: `width` vectors, of which element `i` is in `x[i *
    /// width..][..width]`. Each is computed as if it were alone.
    #[inline(always)]
    pub fn apply<T: Float>(&self, x: &mut [T], width: usize, transposed: bool) {
        self.apply_from(x, width, width, transposed);
    }

    /// [`Hadamard::apply`] of one vector of `order` values, with the first butterfly rounds done by `near`.
    ///
    /// `near(x, doubled)` does the rounds of strides 1, 2, 4, ... below a power of two of its choice, at most
    /// `doubled`, and returns that power. The engines use it for rounds within a vector register. It is taken by
    /// reference: where a reference stands for the closure's type, its call is not inlined, and loses the caller's instructions.
    #[inline(always)]
    pub fn apply_after<T: Float>(
        &self,
        x: &mut [T],
        transposed: bool,
        near: &impl Fn(&mut [T], usize) -> usize,
    ) {
        let stride = near(x, self.doubled);
        self.apply_from(x, 1, stride, transposed);
    }

    /// Does the butterfly rounds from `stride` on, then the dense part.
    #[inline(always)]
    fn apply_from<T: Float>(&self, x: &mut [T], width: usize, stride: usize, transposed: bool) {
        let part = self.doubled * width;
        // All rounds that fit the L1 cache come first, chunk by chunk; the order of chunks does not change
        // any value.
        let mut chunk = stride.max(1);
        while chunk < part && chunk < L1_VALUES {
            chunk *= 2;
        }
        for values in x.chunks_exact_mut(chunk) {
            rounds(values, stride, chunk);
        }
        rounds(x, chunk, part);
        if self.base > 1 {
            self.multiply_dense(x, part, transposed);
        }
    }

    /// Multiplies by the dense part, in chunks of columns whose old values stay in the L1 cache.
    #[inline(always)]
    fn multiply_dense<T: Float>(&self, x: &mut [T], part: usize, transposed: bool) {
        const CHUNK: usize = 32;
        let m = self.base;
        let mut old = vec![[T::ZERO; CHUNK]; m];
        for start in (0..part).step_by(CHUNK) {
            let len = CHUNK.min(part - start);
            for (a, old) in old.iter_mut().enumerate() {
                old[..len].copy_from_slice(&x[a * part + start..][..len]);
            }
            for row in 0..m {
                let sign = |col: usize| {
                    let at = if transposed { col * m + row } else { row * m + col };
                    T::sign(self.entries[at] < 0)
                };
                let mut sums = [T::ZERO; CHUNK];
                for (col, old) in old.iter().enumerate() {
                    let sign = sign(col);
                    for (sum, &value) in sums.iter_mut().zip(old) {
                        // The product with 1 or -1 is exact. The sum starts with the first product instead of
                        // 0, so that -0 is kept.
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
