//! Products in binary64, the reference: eight interleaved sums for each result.

use super::math::{LANES, accumulate, dot, total};
use super::matmul::{Compute, MatMul, Product, ProductTask};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Products in binary64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct F64;

impl Compute for F64 {}

impl MatMul for F64 {
    type Product = F64Product;

    fn product(&self, task: ProductTask) -> F64Product {
        let ProductTask { x, width, by_columns, made } = task;
        let count = x.len() / width.max(1);
        let out = vec![0.0; count.saturating_mul(made)];
        F64Product { x, width, by_columns, made, out, lanes: Vec::new(), wide: Vec::new() }
    }
}

/// The product of vectors with a matrix whose values arrive in parts, each used once.
///
/// The sums do not depend on the parts: those of one product are added in the order of its columns (or rows), whatever the
/// parts are.
#[derive(Clone, Debug, PartialEq)]
pub struct F64Product {
    /// Vectors of `width` values.
    x: Vec<f64>,
    width: usize,
    /// The matrix is stored `[in, out]`.
    by_columns: bool,
    /// Results for each vector.
    made: usize,
    out: Vec<f64>,
    /// Begun sums of rows whose columns arrive in several parts: for each row, one for each vector.
    lanes: Vec<[f64; LANES]>,
    wide: Vec<f64>,
}

impl F64Product {
    /// A part of the row that makes value `row` of the results; the `i`-th row of its part.
    fn add_output(&mut self, row: usize, i: usize, cols: &Range<usize>, weights: &[f64]) {
        let width = self.width.max(1);
        let count = self.x.len() / width;
        let whole = cols.len() == width;
        let mut begun = self.lanes.get_mut(i * count..(i + 1) * count).unwrap_or_default().iter_mut();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(self.made.max(1))) {
            let (Some(x), Some(out)) = (x.get(cols.clone()), out.get_mut(row)) else { return };
            if whole {
                *out = dot(x, weights);
            } else if let Some(lanes) = begun.next() {
                accumulate(lanes, x, weights, cols.start);
                *out = total(lanes);
            }
        }
    }

    /// A part of the row that value `row` of the vectors is multiplied with.
    fn add_input(&mut self, row: usize, cols: &Range<usize>, weights: &[f64]) {
        for (x, out) in
            self.x.chunks_exact(self.width.max(1)).zip(self.out.chunks_exact_mut(self.made.max(1)))
        {
            let (Some(&x), Some(out)) = (x.get(row), out.get_mut(cols.clone())) else { return };
            out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
        }
    }
}

impl Product for F64Product {
    type Tile = Vec<f64>;

    fn add(&mut self, rows: Range<usize>, cols: Range<usize>, values: &[u8]) {
        let mut wide = core::mem::take(&mut self.wide);
        let of_row = cols.len().saturating_mul(4).max(1);
        if !self.by_columns && cols.start == 0 && cols.end < self.width {
            self.lanes.clear();
            self.lanes.resize(rows.len().saturating_mul(self.x.len() / self.width.max(1)), [0.0; LANES]);
        }
        for (i, (row, values)) in rows.zip(values.chunks_exact(of_row)).enumerate() {
            wide.clear();
            wide.extend(values.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
            if self.by_columns {
                self.add_input(row, &cols, &wide);
            } else {
                self.add_output(row, i, &cols, &wide);
            }
        }
        self.wide = wide;
    }

    fn tile(&self, values: &[u8]) -> Vec<f64> {
        let width = self.width.max(1);
        let mut results = Vec::new();
        let mut wide = Vec::with_capacity(width);
        for values in values.chunks_exact(width.saturating_mul(4)) {
            wide.clear();
            wide.extend(values.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))));
            results.extend(self.x.chunks_exact(width).map(|x| dot(x, &wide)));
        }
        results
    }

    fn put(&mut self, row: usize, tile: Vec<f64>) {
        let count = (self.x.len() / self.width.max(1)).max(1);
        for (row, results) in (row..).zip(tile.chunks_exact(count)) {
            for (out, result) in self.out.chunks_exact_mut(self.made.max(1)).zip(results) {
                out.iter_mut().skip(row).take(1).for_each(|out| *out = *result);
            }
        }
    }

    fn finish(self) -> Vec<f64> {
        self.out
    }
}
