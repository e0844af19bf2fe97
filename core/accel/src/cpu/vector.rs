//! Kernels of one SIMD level: selects the implementation of each encoding.
//!
//! Results equal the CPU reference. Encodings without a vector implementation run the reference's source,
//! compiled with the instructions of the level: a compiler may vectorize loops but never reorders or
//! contracts float sums, so the result is the same by construction. Vector implementations are tested against
//! the reference.

use super::decode::{self, VectorDecoder};
use super::groups::{self, GroupEncoder};
use super::search::VectorSearch;
use super::single_blocks::{self, SingleEncoder};
use super::{SimdLevel, level_of, measure, products, rotation, small_blocks, super_blocks};
use fearless_simd::Simd;
use quantoscope_core::DType;
use quantoscope_core::kernels::attention::{self, AttentionHeads};
use quantoscope_core::kernels::{Kernels, Panels, ProductSums, Scalar};
use quantoscope_core::metric::{Histogram, Moments, PairSums};
use quantoscope_core::quant::{EncodeError, Encoding, decode_in_place, encode_with};
use quantoscope_core::rotation::Rotation;
use std::ops::Range;

/// Values per tile: 8 KiB of F32, so that values, input and output fit the L1 cache. A multiple of every
/// block length.
const TILE: usize = 2048;

/// Kernels of the level of token type `S`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector<S> {
    simd: S,
}

impl<S: Simd> Vector<S> {
    /// Creates the kernels from a token, which proves that the machine supports the level.
    pub(super) fn new(simd: S) -> Vector<S> {
        Vector { simd }
    }

    /// Recodes tile by tile, so that values stay in the L1 cache.
    ///
    /// # Errors
    /// [`EncodeError::NoCodec`] if the lengths do not match; otherwise an error whose index is relative to a
    /// tile.
    fn recode_tiles(
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
        let steps = bytes(from, TILE).zip(bytes(to.dtype(), TILE));
        let (step_in, step_out) = steps.filter(|_| fits).ok_or(EncodeError::NoCodec)?;
        for (k, (src, out)) in src.chunks(step_in).zip(out.chunks_mut(step_out)).enumerate() {
            let tile = &mut values[..TILE.min(n - k * TILE)];
            self.decode(from, src, tile)?;
            self.encode(to, tile, None, out)?;
        }
        Ok(())
    }

    /// AVX2 kernels, for the encodings that were measured to be faster with them than with AVX-512.
    fn narrower(&self, encoding: Encoding) -> Option<&'static dyn Kernels> {
        let narrow = matches!(encoding, Encoding::Type(DType::Q4_0 | DType::Q4_1 | DType::Q1_0));
        (narrow && level_of(self.simd) == SimdLevel::Avx512).then(|| SimdLevel::Avx2.kernels())
    }

    fn decode_blocks<T: VectorDecoder<N, B>, const N: usize, const B: usize>(
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

    /// Encodes with the vector searches, or with the reference's source compiled for this level.
    fn encode_searching(
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

    fn encode_groups<T: GroupEncoder<B>, const B: usize>(
        &self,
        encoding: Encoding,
        src: &[f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let reference = |src: &[f32], out: &mut [u8]| self.encode_searching(encoding, src, None, out);
        self.simd.vectorize(
            #[inline(always)]
            || groups::encode::<T, S, B>(self.simd, &reference, src, out),
        )
    }

    fn encode_single<T: SingleEncoder<N, B>, const N: usize, const B: usize>(
        &self,
        encoding: Encoding,
        src: &[f32],
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let reference = |src: &[f32], out: &mut [u8]| self.encode_searching(encoding, src, None, out);
        self.simd.vectorize(
            #[inline(always)]
            || single_blocks::encode::<T, S, N, B>(self.simd, &reference, src, out),
        )
    }
}

impl<S: Simd> Kernels for Vector<S> {
    fn name(&self) -> &'static str {
        level_of(self.simd).name()
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
        match dtype {
            DType::Q4_0 => self.decode_blocks::<decode::Q4_0Decoder, 32, 18>(src, out),
            DType::Q4_1 => self.decode_blocks::<decode::Q4_1Decoder, 32, 20>(src, out),
            DType::Q8_0 => self.decode_blocks::<decode::Q8_0Decoder, 32, 34>(src, out),
            DType::Q5_0 => self.decode_blocks::<decode::Q5_0Decoder, 32, 22>(src, out),
            DType::Q5_1 => self.decode_blocks::<decode::Q5_1Decoder, 32, 24>(src, out),
            DType::IQ4_NL => self.decode_blocks::<decode::Iq4NlDecoder, 32, 18>(src, out),
            DType::MXFP4 => self.decode_blocks::<decode::Mxfp4Decoder, 32, 17>(src, out),
            DType::NVFP4 => self.decode_blocks::<decode::Nvfp4Decoder, 64, 36>(src, out),
            DType::Q2_K => self.decode_blocks::<super_blocks::Q2KDecoder, 256, 84>(src, out),
            DType::Q3_K => self.decode_blocks::<super_blocks::Q3KDecoder, 256, 110>(src, out),
            DType::Q4_K => self.decode_blocks::<super_blocks::Q4KDecoder, 256, 144>(src, out),
            DType::Q5_K => self.decode_blocks::<super_blocks::Q5KDecoder, 256, 176>(src, out),
            DType::Q6_K => self.decode_blocks::<super_blocks::Q6KDecoder, 256, 210>(src, out),
            DType::IQ4_XS => self.decode_blocks::<super_blocks::Iq4XsDecoder, 256, 136>(src, out),
            DType::TQ2_0 => self.decode_blocks::<super_blocks::Tq20Decoder, 256, 66>(src, out),
            DType::LATTICE_Q4 if out.len().is_multiple_of(32) => {
                self.decode_blocks::<decode::LatticeDecoder, 32, 20>(src, out)
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
        // With importance weights, all types search for scales.
        if importance.is_some() {
            return self.encode_searching(encoding, src, importance, out);
        }
        if let Some(kernels) = self.narrower(encoding) {
            return kernels.encode(encoding, src, None, out);
        }
        match encoding {
            Encoding::LatticeAsym => {
                self.encode_groups::<small_blocks::LatticeAsymEncoder, 20>(encoding, src, out)
            }
            Encoding::LatticeSym => {
                self.encode_groups::<small_blocks::LatticeSymEncoder, 20>(encoding, src, out)
            }
            Encoding::Type(DType::Q4_0) => {
                self.encode_groups::<small_blocks::Q4_0Encoder, 18>(encoding, src, out)
            }
            Encoding::Type(DType::Q4_1) => {
                self.encode_groups::<small_blocks::Q4_1Encoder, 20>(encoding, src, out)
            }
            Encoding::Type(DType::Q5_0) => {
                self.encode_groups::<small_blocks::Q5_0Encoder, 22>(encoding, src, out)
            }
            Encoding::Type(DType::Q5_1) => {
                self.encode_groups::<small_blocks::Q5_1Encoder, 24>(encoding, src, out)
            }
            Encoding::Type(DType::Q8_0) => {
                self.encode_groups::<small_blocks::Q8_0Encoder, 34>(encoding, src, out)
            }
            Encoding::Type(DType::MXFP4) => {
                self.encode_groups::<small_blocks::Mxfp4Encoder, 17>(encoding, src, out)
            }
            Encoding::Type(DType::NVFP4) => {
                self.encode_single::<single_blocks::Nvfp4Encoder, 64, 36>(encoding, src, out)
            }
            Encoding::Type(DType::TQ1_0) => {
                self.encode_single::<single_blocks::Tq10Encoder, 256, 54>(encoding, src, out)
            }
            Encoding::Type(DType::TQ2_0) => {
                self.encode_single::<single_blocks::Tq20Encoder, 256, 66>(encoding, src, out)
            }
            Encoding::Type(DType::Q2_0) => {
                self.encode_single::<single_blocks::Q20Encoder, 64, 18>(encoding, src, out)
            }
            Encoding::Type(DType::Q1_0) => {
                self.encode_single::<single_blocks::Q10Encoder, 1024, 144>(encoding, src, out)
            }
            e => self.encode_searching(e, src, importance, out),
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
        if self.recode_tiles(from, src, to, values, out).is_ok() {
            return Ok(());
        }
        // The error must name the index in the whole input.
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

    fn rotate_rows_f64(&self, rotation: &Rotation, x: &mut [f64], stride: usize, at: usize) {
        self.simd.vectorize(
            #[inline(always)]
            || rotation::rows_f64(self.simd, rotation, x, stride, at),
        );
    }

    fn rotate_columns_f64(&self, rotation: &Rotation, x: &mut [f64], width: usize) {
        self.simd.vectorize(
            #[inline(always)]
            || rotation::columns_f64(rotation, x, width),
        );
    }

    fn multiply(&self, x: &Panels, cols: Range<usize>, weights: &[f32], sums: ProductSums<'_>) {
        // The AVX2 kernel was measured to be faster, and gives the same bits.
        if level_of(self.simd) == SimdLevel::Avx512 {
            return SimdLevel::Avx2.kernels().multiply(x, cols, weights, sums);
        }
        self.simd.vectorize(
            #[inline(always)]
            || products::multiply(self.simd, x, cols, weights, sums),
        );
    }

    fn attend(&self, heads: &AttentionHeads<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        self.simd.vectorize(
            #[inline(always)]
            || attention::attend(heads, q, k, v),
        )
    }

    fn transcode(&self, from: DType, to: DType, src: &[u8], out: &mut [u8]) -> Result<(), EncodeError> {
        Scalar.transcode(from, to, src, out)
    }
}
