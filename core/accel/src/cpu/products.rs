//! Products of panels of vectors with rows of a matrix. A lane is a vector, so each result is one chain of multiply-adds in the
//! order of the reference: results depend only on whether the level's multiply-add is fused.

use super::{SimdLevel, level_of};
use fearless_simd::{Simd, f32x16, prelude::*};
use quantoscope_core::kernels::{BLOCK, PANEL, Panels, ProductSums, block_parts};
use std::ops::Range;

/// Rows and sums of a part of the columns.
struct ColumnPart<'a> {
    /// Weights of all columns of the call, `[rows, stride]`.
    weights: &'a [f32],
    stride: usize,
    /// The columns of the part, relative to those of the call.
    cols: Range<usize>,
    /// Vectors with those that fill the last panel: the distance of two rows of sums.
    padded: usize,
    /// Whether a block of columns starts or ends with the part.
    starts: bool,
    ends: bool,
}

/// Same order of sums as the reference: see `Kernels::multiply`.
#[inline(always)]
pub(super) fn multiply<S: Simd>(
    simd: S,
    x: &Panels,
    cols: Range<usize>,
    weights: &[f32],
    sums: ProductSums<'_>,
) {
    let (stride, padded) = (cols.len().max(1), x.padded());
    let rows = weights.len() / stride;
    if sums.totals.len() < rows * padded || sums.begun.len() < rows * padded {
        return;
    }
    let ProductSums { totals, begun } = sums;
    for (columns, ends) in block_parts(cols.clone(), x.width()) {
        let part = ColumnPart {
            weights,
            stride,
            cols: columns.start - cols.start..columns.end - cols.start,
            padded,
            starts: columns.start.is_multiple_of(BLOCK),
            ends,
        };
        for (index, panel) in x.blocks(columns).enumerate() {
            let at = index * PANEL;
            match level_of(simd) {
                SimdLevel::Simd128 | SimdLevel::Scalar => {
                    all_rows::<S, 2>(simd, &part, panel, at, rows, totals, begun);
                }
                _ => all_rows::<S, 6>(simd, &part, panel, at, rows, totals, begun),
            }
        }
    }
}

/// All rows with one panel, `ROWS` at once.
#[inline(always)]
fn all_rows<S: Simd, const ROWS: usize>(
    simd: S,
    part: &ColumnPart<'_>,
    panel: &[[f32; PANEL]],
    at: usize,
    rows: usize,
    totals: &mut [f32],
    begun: &mut [f32],
) {
    let mut row = 0;
    while row + ROWS <= rows {
        some_rows::<S, ROWS>(simd, part, panel, at, row, totals, begun);
        row += ROWS;
    }
    while row + 4 <= rows {
        some_rows::<S, 4>(simd, part, panel, at, row, totals, begun);
        row += 4;
    }
    while row < rows {
        some_rows::<S, 1>(simd, part, panel, at, row, totals, begun);
        row += 1;
    }
}

#[inline(always)]
fn some_rows<S: Simd, const ROWS: usize>(
    simd: S,
    part: &ColumnPart<'_>,
    panel: &[[f32; PANEL]],
    at: usize,
    first: usize,
    totals: &mut [f32],
    begun: &mut [f32],
) {
    let place = |row: usize| {
        let start = (first + row) * part.padded + at;
        start..start + PANEL
    };
    let width = part.cols.len();
    let rows: [&[f32]; ROWS] = core::array::from_fn(|row| {
        let start = (first + row) * part.stride + part.cols.start;
        &part.weights[start..start + width]
    });
    let mut sums: [f32x16<S>; ROWS] = core::array::from_fn(|row| match part.starts {
        true => f32x16::splat(simd, 0.0),
        false => f32x16::from_slice(simd, &begun[place(row)]),
    });
    let panel = &panel[..width];
    for (k, values) in panel.iter().enumerate() {
        let values = f32x16::load_array_ref(simd, values);
        for row in 0..ROWS {
            sums[row] = f32x16::splat(simd, rows[row][k]).mul_add(values, sums[row]);
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        if part.ends {
            let totals = &mut totals[place(row)];
            let total = f32x16::from_slice(simd, totals) + sum;
            total.store_slice(totals);
        } else {
            sum.store_slice(&mut begun[place(row)]);
        }
    }
}
