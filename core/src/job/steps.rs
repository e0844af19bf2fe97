//! What happens to decoded values before they are encoded: constants, gains, rotations.

use super::Window;
use crate::error::Result;
use crate::kernels::Kernels;
use crate::plan::{Along, Op, Turn};
use crate::quant::Refused;
use crate::rotate::{Form, Rotation};
use alloc::vec::Vec;

/// A step that needs nothing but the values; the others leave them as they are.
pub(super) fn plain(op: Op, values: &mut [f32]) {
    match op {
        Op::Add(c) => values.iter_mut().for_each(|v| *v += c),
        Op::Mean(n) if n > 0.0 => values.iter_mut().for_each(|v| *v /= n),
        Op::Mean(_) => values.fill(1.0),
        Op::Set(c) => values.fill(c),
        Op::Gain(_) | Op::Ungain(_) | Op::Rotate(_) => {}
    }
}

/// The gain of a window's vectors; empty where there is none.
#[derive(Clone, Copy)]
pub(super) struct Gain<'a>(pub(super) &'a [f32]);

/// Rotations that a worker has at hand.
#[derive(Debug, Default)]
pub(super) struct Rotations(Vec<(u64, Form, u64, Rotation)>);

/// The heads of a layer have one each, so that a layer's are made once.
const AT_HAND: usize = 256;

impl Rotations {
    pub(super) fn get(&mut self, turn: &Turn) -> Result<&Rotation> {
        let same = |(len, form, seed, _): &(u64, Form, u64, Rotation)| {
            (*len, *form, *seed) == (turn.len, turn.form, turn.seed)
        };
        let at = match self.0.iter().position(same) {
            Some(at) => at,
            None => {
                if self.0.len() >= AT_HAND {
                    self.0.clear();
                }
                let made = Rotation::new(turn.len, turn.form, turn.seed)?;
                self.0.push((turn.len, turn.form, turn.seed, made));
                self.0.len() - 1
            }
        };
        Ok(&self.0[at].3)
    }
}

/// The gain and the rotations of one tile.
pub(super) struct Steps<'a> {
    ops: &'a [Op],
    gain: &'a [f32],
    tile: &'a Window,
}

impl<'a> Steps<'a> {
    /// Of `ops`, whose rotations begin where the window begins, those within `tile`.
    pub(super) fn new(ops: &'a [Op], Gain(gain): Gain<'a>, tile: &'a Window) -> Steps<'a> {
        Steps { ops, gain, tile }
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Gain(_) | Op::Ungain(_) | Op::Rotate(_)))
    }

    pub(super) fn width(&self) -> usize {
        self.tile.width() as usize
    }

    pub(super) fn height(&self) -> usize {
        self.tile.height() as usize
    }

    /// One number spoils all that are rotated with it, so it is refused while it can be named.
    pub(super) fn check_finite(&self, values: &[f32]) -> Result<(), Refused> {
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(Refused::NonFinite { index }),
            None => Ok(()),
        }
    }

    /// The gains of the tile's vectors, and whether they divide.
    pub(super) fn gains(&self) -> impl Iterator<Item = (Along, &'a [f32], bool)> {
        let part = |along| match along {
            Along::Columns => self.gain.get(self.tile.cols.start as usize..self.tile.cols.end as usize),
            Along::Rows => self.gain.get(self.tile.rows.start as usize..self.tile.rows.end as usize),
        };
        self.ops.iter().filter_map(move |op| match op {
            Op::Gain(along) => Some((*along, part(*along)?, false)),
            Op::Ungain(along) => Some((*along, part(*along)?, true)),
            _ => None,
        })
    }

    /// The rotations along one side, from the tile's own beginning on.
    pub(super) fn turns(&self, side: Along) -> impl Iterator<Item = Turn> {
        let (from, len) = match side {
            Along::Columns => (self.tile.cols.start, self.tile.width()),
            Along::Rows => (self.tile.rows.start, self.tile.height()),
        };
        self.ops.iter().filter_map(move |op| match op {
            Op::Rotate(turn) if turn.along == side => {
                let at = turn.at.checked_sub(from).filter(|at| at + turn.len <= len)?;
                Some(Turn { at, ..*turn })
            }
            _ => None,
        })
    }

    /// Multiplies by the gains, then rotates: along the columns, then along the rows.
    pub(super) fn apply(
        &self,
        kernels: &dyn Kernels,
        rotations: &mut Rotations,
        values: &mut [f32],
    ) -> Result<()> {
        let width = self.width();
        for (along, gain, divides) in self.gains() {
            scale(values, width, along, gain, divides);
        }
        for turn in self.turns(Along::Columns) {
            kernels.rotate_rows(rotations.get(&turn)?, values, width, turn.at as usize);
        }
        for turn in self.turns(Along::Rows) {
            let (from, to) = (turn.at as usize * width, (turn.at + turn.len) as usize * width);
            if let Some(rows) = values.get_mut(from..to) {
                kernels.rotate_columns(rotations.get(&turn)?, rows, width);
            }
        }
        Ok(())
    }
}

fn scale(values: &mut [f32], width: usize, along: Along, gain: &[f32], divides: bool) {
    let each = |v: &mut f32, g: f32| if divides { *v /= g } else { *v *= g };
    for (r, row) in values.chunks_exact_mut(width.max(1)).enumerate() {
        match along {
            Along::Columns => row.iter_mut().zip(gain).for_each(|(v, &g)| each(v, g)),
            Along::Rows => row.iter_mut().for_each(|v| each(v, gain.get(r).map_or(1.0, |g| *g))),
        }
    }
}
