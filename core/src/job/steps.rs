//! The steps on decoded values before encoding: constants, norm gains, rotations.

use super::Window;
use crate::error::Result;
use crate::float::{f16_to_f32, f32_to_f16};
use crate::kernels::Kernels;
use crate::plan::{Axis, Op, RotationOp};
use crate::rotation::{Float, Form, Rotation};
use alloc::vec::Vec;

/// Applies a step on single values; gains and rotations do nothing here.
pub(super) fn plain(op: Op, values: &mut [f32]) {
    match op {
        Op::Add(c) => values.iter_mut().for_each(|v| *v += c),
        Op::Mean(n) if n > 0.0 => values.iter_mut().for_each(|v| *v /= n),
        Op::Mean(_) => values.fill(1.0),
        Op::Scale(c) => values.iter_mut().for_each(|v| *v *= c),
        Op::Set(c) => values.fill(c),
        Op::LogNeg => values.iter_mut().for_each(|v| *v = libm::log(f64::from(-*v)) as f32),
        Op::NegExp => values.iter_mut().for_each(|v| *v = -(libm::exp(f64::from(*v)) as f32)),
        Op::RoundF16 => values.iter_mut().for_each(|v| *v = f16_to_f32(f32_to_f16(*v))),
        Op::TensorScale | Op::Widen | Op::Gain(_) | Op::Ungain(_) | Op::Rotate(_) => {}
    }
}

/// The norm gain of a window's vectors; empty if there is none.
#[derive(Clone, Copy)]
pub(super) struct Gain<'a, T>(pub(super) &'a [T]);

/// The cached rotations of a worker.
#[derive(Debug, Default)]
pub(super) struct Rotations(Vec<(u64, Form, u64, Rotation)>);

/// Most cached rotations: each head of a layer has one, so those of a layer are computed once.
const MAX_CACHED: usize = 256;

impl Rotations {
    pub(super) fn get(&mut self, turn: &RotationOp) -> Result<&Rotation> {
        let same = |(len, form, seed, _): &(u64, Form, u64, Rotation)| {
            (*len, *form, *seed) == (turn.len, turn.form, turn.seed)
        };
        let at = match self.0.iter().position(same) {
            Some(at) => at,
            None => {
                if self.0.len() >= MAX_CACHED {
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

/// The two precisions that the steps run in.
pub(super) trait StepValue:
    Float + Into<f64> + PartialEq + core::ops::Div<Output = Self> + core::ops::MulAssign + core::ops::DivAssign
{
    /// What Freivalds' check allows for rounding, in units of a vector's norm, before its factor of [`super::ALGEBRA_LIMIT`].
    const UNIT: f64;
    /// The smallest positive value.
    const LEAST: f64;

    fn rotate_rows(kernels: &dyn Kernels, rotation: &Rotation, x: &mut [Self], stride: usize, at: usize);
    fn rotate_columns(kernels: &dyn Kernels, rotation: &Rotation, x: &mut [Self], width: usize);
}

impl StepValue for f32 {
    const UNIT: f64 = 1.0 / 16_777_216.0;
    const LEAST: f64 = 1.401_298_464_324_817e-45;

    fn rotate_rows(kernels: &dyn Kernels, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
        kernels.rotate_rows(rotation, x, stride, at);
    }

    fn rotate_columns(kernels: &dyn Kernels, rotation: &Rotation, x: &mut [f32], width: usize) {
        kernels.rotate_columns(rotation, x, width);
    }
}

impl StepValue for f64 {
    // 2^-44: the sums of the check itself are binary64, over up to 2^24 values.
    const UNIT: f64 = 5.684_341_886_080_802e-14;
    const LEAST: f64 = f64::MIN_POSITIVE;

    fn rotate_rows(kernels: &dyn Kernels, rotation: &Rotation, x: &mut [f64], stride: usize, at: usize) {
        kernels.rotate_rows_f64(rotation, x, stride, at);
    }

    fn rotate_columns(kernels: &dyn Kernels, rotation: &Rotation, x: &mut [f64], width: usize) {
        kernels.rotate_columns_f64(rotation, x, width);
    }
}

/// The norm gain and the rotations of one tile.
pub(super) struct TileSteps<'a, T> {
    ops: &'a [Op],
    gain: &'a [T],
    tile: &'a Window,
}

impl<'a, T: StepValue> TileSteps<'a, T> {
    /// The steps of `tile` among `ops`, whose rotations are relative to the window.
    pub(super) fn new(ops: &'a [Op], Gain(gain): Gain<'a, T>, tile: &'a Window) -> TileSteps<'a, T> {
        TileSteps { ops, gain, tile }
    }

    /// Whether there is a gain or a rotation.
    pub(super) fn any(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Gain(_) | Op::Ungain(_) | Op::Rotate(_)))
    }

    pub(super) fn width(&self) -> usize {
        self.tile.width() as usize
    }

    pub(super) fn height(&self) -> usize {
        self.tile.height() as usize
    }

    /// The gains of the tile's vectors with their side, and whether they divide.
    pub(super) fn gains(&self) -> impl Iterator<Item = (Axis, &'a [T], bool)> {
        let part = |along| match along {
            Axis::In => self.gain.get(self.tile.cols.start as usize..self.tile.cols.end as usize),
            Axis::Out => self.gain.get(self.tile.rows.start as usize..self.tile.rows.end as usize),
        };
        self.ops.iter().filter_map(move |op| match op {
            Op::Gain(along) => Some((*along, part(*along)?, false)),
            Op::Ungain(along) => Some((*along, part(*along)?, true)),
            _ => None,
        })
    }

    /// The rotations along one side, relative to the tile.
    pub(super) fn turns(&self, side: Axis) -> impl Iterator<Item = RotationOp> {
        let (from, len) = match side {
            Axis::In => (self.tile.cols.start, self.tile.width()),
            Axis::Out => (self.tile.rows.start, self.tile.height()),
        };
        self.ops.iter().filter_map(move |op| match op {
            Op::Rotate(turn) if turn.axis == side => {
                let at = turn.at.checked_sub(from).filter(|at| at + turn.len <= len)?;
                Some(RotationOp { at, ..*turn })
            }
            _ => None,
        })
    }

    /// Multiplies or divides by the gains, then rotates: input side first, then output side.
    pub(super) fn apply(
        &self,
        kernels: &dyn Kernels,
        rotations: &mut Rotations,
        values: &mut [T],
    ) -> Result<()> {
        let width = self.width();
        for (along, gain, divides) in self.gains() {
            scale(values, width, along, gain, divides);
        }
        for turn in self.turns(Axis::In) {
            T::rotate_rows(kernels, rotations.get(&turn)?, values, width, turn.at as usize);
        }
        for turn in self.turns(Axis::Out) {
            let (from, to) = (turn.at as usize * width, (turn.at + turn.len) as usize * width);
            if let Some(rows) = values.get_mut(from..to) {
                T::rotate_columns(kernels, rotations.get(&turn)?, rows, width);
            }
        }
        Ok(())
    }
}

fn scale<T: StepValue>(values: &mut [T], width: usize, along: Axis, gain: &[T], divides: bool) {
    let each = |v: &mut T, g: T| if divides { *v /= g } else { *v *= g };
    for (r, row) in values.chunks_exact_mut(width.max(1)).enumerate() {
        match along {
            Axis::In => row.iter_mut().zip(gain).for_each(|(v, &g)| each(v, g)),
            Axis::Out => {
                if let Some(&g) = gain.get(r) {
                    row.iter_mut().for_each(|v| each(v, g));
                }
            }
        }
    }
}
