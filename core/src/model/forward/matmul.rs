//! The products of a forward pass as a trait, so that a pass runs in binary64 or binary32.

use crate::kernels::attention::{self, AttentionHeads};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::Range;

/// Vectors, and the matrix that they are multiplied with.
#[derive(Clone, Debug)]
pub struct ProductTask {
    /// Vectors of `width` values.
    pub x: Vec<f64>,
    /// Values of a vector.
    pub width: usize,
    /// Whether the matrix is stored `[in, out]`.
    pub by_columns: bool,
    /// Results for each vector: rows of the matrix, or its columns if it is stored `[in, out]`.
    pub made: usize,
}

/// A part of a stage's work.
pub type StageWork<'a> = Box<dyn FnOnce() -> Vec<f64> + Send + 'a>;

/// The arithmetic between products. Implementations give the same bits: they differ in speed only.
pub trait Compute: Sync {
    /// Attention of one sequence.
    fn attend(&self, heads: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        attention::attend(heads, q, k, v)
    }

    /// The results of independent parts, joined in their order.
    fn join(&self, parts: Vec<StageWork<'_>>) -> Vec<f64> {
        parts.into_iter().flat_map(|part| part()).collect()
    }
}

/// The arithmetic of a pass.
pub trait MatMul: Compute {
    /// A product in progress.
    type Product: Product;

    /// Prepares a product with a matrix that arrives in parts.
    fn product(&self, task: ProductTask) -> Self::Product;
}

/// A product of vectors with a matrix whose binary32 values arrive in parts, each used once.
///
/// Results do not depend on the parts: the products of one result are added in an order that only the length of a row
/// determines.
pub trait Product: Debug + Sync {
    /// Results of some whole rows.
    type Tile: Send;

    /// Takes a part of the matrix, as binary32 in little-endian bytes.
    ///
    /// Rows arrive in order. Where a part does not have all columns, the other columns of its rows follow, from left to right.
    fn add(&mut self, rows: Range<usize>, cols: Range<usize>, values: &[u8]);

    /// Multiplies whole rows of a matrix that is stored `[out, in]`, on any thread.
    fn tile(&self, values: &[u8]) -> Self::Tile;

    /// Adds the results of [`Product::tile`] for rows from `row` on, in any order.
    fn put(&mut self, row: usize, tile: Self::Tile);

    /// The results: for each vector, one value for each row (or column) of the matrix.
    fn finish(self) -> Vec<f64>;
}
