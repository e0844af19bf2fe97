//! A tensor that arrives in parts, and what becomes of it.

use super::RowRequest;
use super::matmul::Product;
use alloc::vec::Vec;
use core::ops::Range;

/// The tensor that arrives.
#[derive(Debug)]
pub(super) struct Arrival<P> {
    pub request: RowRequest,
    pub cols: u64,
    /// The row and the column that come next, relative to the request.
    pub row: u64,
    pub col: u64,
    pub target: ArrivalTarget<P>,
}

#[derive(Debug)]
pub(super) enum ArrivalTarget<P> {
    /// All values are kept.
    Tensor(Vec<f32>),
    Product {
        product: P,
        /// The matrix is stored `[in, out]`.
        by_columns: bool,
    },
}

impl<P: Product> Arrival<P> {
    pub(super) fn is_product(&self) -> bool {
        matches!(self.target, ArrivalTarget::Product { .. })
    }

    pub(super) fn height(&self) -> u64 {
        self.request.rows.end - self.request.rows.start
    }

    /// Takes a part; whether the tensor is complete then. `None` if it is not the part that comes next.
    pub(super) fn take(&mut self, rows: Range<u64>, cols: Range<u64>, values: &[u8]) -> Option<bool> {
        let (height, width) = (rows.end.checked_sub(rows.start)?, cols.end.checked_sub(cols.start)?);
        let inside = rows.end <= self.height() && cols.end <= self.cols && height > 0 && width > 0;
        let bytes = height.checked_mul(width)?.checked_mul(4)?;
        if !inside || rows.start != self.row || cols.start != self.col || bytes != values.len() as u64 {
            return None;
        }
        let last = cols.end == self.cols;
        (self.row, self.col) = if last { (rows.end, 0) } else { (rows.start, cols.end) };
        let index = |r: Range<u64>| Some(usize::try_from(r.start).ok()?..usize::try_from(r.end).ok()?);
        let (rows, cols) = (index(rows)?, index(cols)?);
        match &mut self.target {
            ArrivalTarget::Product { product, .. } => product.add(rows, cols, values),
            ArrivalTarget::Tensor(all) => {
                let wide = usize::try_from(self.cols).ok()?;
                all.resize(rows.end.checked_mul(wide)?, 0.0);
                let parts = values.chunks_exact(cols.len().checked_mul(4)?);
                for (row, part) in all.chunks_exact_mut(wide).skip(rows.start).zip(parts) {
                    let floats = part.as_chunks::<4>().0;
                    let row = row.get_mut(cols.clone())?;
                    row.iter_mut().zip(floats).for_each(|(to, b)| *to = f32::from_le_bytes(*b));
                }
            }
        }
        Some(self.row == self.height())
    }

    /// Takes the results of whole rows; whether the product is complete then. `None` if they are not the rows that come next.
    pub(super) fn put(&mut self, rows: Range<u64>, tile: P::Tile) -> Option<bool> {
        let ArrivalTarget::Product { product, by_columns: false } = &mut self.target else { return None };
        let next = rows.start == self.row && self.col == 0 && rows.start < rows.end;
        if !next || rows.end > self.request.rows.end - self.request.rows.start {
            return None;
        }
        product.put(usize::try_from(rows.start).ok()?, tile);
        self.row = rows.end;
        Some(self.row == self.request.rows.end - self.request.rows.start)
    }
}
