//! Orthogonal rotations of one axis of a tensor: rules version 1.
//!
//! `R = H D`: seeded random signs `D`, then a normalized Hadamard matrix `H` of the axis length, or one for
//! each block of the axis ([`hadamard`]). A tensor that reads the rotated axis has it as its columns and is
//! rotated row by row, `W R^T` ([`Rotation::rows`]). A tensor that writes the axis has it as its rows and is
//! rotated column by column, `R W` ([`Rotation::columns`]). Both apply the same operations in the same order
//! to every vector, so results do not depend on windows. One multiplication by `1 / sqrt(n)` comes last.
//!
//! Results are exact in the sense of the golden vectors in `tests/`: the same bits on every engine. Sources:
//! QuaRot (Ashkboos et al., 2024, arXiv:2404.00456) for rotations of the residual stream; Paley (1933) for
//! the matrices. Knows no tensors, models or files.

#![expect(
    clippy::indexing_slicing,
    reason = "butterflies and matrices run over powers of two and orders that `Rotation::new` checked"
)]

pub mod benchmark;
mod dense;
mod float_trait;
mod galois_field;
pub mod hadamard;
pub mod signs;

pub use float_trait::Float;

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;
use hadamard::Hadamard;
use serde::Serialize;

/// Newest version of the rules by which rotated checkpoints are made; a checkpoint records the version that made it.
///
/// - Version 1: seed and form define the matrix; gains and rotations run in binary32. Checkpoints whose rotated tensors are
///   all of other types than F32 are still made so.
/// - Version 2: the same matrices; for tensors that are written as F32, gains and rotations run in binary64 and the result is
///   rounded once.
pub const RULES: u32 = 2;

/// The first version with F32 tensors rotated in binary64.
pub const RULES_F64: u32 = 2;

/// Structure of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One Hadamard matrix over the whole axis.
    Full,
    /// One Hadamard matrix for each block of this many values, with a seed for each block.
    Block(u32),
    /// `H^T D H` over the whole axis: maps the vector of ones to itself, so it commutes with the mean
    /// subtraction of a LayerNorm.
    ///
    /// Columns of `H` are negated so that its first row is all ones, and the first sign is positive.
    FixesOnes,
}

/// Rotation of an axis of fixed length.
///
/// ```
/// use quantoscope_core::rotation::{Form, Rotation};
///
/// # fn main() -> quantoscope_core::Result<()> {
/// let rotation = Rotation::new(12, Form::Full, 42)?;
/// let mut row: Vec<f64> = (0..12).map(f64::from).collect();
/// let norm = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>().sqrt();
/// let before = norm(&row);
/// rotation.rows(&mut row);
/// assert!((norm(&row) - before).abs() < 1e-12);
/// rotation.rows_back(&mut row);
/// assert!((row[5] - 5.0).abs() < 1e-12);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    form: Form,
    seed: u64,
    /// Length of the axis.
    len: usize,
    /// Matrix of the axis, or of one block.
    hadamard: Hadamard,
    /// Diagonal of `D`, true for -1: one for each element of the axis.
    signs: Vec<bool>,
    /// For [`Form::FixesOnes`]: columns of `H` that are negated so that its first row is all ones.
    normalised: Vec<bool>,
}

/// Longest axis: longer than any axis of a language model, and short enough to hold the signs in memory.
const LONGEST: u64 = 1 << 24;

impl Rotation {
    /// Constructs the rotation of an axis of `len` values.
    ///
    /// # Errors
    ///
    /// [`Code::UnsupportedRotation`] if
    ///
    /// - `len` is 0 or larger than 2^24,
    /// - the block does not divide `len`,
    /// - no Hadamard matrix of the length, or of the block's length, can be constructed.
    pub fn new(len: u64, form: Form, seed: u64) -> Result<Rotation> {
        let refuse = |message| Error::new(Code::UnsupportedRotation, message);
        if len == 0 || len > LONGEST {
            return Err(refuse(format!("an axis of {len} values cannot be rotated: at most {LONGEST}")));
        }
        let order = match form {
            Form::Full | Form::FixesOnes => len,
            Form::Block(block) => u64::from(block),
        };
        if order == 0 || !len.is_multiple_of(order) {
            return Err(refuse(format!("an axis of {len} does not divide into blocks of {order}")));
        }
        let hadamard = Hadamard::new(order)
            .ok_or_else(|| refuse(format!("no Hadamard matrix of order {order} can be constructed")))?;
        let (len, order) = (len as usize, order as usize);
        let mut signs = match form {
            Form::Full | Form::FixesOnes => signs::signs(seed, len),
            Form::Block(_) => {
                let blocks = 0..(len / order) as u64;
                blocks.flat_map(|i| signs::signs(signs::block_seed(seed, i), order)).collect()
            }
        };
        let mut normalised = Vec::new();
        if form == Form::FixesOnes {
            signs[0] = false;
            normalised = (0..len).map(|col| hadamard.entry(0, col) < 0).collect();
        }
        Ok(Rotation { form, seed, len, hadamard, signs, normalised })
    }

    /// Length of the axis.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the axis is empty; never the case, since [`Rotation::new`] refuses it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Structure of the rotation.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Seed of the signs.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Hadamard matrix of the axis, or of one block.
    pub fn hadamard(&self) -> &Hadamard {
        &self.hadamard
    }

    /// Seeded signs, true for -1: one for each element of the axis.
    pub fn signs(&self) -> &[bool] {
        &self.signs
    }

    /// For [`Form::FixesOnes`]: one flag per column of the matrix, true if it is negated so that the first
    /// row is all ones. Empty for other forms.
    pub fn normalised(&self) -> &[bool] {
        &self.normalised
    }

    /// Rotates each row of `x`: computes `W R^T` for a `W` that reads the axis.
    ///
    /// `x` is `[n, len]`, row-major.
    #[inline(always)]
    pub fn rows<T: Float>(&self, x: &mut [T]) {
        for row in x.chunks_exact_mut(self.len) {
            self.apply(row, 1);
        }
    }

    /// [`Rotation::rows`] of one row, for engines with their own code for the rounds of small strides; see
    /// [`Hadamard::apply_after`].
    #[inline(always)]
    pub fn row_after<T: Float>(&self, row: &mut [T], near: impl Fn(&mut [T], usize) -> usize) {
        self.apply_by(
            row,
            1,
            #[inline(always)]
            |h, x, transposed| h.apply_after(x, transposed, &near),
        );
    }

    /// Inverts [`Rotation::rows`] up to rounding.
    pub fn rows_back<T: Float>(&self, x: &mut [T]) {
        for row in x.chunks_exact_mut(self.len) {
            self.undo(row, 1);
        }
    }

    /// Rotates each column of `x`: computes `R W` for a `W` that writes the axis.
    ///
    /// `x` is `[len, width]`, row-major.
    #[inline(always)]
    pub fn columns<T: Float>(&self, x: &mut [T], width: usize) {
        self.apply(x, width);
    }

    /// Inverts [`Rotation::columns`] up to rounding.
    pub fn columns_back<T: Float>(&self, x: &mut [T], width: usize) {
        self.undo(x, width);
    }

    /// Applies the rotation to `width` interleaved vectors.
    #[inline(always)]
    fn apply<T: Float>(&self, x: &mut [T], width: usize) {
        self.apply_by(
            x,
            width,
            #[inline(always)]
            |h, x, transposed| h.apply(x, width, transposed),
        );
    }

    /// Applies the rotation; `product(h, x, transposed)` multiplies by the matrix or its transpose.
    #[inline(always)]
    fn apply_by<T: Float>(&self, x: &mut [T], width: usize, product: impl Fn(&Hadamard, &mut [T], bool)) {
        if self.form == Form::FixesOnes {
            return self.conjugate(x, width, product);
        }
        self.flip(&self.signs, x, width);
        // A width of 0 would make blocks of length 0.
        for block in x.chunks_exact_mut((self.hadamard.order() * width).max(1)) {
            product(&self.hadamard, block, false);
        }
        self.scale(x);
    }

    /// Applies the inverse rotation to `width` interleaved vectors.
    fn undo<T: Float>(&self, x: &mut [T], width: usize) {
        if self.form == Form::FixesOnes {
            // Symmetric, so it is its own inverse.
            return self.apply(x, width);
        }
        for block in x.chunks_exact_mut(self.hadamard.order() * width) {
            self.hadamard.apply(block, width, true);
        }
        self.scale(x);
        self.flip(&self.signs, x, width);
    }

    /// `H^T D H`; the scale is applied after each of the two products.
    #[inline(always)]
    fn conjugate<T: Float>(&self, x: &mut [T], width: usize, product: impl Fn(&Hadamard, &mut [T], bool)) {
        self.flip(&self.normalised, x, width);
        product(&self.hadamard, x, false);
        self.scale(x);
        self.flip(&self.signs, x, width);
        product(&self.hadamard, x, true);
        self.scale(x);
        self.flip(&self.normalised, x, width);
    }

    /// Multiplies element `i` of the vectors by sign `i`.
    #[inline(always)]
    fn flip<T: Float>(&self, signs: &[bool], x: &mut [T], width: usize) {
        for (values, &negative) in x.chunks_exact_mut(width.max(1)).zip(signs) {
            let sign = T::sign(negative);
            values.iter_mut().for_each(|v| *v = *v * sign);
        }
    }

    /// Multiplies all values by `1 / sqrt(order)`.
    #[inline(always)]
    fn scale<T: Float>(&self, x: &mut [T]) {
        let scale = T::inverse_root(self.hadamard.order());
        x.iter_mut().for_each(|v| *v = *v * scale);
    }
}
