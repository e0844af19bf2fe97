//! Vectors in panels, and their products with rows of a matrix in binary32: the reference of [`super::Kernels::multiply`].

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Vectors of a panel.
pub const PANEL: usize = 16;

/// Columns whose products are added in one chain. Sums of several blocks are added in order.
pub const BLOCK: usize = 64;

/// Vectors in binary32, in panels of [`PANEL`] vectors: for each column, the values of all vectors of a panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    width: usize,
    count: usize,
    /// `[panels, width, PANEL]`; vectors that are missing in the last panel are zeros.
    values: Vec<[f32; PANEL]>,
}

impl Panels {
    /// Rounds vectors of `width` values.
    pub fn new(x: &[f64], width: usize) -> Panels {
        let width = width.max(1);
        let count = x.len() / width;
        let mut values = vec![[0.0; PANEL]; count.div_ceil(PANEL).saturating_mul(width)];
        for (vectors, panel) in x.chunks(PANEL * width).zip(values.chunks_exact_mut(width)) {
            for (lane, vector) in vectors.chunks_exact(width).enumerate() {
                for (to, value) in panel.iter_mut().zip(vector) {
                    to.iter_mut().skip(lane).take(1).for_each(|to| *to = *value as f32);
                }
            }
        }
        Panels { width, count, values }
    }

    /// Values of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Vectors.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Vectors, with those that fill the last panel.
    pub fn padded(&self) -> usize {
        self.count.next_multiple_of(PANEL)
    }

    /// The columns `cols` of each panel.
    pub fn blocks(&self, cols: Range<usize>) -> impl Iterator<Item = &[[f32; PANEL]]> {
        self.values.chunks_exact(self.width).map(move |p| p.get(cols.clone()).unwrap_or_default())
    }
}

/// Sums of products: for each row of a matrix, one for each vector, with those that fill the last panel.
#[derive(Debug)]
pub struct ProductSums<'a> {
    /// Sums of complete blocks of columns.
    pub totals: &'a mut [f32],
    /// Sums of the block that is not complete; of the same length.
    pub begun: &'a mut [f32],
}

/// Parts of `cols` that lie in one block each, and whether the block ends with the part.
pub fn block_parts(cols: Range<usize>, width: usize) -> impl Iterator<Item = (Range<usize>, bool)> {
    let mut start = cols.start;
    core::iter::from_fn(move || {
        if start >= cols.end {
            return None;
        }
        let block = (start / BLOCK).saturating_add(1).saturating_mul(BLOCK).min(width.max(start + 1));
        let part = start..block.min(cols.end);
        start = part.end;
        Some((part.clone(), part.end == block))
    })
}

/// Multiplies with `fused` multiply-adds, or rounds every product: see [`super::Kernels::multiply`].
pub(super) fn multiply(
    x: &Panels,
    cols: Range<usize>,
    weights: &[f32],
    sums: ProductSums<'_>,
    add: impl Fn(f32, f32, f32) -> f32,
) {
    let padded = x.padded().max(1);
    let ProductSums { totals: all_totals, begun: all_begun } = sums;
    for (part, ends) in block_parts(cols.clone(), x.width()) {
        let rows = weights.chunks_exact(cols.len().max(1));
        let begun = all_begun.chunks_exact_mut(padded);
        for ((row, begun), totals) in rows.zip(begun).zip(all_totals.chunks_exact_mut(padded)) {
            let Some(row) = row.get(part.start - cols.start..part.end - cols.start) else { return };
            if part.start.is_multiple_of(BLOCK) {
                begun.fill(0.0);
            }
            for (panel, begun) in x.blocks(part.clone()).zip(begun.as_chunks_mut::<PANEL>().0) {
                for (weight, values) in row.iter().zip(panel) {
                    begun.iter_mut().zip(values).for_each(|(sum, x)| *sum = add(*weight, *x, *sum));
                }
            }
            if ends {
                totals.iter_mut().zip(begun).for_each(|(total, begun)| *total += *begun);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_parts_cover_the_columns_once() {
        let parts: Vec<_> = block_parts(10..150, 150).collect();
        assert_eq!(parts, [(10..64, true), (64..128, true), (128..150, true)]);
        let parts: Vec<_> = block_parts(0..100, 150).collect();
        assert_eq!(parts, [(0..64, true), (64..100, false)]);
        assert_eq!(block_parts(5..5, 150).count(), 0);
    }
}
