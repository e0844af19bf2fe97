//! The stored bytes of a tile in the buffer of its window: in place, or gathered and scattered where its rows lie apart.

use super::Window;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use alloc::vec::Vec;
use core::ops::Range;

/// The byte range of a tile in a buffer that holds the window row by row; `None` if it is not whole blocks.
pub(super) fn tile_span(dtype: DType, width: u64, tile: &Window) -> Option<Range<usize>> {
    let start = if tile.width() == width {
        dtype.bytes_for(tile.rows.start.checked_mul(width)?)?
    } else {
        let row = dtype.bytes_for(width)?.checked_mul(tile.rows.start)?;
        row.checked_add(dtype.bytes_for(tile.cols.start)?)?
    };
    let len = dtype.bytes_for(tile.height().checked_mul(tile.width())?)?;
    Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?)
}

/// Whether the rows of a tile lie apart in a buffer that holds rows of `width` elements.
pub(super) fn lies_apart(tile: &Window, width: u64) -> bool {
    tile.height() > 1 && tile.width() < width
}

pub(super) fn misfit() -> Error {
    Error::new(Code::Overflow, "a tile does not fall on block borders")
}

/// The bytes of a tile in a buffer that holds rows of `width` elements: in place, or gathered in `room`.
pub(super) fn slice_of<'a>(
    dtype: DType,
    width: u64,
    tile: &Window,
    buffer: &'a [u8],
    room: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    if !lies_apart(tile, width) {
        return tile_span(dtype, width, tile).and_then(|s| buffer.get(s)).ok_or_else(misfit);
    }
    room.clear();
    for row in rows_of(tile) {
        let span = tile_span(dtype, width, &row).ok_or_else(misfit)?;
        room.extend_from_slice(buffer.get(span).ok_or_else(misfit)?);
    }
    Ok(room)
}

/// Copies a tile's bytes back to their places in a buffer that holds rows of `width` elements.
pub(super) fn scatter(
    dtype: DType,
    width: u64,
    tile: &Window,
    bytes: &[u8],
    buffer: &mut [u8],
) -> Result<()> {
    let mut rest = bytes;
    for row in rows_of(tile) {
        let span = tile_span(dtype, width, &row).ok_or_else(misfit)?;
        let (part, tail) = rest.split_at_checked(span.len()).ok_or_else(misfit)?;
        buffer.get_mut(span).ok_or_else(misfit)?.copy_from_slice(part);
        rest = tail;
    }
    Ok(())
}

/// Each row of a tile, as a tile.
fn rows_of(tile: &Window) -> impl Iterator<Item = Window> + use<'_> {
    tile.rows.clone().map(|row| Window { rows: row..row + 1, cols: tile.cols.clone() })
}
