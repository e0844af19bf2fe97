//! Rotations as sequences of passes through memory, each over groups of elements that fit a device's shared
//! memory.
//!
//! Each value sees the operations of `core::rotation` in the same order, however they are split into passes.
//! So results equal the CPU reference wherever single operations do.

use super::Kernel;
use quantoscope_core::DType;
pub use quantoscope_core::job::Axis;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::rotation::hadamard::Hadamard;
use quantoscope_core::rotation::{Float, Form, Rotation};

/// One operation on a matrix of decoded values, `[rows, width]`, row-major.
#[derive(Clone, Copy, Debug)]
pub enum MatrixStep<'a> {
    /// Multiplies every vector along an axis by a gain, or divides by it, element-wise.
    Gain {
        /// Axis of the vectors: `In` for rows, `Out` for columns.
        along: Axis,
        /// One factor per element of a vector.
        gain: &'a [f32],
        /// True to divide.
        divides: bool,
    },
    /// Rotates vectors along an axis.
    Rotate {
        /// Axis of the vectors.
        along: Axis,
        /// Index of their first element on the axis.
        at: usize,
        /// The rotation, which gives their length.
        rotation: &'a Rotation,
    },
}

impl MatrixStep<'_> {
    /// Axis of its vectors.
    pub fn along(&self) -> Axis {
        match self {
            MatrixStep::Gain { along, .. } | MatrixStep::Rotate { along, .. } => *along,
        }
    }

    /// True if the step fits a matrix of `[rows, width]` and its gains are finite and no divisor is 0.
    pub fn fits(&self, rows: usize, width: usize) -> bool {
        let side = if self.along() == Axis::In { width } else { rows };
        match self {
            MatrixStep::Gain { gain, divides, .. } => {
                gain.len() == side && gain.iter().all(|g| g.is_finite() && !(*divides && *g == 0.0))
            }
            MatrixStep::Rotate { at, rotation, .. } => {
                at.checked_add(rotation.len()).is_some_and(|end| end <= side)
            }
        }
    }

    /// Applies the step on the CPU (the reference). The step must fit ([`MatrixStep::fits`]).
    pub fn apply(&self, values: &mut [f32], width: usize) {
        match *self {
            MatrixStep::Gain { along, gain, divides } => {
                for (r, row) in values.chunks_exact_mut(width.max(1)).enumerate() {
                    for (c, v) in row.iter_mut().enumerate() {
                        let g = gain[if along == Axis::In { c } else { r }];
                        *v = if divides { *v / g } else { *v * g };
                    }
                }
            }
            MatrixStep::Rotate { along: Axis::In, at, rotation } => {
                Scalar.rotate_rows(rotation, values, width, at);
            }
            MatrixStep::Rotate { along: Axis::Out, at, rotation } => {
                let rows = &mut values[at * width..(at + rotation.len()) * width];
                Scalar.rotate_columns(rotation, rows, width);
            }
        }
    }
}

/// A matrix of stored values and the steps to apply to it.
#[derive(Clone, Copy, Debug)]
pub struct RotationTask<'a> {
    /// Type of the input.
    pub from: DType,
    /// Input bytes, row-major.
    pub src: &'a [u8],
    /// Number of rows.
    pub rows: usize,
    /// Values per row.
    pub width: usize,
    /// Steps, in order.
    pub steps: &'a [MatrixStep<'a>],
    /// Type of the output: blocks (encoded without importance weights) or F32.
    pub to: DType,
}

impl RotationTask<'_> {
    /// Number of values; `None` if the bytes have another length, rows are not whole blocks, or a step does
    /// not fit.
    pub fn values(&self) -> Option<usize> {
        let values = self.rows.checked_mul(self.width).filter(|n| *n > 0)?;
        let whole = self.src.len() as u64 == self.from.bytes_for(values as u64)?
            && (self.width as u64).is_multiple_of(self.to.block_len())
            && (self.width as u64).is_multiple_of(self.from.block_len());
        let fit = self.steps.iter().all(|step| step.fits(self.rows, self.width));
        (whole && fit).then_some(values)
    }

    /// The kernel that encodes the result; `None` if the output is F32.
    pub fn encode_kernel(&self) -> Option<Kernel> {
        let encode = Kernel::Quantize { from: DType::F32, to: self.to, weighted: false };
        (self.to != DType::F32).then_some(encode)
    }
}

/// A sign vector of a rotation, one sign per element of the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// [`Rotation::signs`].
    Seeded,
    /// [`Rotation::normalised`].
    Normalised,
}

impl Signs {
    /// The sign vector; true for -1.
    pub fn of(self, rotation: &Rotation) -> &[bool] {
        match self {
            Signs::Seeded => rotation.signs(),
            Signs::Normalised => rotation.normalised(),
        }
    }
}

/// One pass over an axis. The axis is divided into groups of `len` elements, `stride` apart.
///
/// Each run of `stride * len` elements holds `stride` groups, which start at its first `stride` elements.
/// Operations on a group, in order: signs, butterflies, dense part, scale, signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPass {
    /// Distance between neighbouring elements of a group, in elements of the axis.
    pub stride: usize,
    /// Elements per group.
    pub len: usize,
    /// Whether this is the first pass of a product with the matrix.
    pub begins: bool,
    /// Signs that are applied first.
    pub before: Option<Signs>,
    /// Butterflies of strides 1, 2, 4, ... below this power of two, in elements of the group.
    pub rounds: usize,
    /// The dense (Paley) part, applied after the butterflies; `Some(true)` for its transpose. Element
    /// `a * len / base + b` of a group is element `a` of vector `b`; sums run in index order.
    pub dense: Option<bool>,
    /// Whether values are then multiplied by [`scale`].
    pub scaled: bool,
    /// Signs that are applied last.
    pub after: Option<Signs>,
}

/// Returns the passes of a rotation. `max_len(stride)` is the greatest length of a group at a stride: at
/// least 2, and at least the order of the dense part.
pub fn passes(rotation: &Rotation, max_len: impl Fn(usize) -> usize) -> Vec<RotationPass> {
    let product = |before, transposed, after| {
        let mut passes = product(rotation.hadamard(), transposed, &max_len);
        if let Some(first) = passes.first_mut() {
            (first.begins, first.before) = (true, Some(before));
        }
        if let Some(last) = passes.last_mut() {
            (last.scaled, last.after) = (true, after);
        }
        passes
    };
    if rotation.form() == Form::FixesOnes {
        let mut passes = product(Signs::Normalised, false, None);
        passes.extend(product(Signs::Seeded, true, Some(Signs::Normalised)));
        return passes;
    }
    product(Signs::Seeded, false, None)
}

/// The passes of a product with the Hadamard matrix or its transpose.
fn product(h: &Hadamard, transposed: bool, max_len: impl Fn(usize) -> usize) -> Vec<RotationPass> {
    let pass = |stride, len, rounds, dense| RotationPass {
        stride,
        len,
        begins: false,
        before: None,
        rounds,
        dense,
        scaled: false,
        after: None,
    };
    let dense = (h.base() > 1).then_some(transposed);
    if h.order() <= max_len(1) {
        return vec![pass(1, h.order(), h.doubled(), dense)];
    }
    let (mut passes, mut stride) = (Vec::new(), 1);
    while stride < h.doubled() {
        let max = 1 << max_len(stride).max(2).ilog2();
        let len = max.min(h.doubled() / stride);
        passes.push(pass(stride, len, len, None));
        stride *= len;
    }
    if dense.is_some() {
        passes.push(pass(stride, h.base(), 1, dense));
    }
    passes
}

/// Factor of a scaled pass: one over the square root of the order.
pub fn scale(rotation: &Rotation) -> f32 {
    f32::inverse_root(rotation.hadamard().order())
}

/// Exponent field at and above which inputs of a product could overflow. Below it, no sum reaches 2^127.
/// Devices decline other inputs.
pub fn exponent_limit(h: &Hadamard) -> u32 {
    253 - h.order().next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies passes to one vector.
    fn run(rotation: &Rotation, passes: &[RotationPass], x: &mut [f32]) {
        for pass in passes {
            let span = pass.stride * pass.len;
            for start in (0..x.len()).step_by(span) {
                for first in start..start + pass.stride {
                    group(rotation, pass, x, first);
                }
            }
        }
    }

    fn group(rotation: &Rotation, pass: &RotationPass, x: &mut [f32], first: usize) {
        let indices: Vec<usize> = (0..pass.len).map(|e| first + e * pass.stride).collect();
        let flipped = |signs: Option<Signs>, at: usize| signs.is_some_and(|s| s.of(rotation)[at]);
        let flip = |signs, at, v: f32| if flipped(signs, at) { -v } else { v };
        let mut tile: Vec<f32> = indices.iter().map(|&at| flip(pass.before, at, x[at])).collect();
        let mut stride = 1;
        while stride < pass.rounds {
            for at in (0..pass.len).filter(|at| at & stride == 0) {
                let (a, b) = (tile[at], tile[at + stride]);
                (tile[at], tile[at + stride]) = (a + b, a - b);
            }
            stride *= 2;
        }
        if let Some(transposed) = pass.dense {
            let (h, run) = (rotation.hadamard(), pass.len / rotation.hadamard().base());
            let old = tile.clone();
            for (at, sum) in tile.iter_mut().enumerate() {
                let term = |col: usize| {
                    let row = at / run;
                    let entry = if transposed { h.dense_entry(col, row) } else { h.dense_entry(row, col) };
                    f32::from(entry) * old[col * run + at % run]
                };
                *sum = (1..h.base()).fold(term(0), |sum, col| sum + term(col));
            }
        }
        for (&at, v) in indices.iter().zip(tile) {
            x[at] = flip(pass.after, at, if pass.scaled { v * scale(rotation) } else { v });
        }
    }

    #[test]
    fn passes_any_split_equal_the_reference() {
        for (len, form) in [
            (1, Form::Full),
            (2, Form::Full),
            (256, Form::Full),
            (896, Form::Full),
            (896, Form::FixesOnes),
            (256, Form::FixesOnes),
            (1536, Form::Block(128)),
            (1536, Form::Block(96)),
            (344, Form::FixesOnes),
        ] {
            let rotation = Rotation::new(len, form, 5).unwrap();
            let x: Vec<f32> = (0..len).map(|i| ((i * 97 + 13) % 89) as f32 / 7.0 - 6.0).collect();
            let mut want = x.clone();
            rotation.rows(&mut want);
            for max in [2, 5, 64, 100, 4096] {
                let max_len = |stride: usize| if stride == 1 { 2 * max } else { max };
                let mut got = x.clone();
                run(&rotation, &passes(&rotation, max_len), &mut got);
                assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{len} {form:?}");
            }
        }
    }

    #[test]
    fn passes_of_a_fitting_vector_are_one() {
        for (len, count) in [(4096, 1), (896, 1), (8192, 2), (32768, 2), (11008, 2), (14336, 2)] {
            let rotation = Rotation::new(len, Form::Full, 5).unwrap();
            let max_len = |stride| if stride == 1 { 4096 } else { 256 };
            assert_eq!(passes(&rotation, max_len).len(), count, "{len}");
        }
    }
}
