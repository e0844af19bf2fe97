//! Holds rotated values against what the algebra makes of the source's: Freivalds' check, over every element.
//!
//! With `W' = R W G Q^T` and vectors `u`, `v` of random signs, `W' u` is compared with `R W G (Q^T u)`, row by row, where
//! only rows are rotated; `v^T W'` with `(R^T v)^T W G`, column by column, where only columns are; `v^T W' u`, tile by tile,
//! where both are. `Q^T u` and `R^T v` are dense products in binary64, so nothing is shared with the fast rotation. An
//! element that is off by `d` moves its comparison by `d`, and no more than rounding is let pass.

use super::steps::{Rotations, StepValue, TileSteps};
use crate::error::{Code, Error, Result};
use crate::plan::{Axis, RotationOp};
use crate::rotation::signs::signs;
use alloc::vec;
use alloc::vec::Vec;

/// The seed of the test vectors; any will do that is none of a rotation's.
const SEED: u64 = 0x05EE_D0FF_7E15_7EC7;

/// By how much a comparison may be off: this many times what the last bit of its values' norm is worth (`StepValue::UNIT`).
/// Rounding was
/// measured to stay below 8 for every order in use; a dense part of 2048 rows would make about 100.
pub const LIMIT: f64 = 256.0;

/// Test vectors that a worker has at hand: what was rotated, and the vector rotated back.
#[derive(Debug, Default)]
pub(super) struct TileChecks(Vec<(Vec<RotationOp>, Vec<f64>)>);

/// More are seldom in use by turns.
const AT_HAND: usize = 32;

/// What the algebra expects of a tile.
pub(super) enum FreivaldsCheck {
    /// Of each row.
    Rows(Vec<f64>),
    /// Of each column.
    Columns(Vec<f64>),
    /// Of all.
    Whole(f64),
}

fn test_vector(len: usize) -> Vec<f64> {
    signs(SEED, len).into_iter().map(|s| if s { -1.0 } else { 1.0 }).collect()
}

/// Eight sums side by side, in a fixed order.
fn dot<T: StepValue>(x: &[T], t: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (xs, ts) = (x.chunks_exact(8), t.chunks_exact(8));
    let rest: f64 = xs.remainder().iter().zip(ts.remainder()).map(|(x, t)| Into::<f64>::into(*x) * t).sum();
    for (x, t) in xs.zip(ts) {
        for ((sum, x), t) in sums.iter_mut().zip(x).zip(t) {
            *sum += Into::<f64>::into(*x) * t;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[inline(always)]
fn squared<T: StepValue>(x: T) -> f64 {
    let x: f64 = x.into();
    x * x
}

fn square<T: StepValue>(x: &[T]) -> f64 {
    let mut sums = [0.0; 8];
    let xs = x.chunks_exact(8);
    let rest: f64 = xs.remainder().iter().map(|x| squared(*x)).sum();
    for x in xs {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += squared(*x);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `v^T W` for every column.
fn columns<T: StepValue>(x: &[T], v: &[f64], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for (row, v) in x.chunks_exact(width.max(1)).zip(v) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += v * Into::<f64>::into(*x);
        }
    }
    sums
}

impl TileChecks {
    /// The test vector of one side, rotated back and with its gains.
    fn back<T: StepValue>(
        &mut self,
        steps: &TileSteps<'_, T>,
        rotations: &mut Rotations,
        side: Axis,
        len: usize,
    ) -> Result<Vec<f64>> {
        let turns: Vec<RotationOp> = steps.turns(side).collect();
        let found = self.0.iter().find(|(t, vector)| *t == turns && vector.len() == len);
        let mut vector = match found {
            Some((_, vector)) => vector.clone(),
            None => {
                let mut vector = test_vector(len);
                for turn in &turns {
                    let part = turn.at as usize..(turn.at + turn.len) as usize;
                    if let Some(part) = vector.get_mut(part) {
                        part.copy_from_slice(&rotations.get(turn)?.dense_transposed(part));
                    }
                }
                if self.0.len() >= AT_HAND {
                    self.0.clear();
                }
                self.0.push((turns, vector.clone()));
                vector
            }
        };
        for (_, gain, divides) in steps.gains().filter(|(along, ..)| *along == side) {
            for (v, &g) in vector.iter_mut().zip(gain) {
                let g: f64 = g.into();
                *v = if divides { *v / g } else { *v * g };
            }
        }
        Ok(vector)
    }

    /// What the source's values must become.
    pub(super) fn before<T: StepValue>(
        &mut self,
        steps: &TileSteps<'_, T>,
        rotations: &mut Rotations,
        values: &[T],
    ) -> Result<FreivaldsCheck> {
        let (width, height) = (steps.width(), steps.height());
        let touched = |side| steps.turns(side).next().is_some() || steps.gains().any(|(a, ..)| a == side);
        if !touched(Axis::Out) {
            let t = self.back(steps, rotations, Axis::In, width)?;
            return Ok(FreivaldsCheck::Rows(
                values.chunks_exact(width.max(1)).map(|row| dot(row, &t)).collect(),
            ));
        }
        let s = self.back(steps, rotations, Axis::Out, height)?;
        if !touched(Axis::In) {
            return Ok(FreivaldsCheck::Columns(columns(values, &s, width)));
        }
        let t = self.back(steps, rotations, Axis::In, width)?;
        let rows = values.chunks_exact(width.max(1)).zip(&s);
        Ok(FreivaldsCheck::Whole(rows.map(|(row, s)| s * dot(row, &t)).sum()))
    }

    /// Refuses values that are not what they must be.
    pub(super) fn after<T: StepValue>(
        &self,
        steps: &TileSteps<'_, T>,
        expected: &FreivaldsCheck,
        values: &[T],
    ) -> Result<()> {
        let (width, height) = (steps.width(), steps.height());
        let u = test_vector(width);
        let sound = match expected {
            FreivaldsCheck::Rows(expected) => {
                let rows = values.chunks_exact(width.max(1));
                rows.zip(expected).all(|(row, &y)| near::<T>(dot(row, &u), y, square(row), width))
            }
            FreivaldsCheck::Columns(expected) => {
                let found = columns(values, &test_vector(height), width);
                let mut squares = vec![0.0; width];
                for row in values.chunks_exact(width.max(1)) {
                    squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += squared(*x));
                }
                let mut all = found.iter().zip(expected).zip(&squares);
                all.all(|((&z, &y), &square)| near::<T>(z, y, square, height))
            }
            FreivaldsCheck::Whole(expected) => {
                let rows = values.chunks_exact(width.max(1)).zip(test_vector(height));
                let found: f64 = rows.map(|(row, v)| v * dot(row, &u)).sum();
                near::<T>(found, *expected, square(values), values.len())
            }
        };
        let message = "the rotated values are not what the algebra makes of the source's; nothing is written";
        sound.then_some(()).ok_or_else(|| Error::new(Code::RotationOff, message))
    }
}

/// Whether two sums over `len` values of this sum of squares differ by rounding only. NaN is near nothing.
fn near<T: StepValue>(found: f64, expected: f64, square: f64, len: usize) -> bool {
    let unit = libm::sqrt(square) * T::UNIT + len as f64 * T::LEAST;
    (found - expected).abs() <= LIMIT * unit
}
