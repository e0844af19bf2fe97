//! Rotations as devices do them: passes through memory, each over groups of elements that fit a device's fast memory.
//!
//! A value sees the operations of `core::rotate` in their order, and no other; where one pass ends and the next begins
//! is the same to it. So results are the definition's wherever single operations are.

use super::Kernel;
use quantoscope_core::DType;
pub use quantoscope_core::job::Axis;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::rotation::hadamard::Hadamard;
use quantoscope_core::rotation::{Float, Form, Rotation};

/// What happens to a matrix of decoded values.
#[derive(Clone, Copy, Debug)]
pub enum MatrixStep<'a> {
    /// Its vectors are multiplied with a gain, or divided by it, value by value.
    Gain {
        /// Along which side the vectors lie.
        along: Axis,
        /// One for each value of a vector.
        gain: &'a [f32],
        /// Whether it divides.
        divides: bool,
    },
    /// Its vectors are rotated.
    Rotate {
        /// Along which side they lie.
        along: Axis,
        /// Where on it they begin.
        at: usize,
        /// How: they are as long as this is.
        rotation: &'a Rotation,
    },
}

impl MatrixStep<'_> {
    /// Along which side its vectors lie.
    pub fn along(&self) -> Axis {
        match self {
            MatrixStep::Gain { along, .. } | MatrixStep::Rotate { along, .. } => *along,
        }
    }

    /// Whether it can be taken in a matrix of so many rows and columns, and every result of a gain is a number.
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

    /// Takes it on the processor: the definition. It fits.
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

/// A matrix of stored values, and what is to be done with it.
#[derive(Clone, Copy, Debug)]
pub struct RotationTask<'a> {
    /// How its values are stored.
    pub from: DType,
    /// The stored values, row by row.
    pub src: &'a [u8],
    /// How many rows there are.
    pub rows: usize,
    /// Values of a row.
    pub width: usize,
    /// The steps, one after the other.
    pub steps: &'a [MatrixStep<'a>],
    /// What it becomes: blocks, without importance, or F32.
    pub to: DType,
}

impl RotationTask<'_> {
    /// How many values there are, where the bytes are theirs, rows are whole blocks, and every step fits.
    pub fn values(&self) -> Option<usize> {
        let values = self.rows.checked_mul(self.width).filter(|n| *n > 0)?;
        let whole = self.src.len() as u64 == self.from.bytes_for(values as u64)?
            && (self.width as u64).is_multiple_of(self.to.block_len())
            && (self.width as u64).is_multiple_of(self.from.block_len());
        let fit = self.steps.iter().all(|step| step.fits(self.rows, self.width));
        (whole && fit).then_some(values)
    }

    /// The kernel that ends it, if there is any.
    pub fn encodes(&self) -> Option<Kernel> {
        let encode = Kernel::Quantize { from: DType::F32, to: self.to, weighted: false };
        (self.to != DType::F32).then_some(encode)
    }
}

/// Which signs are flipped, one an element of the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// [`Rotation::signs`].
    Seeded,
    /// [`Rotation::normalised`].
    Normalised,
}

impl Signs {
    /// True for what is flipped.
    pub fn of(self, rotation: &Rotation) -> &[bool] {
        match self {
            Signs::Seeded => rotation.signs(),
            Signs::Normalised => rotation.normalised(),
        }
    }
}

/// One pass over an axis, which is whole in groups: `len` elements, each `stride` from the next.
///
/// Of a stretch of `stride * len` elements, the first `stride` elements begin a group each. In a group: signs, rounds,
/// dense part, scale, signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPass {
    /// Elements of the axis from an element of a group to the next.
    pub stride: usize,
    /// Elements of a group.
    pub len: usize,
    /// Whether a product with the matrix begins here.
    pub begins: bool,
    /// Signs that are flipped first.
    pub before: Option<Signs>,
    /// Butterflies whose strides are the powers of two below this, from 1 on, in elements of the group; a power of two.
    pub rounds: usize,
    /// Then, whether each run of elements is replaced by sums in index order, with the signs of the dense part's rows or,
    /// if true, of its columns: element `a * len / base + b` of a group is the `a`th of run `b`.
    pub dense: Option<bool>,
    /// Whether every value is then multiplied by one over the root of the order.
    pub scaled: bool,
    /// Signs that are flipped last.
    pub after: Option<Signs>,
}

/// The passes of a rotation. `room` says how many elements of a group can be worked on if they are so far apart; it is
/// at least 2, and for the order of a dense part at least that.
pub fn passes(rotation: &Rotation, room: impl Fn(usize) -> usize) -> Vec<RotationPass> {
    let product = |before, transposed, after| {
        let mut passes = product(rotation.hadamard(), transposed, &room);
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

/// The passes of a product with the matrix or its transpose.
fn product(h: &Hadamard, transposed: bool, room: impl Fn(usize) -> usize) -> Vec<RotationPass> {
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
    if h.order() <= room(1) {
        return vec![pass(1, h.order(), h.doubled(), dense)];
    }
    let (mut passes, mut stride) = (Vec::new(), 1);
    while stride < h.doubled() {
        let most = 1 << room(stride).max(2).ilog2();
        let len = most.min(h.doubled() / stride);
        passes.push(pass(stride, len, len, None));
        stride *= len;
    }
    if dense.is_some() {
        passes.push(pass(stride, h.base(), 1, dense));
    }
    passes
}

/// What a pass multiplies with where it scales.
pub fn scale(rotation: &Rotation) -> f32 {
    f32::inverse_root(rotation.hadamard().order())
}

/// The exponent field that a value must stay below with which a product with the matrix begins: then no sum reaches
/// 2^127, whatever is rounded. Devices decline what does not.
pub fn limit(h: &Hadamard) -> u32 {
    253 - h.order().next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The passes, done to one vector of the axis' length.
    fn run(rotation: &Rotation, passes: &[RotationPass], x: &mut [f32]) {
        for pass in passes {
            let whole = pass.stride * pass.len;
            for start in (0..x.len()).step_by(whole) {
                for first in start..start + pass.stride {
                    group(rotation, pass, x, first);
                }
            }
        }
    }

    fn group(rotation: &Rotation, pass: &RotationPass, x: &mut [f32], first: usize) {
        let places: Vec<usize> = (0..pass.len).map(|e| first + e * pass.stride).collect();
        let flipped = |signs: Option<Signs>, at: usize| signs.is_some_and(|s| s.of(rotation)[at]);
        let flip = |signs, at, v: f32| if flipped(signs, at) { -v } else { v };
        let mut tile: Vec<f32> = places.iter().map(|&at| flip(pass.before, at, x[at])).collect();
        let mut stride = 1;
        while stride < pass.rounds {
            for at in (0..pass.len).filter(|at| at & stride == 0) {
                let (a, b) = (tile[at], tile[at + stride]);
                (tile[at], tile[at + stride]) = (a + b, a - b);
            }
            stride *= 2;
        }
        if let Some(transposed) = pass.dense {
            let (h, part) = (rotation.hadamard(), pass.len / rotation.hadamard().base());
            let old = tile.clone();
            for (at, sum) in tile.iter_mut().enumerate() {
                let term = |col: usize| {
                    let row = at / part;
                    let entry = if transposed { h.dense_entry(col, row) } else { h.dense_entry(row, col) };
                    f32::from(entry) * old[col * part + at % part]
                };
                *sum = (1..h.base()).fold(term(0), |sum, col| sum + term(col));
            }
        }
        for (&at, v) in places.iter().zip(tile) {
            x[at] = flip(pass.after, at, if pass.scaled { v * scale(rotation) } else { v });
        }
    }

    #[test]
    fn passes_are_the_definition_however_they_are_cut() {
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
            for room in [2, 5, 64, 100, 4096] {
                let room = |stride: usize| if stride == 1 { 2 * room } else { room };
                let mut got = x.clone();
                run(&rotation, &passes(&rotation, room), &mut got);
                assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "{len} {form:?}");
            }
        }
    }

    #[test]
    fn one_pass_where_all_fits() {
        for (len, count) in [(4096, 1), (896, 1), (8192, 2), (32768, 2), (11008, 2), (14336, 2)] {
            let rotation = Rotation::new(len, Form::Full, 5).unwrap();
            let room = |stride| if stride == 1 { 4096 } else { 256 };
            assert_eq!(passes(&rotation, room).len(), count, "{len}");
        }
    }
}
