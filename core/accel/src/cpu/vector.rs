//! The kernels of one level of vectors: the one place where an encoding is given to the code that is fastest for it.
//!
//! Bytes are those of the definition. What is not named here is the definition's own source, compiled once more with
//! the instructions of the level: a compiler may widen loops, but it never reorders or contracts sums, so that the
//! result is the same by construction. Hand-written code stands beside this file, and is held against the definition.

use super::decode::{self, VectorDecoder};
use super::groups::{self, GroupEncoder};
use super::search::VectorSearch;
use super::single_blocks::{self, SingleEncoder};
use super::{SimdLevel, level_of, measure, rotation, small_blocks, super_blocks};
use fearless_simd::Simd;
use quantoscope_core::DType;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::metric::{Histogram, Moments, PairSums};
use quantoscope_core::quant::{EncodeError, Encoding, decode_in_place, encode_with, encoder};
use quantoscope_core::rotation::Rotation;

/// Values of a stretch: 8 KiB, which leave room in the first-level cache for what they are made from and into. A
/// multiple of every block.
const STRETCH: usize = 2048;

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

    /// Recodes stretch after stretch, each while its values are in the first-level cache; none where lengths misfit.
    fn by_stretches(
        &self,
        from: DType,
        src: &[u8],
        to: Encoding,
        values: &mut [f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let bytes = |d: DType, n: usize| d.bytes_for(n as u64).and_then(|b| usize::try_from(b).ok());
        let n = values.len();
        let fits = bytes(from, n) == Some(src.len()) && bytes(to.dtype(), n) == Some(out.len());
        let steps = bytes(from, STRETCH).zip(bytes(to.dtype(), STRETCH));
        let (step_in, step_out) = steps.filter(|_| fits).ok_or(EncodeError::NoCodec)?;
        let stretches = src.chunks(step_in).zip(out.chunks_mut(step_out)).enumerate();
        for (k, (src, out)) in stretches {
            let room = &mut values[..STRETCH.min(n - k * STRETCH)];
            self.decode(from, src, room)?;
            self.encode(to, room, None, out)?;
        }
        Ok(())
    }

    /// The kernels of vectors half as wide, for the encodings that were measured to be faster with them.
    fn halved(&self, encoding: Encoding) -> Option<&'static dyn Kernels> {
        let narrow = matches!(encoding, Encoding::Type(DType::Q4_0 | DType::Q4_1 | DType::Q1_0));
        (narrow && level_of(self.simd) == SimdLevel::Avx512).then(|| SimdLevel::Avx2.kernels())
    }

    fn spread<T: VectorDecoder<N, B>, const N: usize, const B: usize>(
        &self,
        src: &[u8],
        out: &mut [f32],
    ) -> Result<(), EncodeError> {
        self.simd.vectorize(
            #[inline(always)]
            || decode::decode::<T, S, N, B>(self.simd, src, out),
        );
        Ok(())
    }

    /// Encodes with the searches of this level, or as the definition does with its instructions.
    fn searching(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        self.simd.vectorize(
            #[inline(always)]
            || encode_with(VectorSearch(self.simd), encoding, src, importance, out),
        )
    }

    fn in_groups<T: GroupEncoder<B>, const B: usize>(
        &self,
        encoding: Encoding,
        src: &[f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let definition = encoder(encoding).ok_or(EncodeError::NoCodec)?;
        self.simd.vectorize(
            #[inline(always)]
            || groups::encode::<T, S, B>(self.simd, definition, src, out),
        )
    }

    fn in_pieces<T: SingleEncoder<N, B>, const N: usize, const B: usize>(
        &self,
        encoding: Encoding,
        src: &[f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let definition = encoder(encoding).ok_or(EncodeError::NoCodec)?;
        self.simd.vectorize(
            #[inline(always)]
            || single_blocks::encode::<T, S, N, B>(self.simd, definition, src, out),
        )
    }
}

impl<S: Simd> Kernels for Vector<S> {
    fn name(&self) -> &'static str {
        level_of(self.simd).name()
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
        match dtype {
            DType::Q4_0 => self.spread::<decode::Q4_0, 32, 18>(src, out),
            DType::Q4_1 => self.spread::<decode::Q4_1, 32, 20>(src, out),
            DType::Q8_0 => self.spread::<decode::Q8_0, 32, 34>(src, out),
            DType::Q5_0 => self.spread::<decode::Q5_0, 32, 22>(src, out),
            DType::Q5_1 => self.spread::<decode::Q5_1, 32, 24>(src, out),
            DType::IQ4_NL => self.spread::<decode::Iq4Nl, 32, 18>(src, out),
            DType::MXFP4 => self.spread::<decode::Mxfp4, 32, 17>(src, out),
            DType::NVFP4 => self.spread::<decode::Nvfp4Decoder, 64, 36>(src, out),
            DType::Q2_K => self.spread::<super_blocks::Q2K, 256, 84>(src, out),
            DType::Q3_K => self.spread::<super_blocks::Q3K, 256, 110>(src, out),
            DType::Q4_K => self.spread::<super_blocks::Q4K, 256, 144>(src, out),
            DType::Q5_K => self.spread::<super_blocks::Q5K, 256, 176>(src, out),
            DType::Q6_K => self.spread::<super_blocks::Q6K, 256, 210>(src, out),
            DType::IQ4_XS => self.spread::<super_blocks::Iq4Xs, 256, 136>(src, out),
            DType::TQ2_0 => self.spread::<super_blocks::Tq20Decoder, 256, 66>(src, out),
            DType::LATTICE_Q4 if out.len().is_multiple_of(32) => {
                self.spread::<decode::Lattice, 32, 20>(src, out)
            }
            _ => self.simd.vectorize(
                #[inline(always)]
                || decode_in_place(dtype, src, out),
            ),
        }
    }

    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        // With weights these search as the others do.
        if importance.is_some() {
            return self.searching(encoding, src, importance, out);
        }
        if let Some(kernels) = self.halved(encoding) {
            return kernels.encode(encoding, src, None, out);
        }
        match encoding {
            Encoding::LatticeAsym => self.in_groups::<small_blocks::LatticeAsym, 20>(encoding, src, out),
            Encoding::LatticeSym => self.in_groups::<small_blocks::LatticeSym, 20>(encoding, src, out),
            Encoding::Type(DType::Q4_0) => self.in_groups::<small_blocks::Q4_0, 18>(encoding, src, out),
            Encoding::Type(DType::Q4_1) => self.in_groups::<small_blocks::Q4_1, 20>(encoding, src, out),
            Encoding::Type(DType::Q5_0) => self.in_groups::<small_blocks::Q5_0, 22>(encoding, src, out),
            Encoding::Type(DType::Q5_1) => self.in_groups::<small_blocks::Q5_1, 24>(encoding, src, out),
            Encoding::Type(DType::Q8_0) => self.in_groups::<small_blocks::Q8_0, 34>(encoding, src, out),
            Encoding::Type(DType::MXFP4) => self.in_groups::<small_blocks::Mxfp4, 17>(encoding, src, out),
            Encoding::Type(DType::NVFP4) => {
                self.in_pieces::<single_blocks::Nvfp4, 64, 36>(encoding, src, out)
            }
            Encoding::Type(DType::TQ1_0) => {
                self.in_pieces::<single_blocks::Tq10, 256, 54>(encoding, src, out)
            }
            Encoding::Type(DType::TQ2_0) => {
                self.in_pieces::<single_blocks::Tq20, 256, 66>(encoding, src, out)
            }
            Encoding::Type(DType::Q2_0) => self.in_pieces::<single_blocks::Q20, 64, 18>(encoding, src, out),
            Encoding::Type(DType::Q1_0) => {
                self.in_pieces::<single_blocks::Q10, 1024, 144>(encoding, src, out)
            }
            e => self.searching(e, src, importance, out),
        }
    }

    fn recode(
        &self,
        from: DType,
        src: &[u8],
        to: Encoding,
        values: &mut [f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        if let (DType::F32, Ok(values)) = (from, bytemuck::try_cast_slice(src)) {
            return self.encode(to, values, None, out);
        }
        if self.by_stretches(from, src, to, values, out).is_ok() {
            return Ok(());
        }
        // Which value is to blame is a matter of the whole.
        self.decode(from, src, values)?;
        self.encode(to, values, None, out)
    }

    fn moments(&self, values: &[f32]) -> Moments {
        self.simd.vectorize(
            #[inline(always)]
            || measure::moments(self.simd, values),
        )
    }

    fn count(&self, histogram: &mut Histogram, values: &[f32]) {
        self.simd.vectorize(
            #[inline(always)]
            || histogram.add(values),
        );
    }

    fn pair(&self, reference: &[f32], candidate: &[f32]) -> PairSums {
        self.simd.vectorize(
            #[inline(always)]
            || measure::pair(self.simd, reference, candidate),
        )
    }

    fn rotate_rows(&self, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
        self.simd.vectorize(
            #[inline(always)]
            || rotation::rows(self.simd, rotation, x, stride, at),
        );
    }

    fn rotate_columns(&self, rotation: &Rotation, x: &mut [f32], width: usize) {
        self.simd.vectorize(
            #[inline(always)]
            || rotation::columns(rotation, x, width),
        );
    }

    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
        Scalar.transcode(from, to, src, out)
    }
}
