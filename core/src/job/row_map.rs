//! Reorders the rows of a window, as decoded values or as stored bytes. Knows no dtype.

use crate::plan::RowMap;
use alloc::vec::Vec;

/// Puts rows of `row_len` elements into the order of the output. `buffer` is overwritten.
pub(super) fn reorder<T: Copy>(map: RowMap, values: &mut Vec<T>, buffer: &mut Vec<T>, row_len: usize) {
    if let RowMap::SwapColumns { outer, inner, width } = map {
        buffer.clear();
        swap_columns(values, buffer, row_len, [outer, inner, width].map(|n| n as usize));
        core::mem::swap(values, buffer);
    } else if map != RowMap::Identity {
        buffer.clear();
        append(map, values, buffer, row_len);
        core::mem::swap(values, buffer);
    }
}

/// Appends rows whose columns `[outer, inner, width]` become `[inner, outer, width]`; rows of another length stay.
fn swap_columns<T: Copy>(values: &[T], out: &mut Vec<T>, row_len: usize, axes: [usize; 3]) {
    let [outer, inner, width] = axes;
    out.reserve(values.len());
    if row_len == 0 || outer.saturating_mul(inner).saturating_mul(width) != row_len {
        return out.extend_from_slice(values);
    }
    for row in values.chunks_exact(row_len) {
        for i in 0..inner {
            for o in 0..outer {
                let from = (o * inner + i) * width;
                out.extend_from_slice(row.get(from..from + width).unwrap_or_default());
            }
        }
    }
}

/// Fills `to`, `[rows, cols]`, with the transposed matrix `from`: `cols` rows, of which every `step`-th column counts.
pub(super) fn transpose<T: Copy>(from: &[T], to: &mut [T], (rows, cols): (usize, usize), step: usize) {
    const BLOCK: usize = 32;
    let stored = rows.saturating_sub(1) * step + 1;
    for first in (0..cols).step_by(BLOCK) {
        for r in 0..rows {
            let Some(row) = to.get_mut(r * cols..(r + 1) * cols) else { return };
            for (c, value) in row.iter_mut().enumerate().skip(first).take(BLOCK) {
                if let Some(v) = from.get(c * stored + r * step) {
                    *value = *v;
                }
            }
        }
    }
}

/// Appends rows of `row_len` elements to `out`, in the order of the output. Rows after the last whole head keep their order.
pub(super) fn append<T: Copy>(map: RowMap, values: &[T], out: &mut Vec<T>, row_len: usize) {
    out.reserve(values.len());
    let group = usize::try_from(map.group()).ok().and_then(|rows| rows.checked_mul(row_len));
    let Some(group) = group.filter(|_| map != RowMap::Identity && row_len > 0) else {
        return out.extend_from_slice(values);
    };
    let heads = values.chunks_exact(group);
    let rest = heads.remainder();
    for head in heads {
        for row in 0..group / row_len {
            let from = map.operand_row(row as u64) as usize * row_len;
            out.extend_from_slice(&head[from..from + row_len]);
        }
    }
    out.extend_from_slice(rest);
}
