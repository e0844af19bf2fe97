//! The operations that a CPU engine implements on cache-sized tiles. [`Scalar`] defines every result.

pub mod attention;
mod products;

pub use products::{BLOCK, PANEL, Panels, ProductSums, block_parts};

use crate::dtype::DType;
use crate::metric::{Histogram, Moments, PairSums, moments_leaf, pair_leaf};
use crate::quant::{EncodeError, Encoding, check_decoded, decoder, encoder, transcoder};
use crate::rotation::Rotation;
use alloc::vec::Vec;
use attention::AttentionHeads;
use core::ops::Range;

/// CPU engine: pure functions on tiles, callable from any thread.
///
/// Every implementation must return the same bytes and bits as [`Scalar`]. Slices of values are row-major.
/// Plans contain only types that [`decoder`] and [`encoder`] support, so an unsupported type never reaches a
/// kernel of a valid plan.
pub trait Kernels: Sync {
    /// Name shown in reports.
    fn name(&self) -> &'static str;

    /// Decodes whole blocks of `src` to `out.len()` values. The last lattice block may be partial.
    ///
    /// # Errors
    ///
    /// - [`EncodeError::F32Overflow`] for a finite binary64 value that binary32 cannot hold. All of `out` is
    ///   written; the value is infinite there.
    /// - [`EncodeError::NoCodec`] if the type has no decoder.
    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError>;

    /// Encodes whole rows or blocks of `src` to bytes.
    ///
    /// `importance` has one weight for each column of a row, or is `None`; see [`crate::quant::EncodeFn`].
    ///
    /// # Errors
    ///
    /// The refusals of the encoding: see [`EncodeError`]. After an error the content of `out` is unspecified.
    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError>;

    /// Decodes `src` and encodes the values, for callers that do not need the values.
    ///
    /// `values` is scratch space for all decoded values; its content afterwards is unspecified. An engine may
    /// process pieces that fit the L1 cache.
    ///
    /// # Errors
    ///
    /// Those of [`Kernels::decode`] and [`Kernels::encode`].
    fn recode(
        &self,
        from: DType,
        src: &[u8],
        to: Encoding,
        values: &mut [f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        self.decode(from, src, values)?;
        self.encode(to, values, None, out)
    }

    /// Moments of one leaf of [`crate::metric::LEAF`] or fewer values.
    fn moments(&self, values: &[f32]) -> Moments {
        moments_leaf(values)
    }

    /// Adds `values` to a histogram.
    fn count(&self, histogram: &mut Histogram, values: &[f32]) {
        histogram.add(values);
    }

    /// Error sums of one leaf. Both slices have the same length.
    fn pair(&self, reference: &[f32], candidate: &[f32]) -> PairSums {
        pair_leaf(reference, candidate)
    }

    /// Rotates one vector in every row of `x`: `rotation.len()` values, starting at column `at`.
    ///
    /// `x` is `[rows, stride]`, row-major.
    fn rotate_rows(&self, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
        for row in x.chunks_exact_mut(stride.max(1)) {
            if let Some(vector) = row.get_mut(at..at + rotation.len()) {
                rotation.rows(vector);
            }
        }
    }

    /// Rotates every column of `x`, which is `[rotation.len(), width]`, row-major.
    fn rotate_columns(&self, rotation: &Rotation, x: &mut [f32], width: usize) {
        rotation.columns(x, width);
    }

    /// [`Kernels::rotate_rows`] in binary64.
    fn rotate_rows_f64(&self, rotation: &Rotation, x: &mut [f64], stride: usize, at: usize) {
        for row in x.chunks_exact_mut(stride.max(1)) {
            if let Some(vector) = row.get_mut(at..).and_then(|r| r.get_mut(..rotation.len())) {
                rotation.rows(vector);
            }
        }
    }

    /// [`Kernels::rotate_columns`] in binary64.
    fn rotate_columns_f64(&self, rotation: &Rotation, x: &mut [f64], width: usize) {
        rotation.columns(x, width);
    }

    /// Multiplies the vectors of `x` with the columns `cols` of rows of a matrix, in binary32.
    ///
    /// `weights` is `[rows, cols.len()]`, row-major. The products of a row and a vector are added column by column in blocks
    /// of [`BLOCK`] columns, and the sums of the blocks in order. Columns of a row may come in several calls, from left to
    /// right, with the same sums.
    ///
    /// This is the one operation whose bits depend on the engine: engines with fused multiply-adds round once for each
    /// product, others twice. All of the first kind give the same bits, whatever their vectors.
    fn multiply(&self, x: &Panels, cols: Range<usize>, weights: &[f32], sums: ProductSums<'_>) {
        products::multiply(x, cols, weights, sums, |weight, x, sum| weight * x + sum);
    }

    /// Attention of one sequence in binary64: queries, keys and values are a run of heads for every position, oldest first.
    fn attend(&self, heads: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        attention::attend(heads, q, k, v)
    }

    /// Converts blocks to another type without changing any decoded value.
    ///
    /// # Errors
    ///
    /// - [`EncodeError::NotExact`] for a block that the target type cannot represent exactly.
    /// - [`EncodeError::NoCodec`] if there is no lossless conversion between the types.
    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), EncodeError>;
}

/// The reference engine: plain loops over the elements in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
        decoder(dtype).ok_or(EncodeError::NoCodec)?(src, out);
        check_decoded(dtype, src, out)
    }

    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        encoder(encoding).ok_or(EncodeError::NoCodec)?(src, importance, out)
    }

    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
        transcoder(from, to).ok_or(EncodeError::NoCodec)?(src, out)
    }
}
