//! Rotations as dense matrix products in binary64: the reference for the fast ones.

use super::{Form, Rotation};
use alloc::vec::Vec;

impl Rotation {
    /// Returns `R^T x`, computed from the entries of the matrix.
    ///
    /// Shares only the entries and signs with [`Rotation::rows`]; takes `O(len^2)` operations.
    pub fn dense_transposed(&self, x: &[f64]) -> Vec<f64> {
        let order = self.hadamard.order();
        let sign = |i: usize| if self.signs[i] { -1.0 } else { 1.0 };
        let scale = 1.0 / libm::sqrt(order as f64);
        if self.form == Form::FixesOnes {
            // H^T D H is symmetric. The columns of H are negated so that its first row is all ones.
            let mut product = self.dense(x, false);
            product.iter_mut().enumerate().for_each(|(i, v)| *v *= scale * sign(i));
            product = self.dense(&product, true);
            product.iter_mut().for_each(|v| *v *= scale);
            return product;
        }
        let mut out = Vec::with_capacity(x.len());
        for block in x.chunks_exact(order) {
            out.extend(self.dense(block, true));
        }
        out.iter_mut().enumerate().for_each(|(i, v)| *v *= scale * sign(i));
        out
    }

    /// `H x` or `H^T x` of one block, with negated columns for [`Form::FixesOnes`].
    fn dense(&self, x: &[f64], transposed: bool) -> Vec<f64> {
        let flipped = |col: usize| self.normalised.get(col).is_some_and(|&n| n);
        let entry = |row: usize, col: usize| {
            let entry = f64::from(self.hadamard.entry(row, col));
            if flipped(col) { -entry } else { entry }
        };
        let at = |row: usize, col: usize| if transposed { entry(col, row) } else { entry(row, col) };
        (0..x.len()).map(|row| x.iter().enumerate().map(|(col, v)| at(row, col) * v).sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dense_product_is_the_inverse_of_the_fast_one() {
        for (len, form) in [
            (64, Form::Full),
            (36, Form::Full),
            (96, Form::Block(24)),
            (36, Form::FixesOnes),
            (28, Form::FixesOnes),
        ] {
            let rotation = Rotation::new(len, form, 7).unwrap();
            let x: Vec<f64> = (0..len).map(|i| ((i * 31 + 5) % 17) as f64 - 8.0).collect();
            let mut back = x.clone();
            rotation.rows_back(&mut back);
            let dense = rotation.dense_transposed(&x);
            let off = back.iter().zip(&dense).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-12, "{len} {form:?}: {off}");
        }
    }
}
