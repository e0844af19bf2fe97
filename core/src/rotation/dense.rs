//! The same rotations as dense products in binary64: what the fast ones are held against.

use super::{Form, Rotation};
use alloc::vec::Vec;

impl Rotation {
    /// `R^T x`, entry by entry of the matrix.
    ///
    /// Shares nothing with [`Rotation::rows`] but the entries and the signs.
    pub fn dense_transposed(&self, x: &[f64]) -> Vec<f64> {
        let order = self.hadamard.order();
        let sign = |i: usize| if self.signs[i] { -1.0 } else { 1.0 };
        let scale = 1.0 / libm::sqrt(order as f64);
        if self.form == Form::FixesOnes {
            // H^T D H is its own transpose; the columns of H are those with the first row all ones.
            let mut turned = self.dense(x, false);
            turned.iter_mut().enumerate().for_each(|(i, v)| *v *= scale * sign(i));
            turned = self.dense(&turned, true);
            turned.iter_mut().for_each(|v| *v *= scale);
            return turned;
        }
        let mut out = Vec::with_capacity(x.len());
        for block in x.chunks_exact(order) {
            out.extend(self.dense(block, true));
        }
        out.iter_mut().enumerate().for_each(|(i, v)| *v *= scale * sign(i));
        out
    }

    /// `H x` or `H^T x` of one block, `H` with its first row all ones where the form asks for that.
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
