//! What a CPU engine does with cache-sized tiles. [`Scalar`] is the definition of every result.

use crate::dtype::DType;
use crate::quant::{Encoding, Refused, decoder, encoder, transcoder};

/// A CPU engine: pure functions on tiles, callable from any thread.
///
/// Every implementation gives the bytes and bits that [`Scalar`] gives. A dtype or encoding that is not supported
/// does not reach a kernel: plans are made from [`decoder`] and [`encoder`], the table of what there is.
pub trait Kernels: Sync {
    /// The name shown in reports.
    fn name(&self) -> &'static str;

    /// Decodes whole blocks (the last lattice block may be partial) to `out.len()` values.
    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), Refused>;

    /// Encodes whole rows or blocks; `importance` has one weight per column of one row, where given.
    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), Refused>;

    /// Rearranges blocks without loss, or refuses.
    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), Refused>;
}

/// The definition: plain loops, one element after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), Refused> {
        decoder(dtype).ok_or(Refused::NoCodec).map(|decode| decode(src, out))
    }

    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), Refused> {
        encoder(encoding).ok_or(Refused::NoCodec)?(src, importance, out)
    }

    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        transcoder(from, to).ok_or(Refused::NoCodec)?(src, out)
    }
}
