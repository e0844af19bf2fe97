//! The grid on which the rotated axes of a tensor are the two sides.

use super::refuse;
use crate::error::{Code, Error, Result};
use crate::plan::{Axis, Grid};
use alloc::format;
use alloc::vec::Vec;

/// A tensor as a grid.
pub(super) struct GridLayout {
    pub(super) grid: Grid,
    /// The axis that runs along the rows, if a rotated one does.
    rows: Option<usize>,
    /// Rows of one run of that axis.
    pub(super) height: u64,
}

impl GridLayout {
    /// The grid of a tensor of shape `axes` whose axes `rotated` are rotated.
    ///
    /// # Errors
    ///
    /// `unsupported_rotation` if the rotated axes cannot be the two sides of one grid.
    pub(super) fn of(axes: &[u64], rotated: impl Iterator<Item = usize>) -> Result<GridLayout> {
        let last = axes.len().saturating_sub(1);
        let across: Vec<usize> = rotated.filter(|axis| *axis < last).collect();
        let Some(&rows) = across.first() else {
            let grid = Grid {
                rows: product(axes.get(..last).unwrap_or_default())?,
                cols: product(axes.get(last..).unwrap_or_default())?,
            };
            return Ok(GridLayout { grid, rows: None, height: grid.rows });
        };
        if across.iter().any(|a| *a != rows) || (rows + 1 != last && across.len() > 1) {
            return Err(refuse(format!("rotations along two axes of {axes:?} that are not the last")));
        }
        let (above, below) =
            (axes.get(..=rows).unwrap_or_default(), axes.get(rows + 1..).unwrap_or_default());
        let grid = Grid { rows: product(above)?, cols: product(below)? };
        Ok(GridLayout { grid, rows: Some(rows), height: axes.get(rows).copied().unwrap_or(1) })
    }

    /// The side of the grid along which `axis` lies.
    pub(super) fn side(&self, axis: usize) -> Axis {
        if self.rows == Some(axis) { Axis::Out } else { Axis::In }
    }
}

fn product(axes: &[u64]) -> Result<u64> {
    let all = axes.iter().try_fold(1_u64, |n, a| n.checked_mul(*a));
    all.ok_or_else(|| Error::new(Code::Overflow, "its shape does not fit 64 bits"))
}
