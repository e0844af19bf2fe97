//! Reorders the rows of a window, as decoded values or as stored bytes. Knows no dtype.

use crate::plan::RowMap;
use alloc::vec::Vec;

/// Puts rows of `row_len` elements into the order of the output. `buffer` is overwritten.
pub(super) fn reorder<T: Copy>(map: RowMap, values: &mut Vec<T>, buffer: &mut Vec<T>, row_len: usize) {
    if map != RowMap::Identity {
        buffer.clear();
        append(map, values, buffer, row_len);
        core::mem::swap(values, buffer);
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
