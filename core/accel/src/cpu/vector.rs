//! The kernels of one level of vectors: the one place where an encoding is given to the code that is fastest for it.
//!
//! Bytes are those of the definition. What is not named here is the definition's own source, compiled once more with
//! the instructions of the level: a compiler may widen loops, but it never reorders or contracts sums, so that the
//! result is the same by construction. Hand-written code stands beside this file, and is held against the definition.

use super::level_of;
use super::search::Lanes;
use fearless_simd::Simd;
use quantoscope_core::DType;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::{Encoding, Refused, decode_in_place, encode_with};

/// The kernels of the level that `S` proves.
#[derive(Clone, Copy, Debug)]
pub struct Vector<S> {
    simd: S,
}

impl<S: Simd> Vector<S> {
    /// From the proof that the machine has the level.
    pub fn new(simd: S) -> Vector<S> {
        Vector { simd }
    }
}

impl<S: Simd> Kernels for Vector<S> {
    fn name(&self) -> &'static str {
        level_of(self.simd).name()
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), Refused> {
        self.simd.vectorize(
            #[inline(always)]
            || decode_in_place(dtype, src, out),
        )
    }

    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), Refused> {
        self.simd.vectorize(
            #[inline(always)]
            || encode_with(Lanes(self.simd), encoding, src, importance, out),
        )
    }

    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), Refused> {
        Scalar.transcode(from, to, src, out)
    }
}
