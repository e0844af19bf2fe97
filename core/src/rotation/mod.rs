//! Orthogonal rotations of one axis, exact in the sense of the golden vectors: rules version 1.
//!
//! `R = H D`: random signs, then a normalised Hadamard matrix of any order that there is ([`hadamard`]), or one for each
//! block of the axis. A tensor that reads the rotated axis has it as its columns and is rotated row by row
//! (`W R^T`, [`Rotation::rows`]); one that writes it has it as its rows and is rotated column by column (`R W`,
//! [`Rotation::columns`]). Both do the same operations in the same order on every vector, so results do not depend on
//! windows. One multiplication by `1 / sqrt(n)` comes last. Knows no tensor, no model and no file.

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

/// The version of what a seed and a form mean.
pub const RULES: u32 = 1;

/// Which rotation of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One Hadamard matrix over the whole axis.
    Full,
    /// One for each block of this many values, each with a seed of its own.
    Block(u32),
    /// `H^T D H` over the whole axis, with columns of `H` negated so that its first row is all ones, and the
    /// first sign positive: it leaves the vector of ones where it is, and so commutes with the centring of a LayerNorm.
    FixesOnes,
}

/// A rotation of an axis of a known length.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    form: Form,
    seed: u64,
    len: usize,
    hadamard: Hadamard,
    /// True for -1, one an element of the axis.
    signs: Vec<bool>,
    /// For [`Form::FixesOnes`]: columns of `H` negated, so that its first row is all ones.
    normalised: Vec<bool>,
}

/// The longest axis: beyond it no tensor of a language model has one, and the signs are held in memory.
const LONGEST: u64 = 1 << 24;

impl Rotation {
    /// The rotation of an axis of `len` values.
    ///
    /// Fails with `unsupported_rotation` where no Hadamard matrix of that order (or of the block's) can be made, or
    /// where the block does not divide the axis.
    pub fn new(len: u64, form: Form, seed: u64) -> Result<Rotation> {
        let refuse = |message| Error::new(Code::UnsupportedRotation, message);
        if len == 0 || len > LONGEST {
            return Err(refuse(format!("an axis of {len} cannot be rotated (1 to {LONGEST} can)")));
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
        let mut all = match form {
            Form::Full | Form::FixesOnes => signs::signs(seed, len),
            Form::Block(_) => {
                let blocks = 0..(len / order) as u64;
                blocks.flat_map(|i| signs::signs(signs::block_seed(seed, i), order)).collect()
            }
        };
        let mut normalised = Vec::new();
        if form == Form::FixesOnes {
            all[0] = false;
            normalised = (0..len).map(|col| hadamard.entry(0, col) < 0).collect();
        }
        Ok(Rotation { form, seed, len, hadamard, signs: all, normalised })
    }

    /// The length of the axis.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the axis has no values; none has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Its seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The matrix, that of a block where the form has blocks.
    pub fn hadamard(&self) -> &Hadamard {
        &self.hadamard
    }

    /// The seeded signs, true for -1: one an element of the axis.
    pub fn signs(&self) -> &[bool] {
        &self.signs
    }

    /// For [`Form::FixesOnes`], the columns of the matrix that are negated so that its first row is all ones; empty for
    /// the others.
    pub fn normalised(&self) -> &[bool] {
        &self.normalised
    }

    /// Rotates each row of `x`, whole rows of the axis' length: `W R^T` for a `W` that reads the axis.
    #[inline(always)]
    pub fn rows<T: Float>(&self, x: &mut [T]) {
        for row in x.chunks_exact_mut(self.len) {
            self.apply(row, 1);
        }
    }

    /// [`Rotation::rows`] of one row, where an engine does the rounds of small strides in a way of its own: see
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

    /// Undoes [`Rotation::rows`], up to rounding.
    pub fn rows_back<T: Float>(&self, x: &mut [T]) {
        for row in x.chunks_exact_mut(self.len) {
            self.undo(row, 1);
        }
    }

    /// Rotates each column of `x`, the axis' length of rows of `width` values: `R W` for a `W` that writes the axis.
    #[inline(always)]
    pub fn columns<T: Float>(&self, x: &mut [T], width: usize) {
        self.apply(x, width);
    }

    /// Undoes [`Rotation::columns`], up to rounding.
    pub fn columns_back<T: Float>(&self, x: &mut [T], width: usize) {
        self.undo(x, width);
    }

    #[inline(always)]
    fn apply<T: Float>(&self, x: &mut [T], width: usize) {
        self.apply_by(
            x,
            width,
            #[inline(always)]
            |h, x, transposed| h.apply(x, width, transposed),
        );
    }

    /// The same, with `product` for the products with the matrix and its transpose.
    #[inline(always)]
    fn apply_by<T: Float>(&self, x: &mut [T], width: usize, product: impl Fn(&Hadamard, &mut [T], bool)) {
        if self.form == Form::FixesOnes {
            return self.conjugate(x, width, product);
        }
        self.flip(&self.signs, x, width);
        // No columns have no blocks, of a length that would be 0.
        for block in x.chunks_exact_mut((self.hadamard.order() * width).max(1)) {
            product(&self.hadamard, block, false);
        }
        self.scale(x);
    }

    fn undo<T: Float>(&self, x: &mut [T], width: usize) {
        if self.form == Form::FixesOnes {
            // Symmetric, so its own inverse.
            return self.apply(x, width);
        }
        for block in x.chunks_exact_mut(self.hadamard.order() * width) {
            self.hadamard.apply(block, width, true);
        }
        self.scale(x);
        self.flip(&self.signs, x, width);
    }

    /// `H^T D H`, with two roots of the scale.
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

    #[inline(always)]
    fn flip<T: Float>(&self, signs: &[bool], x: &mut [T], width: usize) {
        for (values, &negative) in x.chunks_exact_mut(width.max(1)).zip(signs) {
            let sign = T::sign(negative);
            values.iter_mut().for_each(|v| *v = *v * sign);
        }
    }

    #[inline(always)]
    fn scale<T: Float>(&self, x: &mut [T]) {
        let scale = T::inverse_root(self.hadamard.order());
        x.iter_mut().for_each(|v| *v = *v * scale);
    }
}
