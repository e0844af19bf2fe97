//! Finite fields of odd order, and the Jacobsthal matrices of Paley's constructions. Knows no Hadamard
//! matrix.
//!
//! Elements of GF(p^k) are numbered `c_0 + c_1 p + ...`, where `c_i` is the coefficient of `x^i`. The modulus
//! is the irreducible monic polynomial of degree `k` whose lower coefficients, numbered in the same way, make
//! the smallest number. Another modulus would give another (equivalent) Hadamard matrix, so this choice is
//! part of rules version 1.

use alloc::vec;
use alloc::vec::Vec;

/// Finite field GF(p^k) of odd order.
#[derive(Clone, Debug)]
pub(super) struct GaloisField {
    /// Characteristic, an odd prime.
    p: u32,
    /// Degree over the prime field.
    k: u32,
    /// Coefficients of the modulus, without the leading 1.
    modulus: Vec<u32>,
}

/// Returns `(p, k)` if `q = p^k` for a prime `p`.
pub(super) fn prime_power(q: u32) -> Option<(u32, u32)> {
    if q < 2 {
        return None;
    }
    let p = (2..).take_while(|&d| d * d <= q).find(|&d| q.is_multiple_of(d)).unwrap_or(q);
    let (mut rest, mut k) = (q, 0);
    while rest.is_multiple_of(p) {
        rest /= p;
        k += 1;
    }
    (rest == 1).then_some((p, k))
}

/// The `count` lowest digits of a number in base `p`, lowest first: the coefficients of an element.
fn digits(mut number: u32, p: u32, count: u32) -> Vec<u32> {
    let mut all = Vec::with_capacity(count as usize);
    for _ in 0..count {
        all.push(number % p);
        number /= p;
    }
    all
}

/// The number with these digits in base `p`.
fn number(digits: &[u32], p: u32) -> u32 {
    digits.iter().rev().fold(0, |n, &d| n * p + d)
}

/// Reduces `dividend` modulo the monic polynomial with lower coefficients `modulus`; the remainder is in the
/// first entries.
fn reduce(dividend: &mut [u32], modulus: &[u32], p: u32) {
    let k = modulus.len();
    for top in (k..dividend.len()).rev() {
        let lead = core::mem::take(&mut dividend[top]);
        for (c, &m) in dividend[top - k..top].iter_mut().zip(modulus) {
            *c = (*c + (p - m % p) % p * lead) % p;
        }
    }
}

/// True if the monic polynomial has no monic divisor of lower degree, by trial division.
fn irreducible(lower: &[u32], p: u32) -> bool {
    let k = lower.len() as u32;
    (1..=k / 2).all(|degree| {
        (0..p.pow(degree)).all(|n| {
            let mut rest: Vec<u32> = lower.iter().copied().chain([1]).collect();
            reduce(&mut rest, &digits(n, p, degree), p);
            rest.iter().any(|&c| c != 0)
        })
    })
}

impl GaloisField {
    /// Constructs the field of `q` elements; `None` unless `q` is an odd prime power.
    pub(super) fn new(q: u32) -> Option<GaloisField> {
        let (p, k) = prime_power(q)?;
        if p == 2 {
            return None;
        }
        let modulus = (0..q).map(|n| digits(n, p, k)).find(|m| k == 1 || irreducible(m, p))?;
        Some(GaloisField { p, k, modulus })
    }

    /// Square of an element.
    fn square(&self, element: u32) -> u32 {
        let (p, k) = (self.p, self.k);
        if k == 1 {
            return (u64::from(element) * u64::from(element) % u64::from(p)) as u32;
        }
        let a = digits(element, p, k);
        let mut product = vec![0; 2 * k as usize - 1];
        for (i, &x) in a.iter().enumerate() {
            for (j, &y) in a.iter().enumerate() {
                product[i + j] = (product[i + j] + x * y) % p;
            }
        }
        reduce(&mut product, &self.modulus, p);
        number(&product[..k as usize], p)
    }

    /// Difference of two elements.
    fn minus(&self, a: u32, b: u32) -> u32 {
        let (p, k) = (self.p, self.k);
        let difference: Vec<u32> =
            digits(a, p, k).iter().zip(digits(b, p, k)).map(|(x, y)| (x + p - y) % p).collect();
        number(&difference, p)
    }

    /// The Jacobsthal matrix `[q, q]`: at `(i, j)` 1 if `i - j` is a non-zero square, -1 if it is not a
    /// square, 0 on the diagonal.
    pub(super) fn jacobsthal(&self) -> Vec<Vec<i8>> {
        let q = self.p.pow(self.k);
        let mut character = vec![-1_i8; q as usize];
        character[0] = 0;
        for element in 1..q {
            character[self.square(element) as usize] = 1;
        }
        let at = |i, j| character[self.minus(i, j) as usize];
        (0..q).map(|i| (0..q).map(|j| at(i, j)).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prime_powers() {
        let found: Vec<u32> = (0..50).filter(|&q| prime_power(q).is_some()).collect();
        let expected = [2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 19, 23, 25, 27, 29, 31, 32, 37, 41, 43, 47, 49];
        assert_eq!(found, expected);
        assert_eq!(prime_power(343), Some((7, 3)));
    }

    #[test]
    fn half_of_a_field_are_squares() {
        for q in [3, 5, 9, 25, 27, 49, 81, 121, 125, 243, 343] {
            let rows = GaloisField::new(q).unwrap().jacobsthal();
            let squares = rows[0].iter().filter(|&&c| c == 1).count() as u32;
            assert_eq!(squares, (q - 1) / 2, "{q}");
            // -1 is a square exactly where q is 1 modulo 4.
            let symmetric = (0..q as usize).all(|i| (0..q as usize).all(|j| rows[i][j] == rows[j][i]));
            assert_eq!(symmetric, q % 4 == 1, "{q}");
        }
    }
}
