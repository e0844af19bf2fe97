//! Products in binary32 by the kernels of an engine: one chain of multiply-adds for each result and 64 columns.

use super::matmul::{Compute, MatMul, Product, ProductTask};
use crate::kernels::attention::AttentionHeads;
use crate::kernels::{Kernels, PANEL, Panels, ProductSums};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Products in binary32 by the kernels of an engine.
#[derive(Clone, Copy)]
pub struct F32<'k>(pub &'k dyn Kernels);

impl fmt::Debug for F32<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("F32").field(&self.0.name()).finish()
    }
}

impl Compute for F32<'_> {
    fn attend(&self, heads: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        self.0.attend(heads, q, k, v)
    }
}

impl<'k> MatMul for F32<'k> {
    type Product = F32Product<'k>;

    fn product(&self, task: ProductTask) -> F32Product<'k> {
        let ProductTask { x, width, by_columns, made } = task;
        let panels = Panels::new(&x, width);
        let totals = vec![0.0; made.saturating_mul(panels.padded())];
        F32Product {
            kernels: self.0,
            panels,
            by_columns,
            made,
            totals,
            begun: Vec::new(),
            values: Vec::new(),
        }
    }
}

/// A product in binary32.
pub struct F32Product<'k> {
    kernels: &'k dyn Kernels,
    panels: Panels,
    by_columns: bool,
    /// Results of one vector.
    made: usize,
    /// `[made, padded vectors]`
    totals: Vec<f32>,
    /// Sums of blocks of columns that are not complete: `[rows, padded vectors]` of the rows that arrive.
    begun: Vec<f32>,
    values: Vec<f32>,
}

impl fmt::Debug for F32Product<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("F32Product").field("made", &self.made).field("vectors", &self.panels.count()).finish()
    }
}

fn floats(bytes: &[u8], values: &mut Vec<f32>) {
    values.clear();
    values.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
}

impl F32Product<'_> {
    /// A part with some of the columns of its rows, from `cols.start` on.
    fn add_rows(&mut self, rows: Range<usize>, cols: Range<usize>, values: &[f32]) {
        let padded = self.panels.padded();
        let (start, end) = (rows.start.saturating_mul(padded), rows.end.saturating_mul(padded));
        let Some(totals) = self.totals.get_mut(start..end) else { return };
        if cols.start == 0 {
            self.begun.clear();
        }
        self.begun.resize(totals.len(), 0.0);
        self.kernels.multiply(&self.panels, cols, values, ProductSums { totals, begun: &mut self.begun });
    }

    /// A part of a matrix stored `[in, out]`: its rows are columns of the product.
    fn add_inputs(&mut self, rows: Range<usize>, cols: Range<usize>, values: &[f32]) {
        let (height, width) = (rows.len(), cols.len());
        let mut transposed = vec![0.0; values.len()];
        for (row, values) in values.chunks_exact(width.max(1)).enumerate() {
            let places = transposed.iter_mut().skip(row).step_by(height.max(1));
            places.zip(values).for_each(|(to, value)| *to = *value);
        }
        let padded = self.panels.padded();
        self.begun.resize(self.totals.len(), 0.0);
        let range = cols.start.saturating_mul(padded)..cols.end.saturating_mul(padded);
        let (Some(totals), Some(begun)) = (self.totals.get_mut(range.clone()), self.begun.get_mut(range))
        else {
            return;
        };
        self.kernels.multiply(&self.panels, rows, &transposed, ProductSums { totals, begun });
    }
}

impl Product for F32Product<'_> {
    type Tile = Vec<f32>;

    fn add(&mut self, rows: Range<usize>, cols: Range<usize>, values: &[u8]) {
        let mut floats_of_part = core::mem::take(&mut self.values);
        floats(values, &mut floats_of_part);
        if self.by_columns {
            self.add_inputs(rows, cols, &floats_of_part);
        } else {
            self.add_rows(rows, cols, &floats_of_part);
        }
        self.values = floats_of_part;
    }

    fn tile(&self, values: &[u8]) -> Vec<f32> {
        let mut weights = Vec::with_capacity(values.len() / 4);
        floats(values, &mut weights);
        let width = self.panels.width();
        let rows = weights.len().checked_div(width).unwrap_or(0);
        let mut totals = vec![0.0; rows.saturating_mul(self.panels.padded())];
        let mut begun = vec![0.0; totals.len()];
        let sums = ProductSums { totals: &mut totals, begun: &mut begun };
        self.kernels.multiply(&self.panels, 0..width, &weights, sums);
        totals
    }

    fn put(&mut self, row: usize, tile: Vec<f32>) {
        let start = row.saturating_mul(self.panels.padded());
        if let Some(totals) = self.totals.get_mut(start..).and_then(|t| t.get_mut(..tile.len())) {
            totals.copy_from_slice(&tile);
        }
    }

    fn finish(self) -> Vec<f64> {
        let (count, padded) = (self.panels.count(), self.panels.padded());
        let mut out = vec![0.0; self.made.saturating_mul(count)];
        // Sixteen vectors at once, so that each line of the sums is read once.
        for first in (0..count).step_by(PANEL) {
            for (row, sums) in self.totals.chunks_exact(padded.max(1)).enumerate() {
                let vectors = sums.iter().skip(first).take(PANEL.min(count - first));
                for (vector, sum) in (first..).zip(vectors) {
                    if let Some(out) = out.get_mut(vector * self.made + row) {
                        *out = f64::from(*sum);
                    }
                }
            }
        }
        out
    }
}
