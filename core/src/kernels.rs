//! What a CPU engine does with cache-sized tiles. [`Scalar`] is the definition of every result.

use crate::dtype::DType;
use crate::metric::{Histogram, Moments, PairSums, moments_leaf, pair_leaf};
use crate::quant::{EncodeError, Encoding, check_decoded, decoder, encoder, transcoder};
use crate::rotation::Rotation;

/// A CPU engine: pure functions on tiles, callable from any thread.
///
/// Every implementation gives the bytes and bits that [`Scalar`] gives. A dtype or encoding that is not supported
/// does not reach a kernel: plans are made from [`decoder`] and [`encoder`], the table of what there is.
pub trait Kernels: Sync {
    /// The name shown in reports.
    fn name(&self) -> &'static str;

    /// Decodes whole blocks (the last lattice block may be partial) to `out.len()` values.
    ///
    /// Refuses a finite binary64 value that binary32 cannot hold; `out` then holds an infinity in its place, and all else.
    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError>;

    /// Encodes whole rows or blocks; `importance` has one weight per column of one row, where given.
    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError>;

    /// Decodes and encodes, for whoever does not need the values: `values` is room for all of them, and holds nothing of
    /// use afterwards. Refuses what [`Kernels::encode`] refuses of the decoded values.
    ///
    /// An engine may work through stretches that stay in the first-level cache.
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

    /// The moments of one leaf.
    fn moments(&self, values: &[f32]) -> Moments {
        moments_leaf(values)
    }

    /// Counts values.
    fn count(&self, histogram: &mut Histogram, values: &[f32]) {
        histogram.add(values);
    }

    /// The error of one leaf; the two slices are equally long.
    fn pair(&self, reference: &[f32], candidate: &[f32]) -> PairSums {
        pair_leaf(reference, candidate)
    }

    /// Rotates, in every row of `stride` values, the vector that begins at `at` and is as long as the rotation.
    fn rotate_rows(&self, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
        for row in x.chunks_exact_mut(stride.max(1)) {
            if let Some(vector) = row.get_mut(at..at + rotation.len()) {
                rotation.rows(vector);
            }
        }
    }

    /// Rotates every column of `x`, which has as many rows of `width` values as the rotation is long.
    fn rotate_columns(&self, rotation: &Rotation, x: &mut [f32], width: usize) {
        rotation.columns(x, width);
    }

    /// Rearranges blocks without loss, or refuses.
    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), EncodeError>;
}

/// The definition: plain loops, one element after the other.
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
