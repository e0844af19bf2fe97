//! Quantization types: the table of encoders, decoders and lossless transcoders, and the reasons for which
//! they refuse values.
//!
//! One file per block type. Functions take slices of numbers and bytes; files, containers and tensors are not
//! known here. Layouts and encoders of ggml types follow `ggml-common.h` and `ggml-quants.c` of ggml 0.25.
//! Encoded bytes are identical to those of ggml's reference quantizers (`quantize_row_*_ref`, and
//! `quantize_*` with an importance matrix) built for x86-64: IEEE binary32 in index order, without
//! contraction of multiply-adds. The lattice block is specified in the module `lattice`.
//!
//! Encoders and decoders are inline, so that an engine compiles them with its instruction set. Those of the IQ types are so only
//! in WebAssembly, where everything but the engines is compiled for size.
//!
//! Terms: `d` is the scale of a block, `q` an integer code, `w` a dequantized weight, `x` a value to be
//! encoded. A super-block is 256 values with sub-blocks of 16 or 32.

#![expect(
    clippy::indexing_slicing,
    reason = "blocks, sub-blocks and tables are arrays; their loops run over the lengths of these"
)]

mod apr;
mod block;
pub mod codebook;
mod encode_error;
pub mod gaussian_error;
mod grid;
mod grid_block;
mod grid_fit;
mod grids;
mod imatrix_weights;
mod iq1_m;
mod iq1_s;
mod iq1_search;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod lattice;
mod legacy_quants;
mod mlx;
mod mxfp4;
mod nearest_grid_point;
mod nvfp4;
mod plain;
mod positive_scale;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod scalar_search;
pub mod scale_search;
mod sign_grid;
pub mod six_bits;
mod super_block;
mod super_block_encode;
mod tq1_0;
mod tq2_0;
mod transcode;

use crate::dtype::DType;
use alloc::borrow::Cow;
use core::fmt;
pub use encode_error::EncodeError;
pub use scalar_search::ScalarSearch;
use scale_search::ScaleSearch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Target of an encoder: a dtype, and the rule that chooses its bytes if there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// The dtype with its only encoder.
    Type(DType),
    /// F16 that refuses NaN and infinity, for the lattice `.f16` file.
    F16Finite,
    /// Lattice block with scale and minimum.
    LatticeAsym,
    /// Lattice block around zero, with a bias of -8 scales.
    LatticeSym,
}

/// Use that an encoder makes of importance weights: one weight for each column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportanceUse {
    /// Not used.
    Ignored,
    /// Used if present.
    Optional,
    /// Used if present; without them the quality of the type is poor.
    Wanted,
    /// Required: the encoder refuses to work without them.
    Required,
}

impl Encoding {
    /// True if the encoder tries many scales per block even without importance weights, which takes tens of
    /// times longer.
    pub const fn searches(self) -> bool {
        use DType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS};
        use DType::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
        let Encoding::Type(d) = self else { return false };
        matches!(d, Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_NL | IQ4_XS | IQ3_S | IQ3_XXS)
            || matches!(d, IQ2_S | IQ2_XS | IQ2_XXS | IQ1_M | IQ1_S)
    }

    /// Use that the encoder makes of importance weights.
    pub const fn importance(self) -> ImportanceUse {
        use DType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS};
        use DType::{Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K};
        let Encoding::Type(d) = self else { return ImportanceUse::Ignored };
        match d {
            IQ2_XXS | IQ2_XS | IQ1_S | IQ1_M => ImportanceUse::Required,
            IQ2_S | IQ3_XXS | IQ3_S => ImportanceUse::Wanted,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_NL | IQ4_XS => {
                ImportanceUse::Optional
            }
            _ => ImportanceUse::Ignored,
        }
    }

    /// True if the encoder requires whole rows when importance weights are given, because the mean square of
    /// the row enters the weights of every block.
    ///
    /// Other encoders accept any run of whole blocks of a row, with the weights of its columns.
    pub const fn needs_whole_rows(self) -> bool {
        use DType::{Q4_0, Q4_1, Q5_0, Q5_1};
        matches!(self, Encoding::Type(Q4_0 | Q4_1 | Q5_0 | Q5_1))
    }

    /// Dtype of the encoded bytes.
    pub const fn dtype(self) -> DType {
        match self {
            Encoding::Type(d) => d,
            Encoding::F16Finite => DType::F16,
            Encoding::LatticeAsym | Encoding::LatticeSym => DType::LATTICE_Q4,
        }
    }

    /// Name shown to users: that of the dtype if it has one encoder.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Type(d) => d.name(),
            Encoding::F16Finite => "F16_FINITE",
            Encoding::LatticeAsym => "Q4_ASYM",
            Encoding::LatticeSym => "Q4_SYM",
        }
    }

    /// Parses a name, ignoring case; the inverse of [`Encoding::name`].
    ///
    /// # Errors
    ///
    /// [`Code::Usage`](crate::Code::Usage) for an unknown name.
    pub fn parse(text: &str) -> crate::Result<Encoding> {
        let special = [Encoding::F16Finite, Encoding::LatticeAsym, Encoding::LatticeSym];
        match special.into_iter().find(|e| e.name().eq_ignore_ascii_case(text)) {
            Some(e) => Ok(e),
            None => DType::parse(text).map(Encoding::Type),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.name().to_ascii_lowercase())
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Encoding, D::Error> {
        let text = Cow::<'de, str>::deserialize(d)?;
        Encoding::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Encoder: writes whole rows or blocks of `src` to exactly [`DType::bytes_for`] bytes.
///
/// Only the lattice block may end with a partial block. `importance` has one weight for each column of a row,
/// finite and not negative; `src` then consists of whole rows of that many columns. Unless
/// [`Encoding::needs_whole_rows`], a run of whole blocks of one row with the weights of its columns is
/// accepted as well. See [`Encoding::importance`].
///
/// # Errors
///
/// An [`EncodeError`] for the first value or block that cannot be encoded. Then the content of `out` is
/// unspecified.
///
/// # Panics
///
/// If the lengths do not match: a mistake of the caller, never the content of a file.
pub type EncodeFn = fn(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError>;

/// Decoder: reads whole blocks of `src` to `out.len()` values. Any bytes decode to some values.
///
/// A partial last block of lattice or APR is cut at the end of `out`. Values of [`DType::APR_Q8`] are the codes, without
/// the scale of their tensor.
///
/// # Panics
///
/// If the lengths do not match: a mistake of the caller, never the content of a file.
pub type DecodeFn = fn(src: &[u8], out: &mut [f32]);

/// Transcoder: rewrites whole blocks as another type; every decoded value stays the same to the bit.
///
/// # Errors
///
/// [`EncodeError::NotExact`] for the first block that the target type cannot represent.
///
/// # Panics
///
/// If the lengths do not match: a mistake of the caller, never the content of a file.
pub type TranscodeFn = fn(src: &[u8], out: &mut [u8]) -> Result<(), EncodeError>;

/// Expands one table in two forms: as function pointers, and as direct calls that an engine compiles again
/// with its instruction set.
macro_rules! codecs {
    (
        encode { $($encoding:pat => $encode:path,)* }
        search { $($searched:pat => $search:path,)* }
        decode { $($dtype:pat => $decode:path,)* }
    ) => {
        /// Returns the encoder of `e`, with scalar scale searches.
        ///
        /// ```
        /// use quantoscope_core::DType;
        /// use quantoscope_core::quant::{EncodeError, Encoding, decoder, encoder};
        ///
        /// let encode = encoder(Encoding::Type(DType::Q4_0)).unwrap();
        /// let (mut bytes, mut values) = ([0; 18], [0.0; 32]);
        /// encode(&[-8.0; 32], None, &mut bytes).unwrap();
        /// decoder(DType::Q4_0).unwrap()(&bytes, &mut values);
        /// assert_eq!(values, [-8.0; 32]);
        ///
        /// let mut row = [0.0; 32];
        /// row[3] = f32::NAN;
        /// assert_eq!(encode(&row, None, &mut bytes), Err(EncodeError::NonFinite { index: 3 }));
        /// ```
        pub fn encoder(e: Encoding) -> Option<EncodeFn> {
            match e {
                $($encoding => Some($encode),)*
                $(Encoding::Type($searched) => Some(|x, w, out| $search(ScalarSearch, x, w, out)),)*
                Encoding::Type(DType::MLX(of)) => mlx::encoder(of),
                _ => None,
            }
        }

        /// True if [`encoder`] has an encoder of `e`. Links none of them.
        pub const fn has_encoder(e: Encoding) -> bool {
            matches!(e, $($encoding)|* $(| Encoding::Type($searched))* | Encoding::Type(DType::MLX(_)))
        }

        /// True if [`decoder`] has a decoder of `d`. Links none of them.
        pub const fn has_decoder(d: DType) -> bool {
            matches!(d, $($dtype)|* | DType::MLX(_))
        }

        /// Returns the decoder of `d`.
        pub fn decoder(d: DType) -> Option<DecodeFn> {
            match d {
                $($dtype => Some($decode),)*
                DType::MLX(of) => mlx::decoder(of),
                _ => None,
            }
        }

        /// Calls the encoder of `e` with the scale searches of an engine; writes the same bytes as
        /// [`encoder`].
        ///
        /// # Errors
        ///
        /// Those of the encoder, and [`EncodeError::NoCodec`] if there is none.
        #[inline(always)]
        pub fn encode_with<S: ScaleSearch>(
            searches: S,
            e: Encoding,
            src: &[f32],
            importance: Option<&[f32]>,
            out: &mut [u8],
        ) -> Result<(), EncodeError> {
            match e {
                $($encoding => $encode(src, importance, out),)*
                $(Encoding::Type($searched) => $search(searches, src, importance, out),)*
                Encoding::Type(DType::MLX(of)) => mlx::encode(of, src, out),
                _ => Err(EncodeError::NoCodec),
            }
        }

        /// Calls the decoder of `d`.
        ///
        /// # Errors
        ///
        /// [`EncodeError::NoCodec`] if there is none, [`EncodeError::F32Overflow`] as in [`check_decoded`].
        #[inline(always)]
        pub fn decode_in_place(d: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
            match d {
                $($dtype => $decode(src, out),)*
                DType::MLX(of) => mlx::decode(of, src, out),
                _ => return Err(EncodeError::NoCodec),
            }
            check_decoded(d, src, out)
        }
    };
}

codecs! {
    encode {
        Encoding::F16Finite => plain::encode_f16_finite,
        Encoding::LatticeAsym => lattice::encode_asym,
        Encoding::LatticeSym => lattice::encode_sym,
        Encoding::Type(DType::F32) => plain::encode_f32,
        Encoding::Type(DType::F16) => plain::encode_f16,
        Encoding::Type(DType::BF16) => plain::encode_bf16,
        Encoding::Type(DType::Q8_0) => q8_0::encode,
        Encoding::Type(DType::IQ1_S) => iq1_s::encode,
        Encoding::Type(DType::IQ1_M) => iq1_m::encode,
        Encoding::Type(DType::IQ2_XXS) => iq2_xxs::encode,
        Encoding::Type(DType::IQ2_XS) => iq2_xs::encode,
        Encoding::Type(DType::IQ2_S) => iq2_s::encode,
        Encoding::Type(DType::IQ3_XXS) => iq3_xxs::encode,
        Encoding::Type(DType::IQ3_S) => iq3_s::encode,
        Encoding::Type(DType::TQ1_0) => tq1_0::encode,
        Encoding::Type(DType::TQ2_0) => tq2_0::encode,
        Encoding::Type(DType::MXFP4) => mxfp4::encode,
        Encoding::Type(DType::NVFP4) => nvfp4::encode,
        Encoding::Type(DType::Q1_0) => q1_0::encode,
        Encoding::Type(DType::Q2_0) => q2_0::encode,
    }
    search {
        DType::Q4_0 => q4_0::encode,
        DType::Q4_1 => q4_1::encode,
        DType::Q5_0 => q5_0::encode,
        DType::Q5_1 => q5_1::encode,
        DType::Q2_K => q2_k::encode,
        DType::Q3_K => q3_k::encode,
        DType::Q4_K => q4_k::encode,
        DType::Q5_K => q5_k::encode,
        DType::Q6_K => q6_k::encode,
        DType::IQ4_NL => iq4_nl::encode,
        DType::IQ4_XS => iq4_xs::encode,
    }
    decode {
        DType::F64 => plain::decode_f64,
        DType::F32 => plain::decode_f32,
        DType::F16 => plain::decode_f16,
        DType::BF16 => plain::decode_bf16,
        DType::F8_E4M3 => plain::decode_f8_e4m3,
        DType::F8_E5M2 => plain::decode_f8_e5m2,
        DType::Q8_0 => q8_0::decode,
        DType::Q4_0 => q4_0::decode,
        DType::Q4_1 => q4_1::decode,
        DType::Q5_0 => q5_0::decode,
        DType::Q5_1 => q5_1::decode,
        DType::Q8_1 => q8_1::decode,
        DType::Q2_K => q2_k::decode,
        DType::Q3_K => q3_k::decode,
        DType::Q4_K => q4_k::decode,
        DType::Q5_K => q5_k::decode,
        DType::Q6_K => q6_k::decode,
        DType::Q8_K => q8_k::decode,
        DType::IQ1_S => iq1_s::decode,
        DType::IQ1_M => iq1_m::decode,
        DType::IQ2_XXS => iq2_xxs::decode,
        DType::IQ2_XS => iq2_xs::decode,
        DType::IQ2_S => iq2_s::decode,
        DType::IQ3_XXS => iq3_xxs::decode,
        DType::IQ3_S => iq3_s::decode,
        DType::IQ4_NL => iq4_nl::decode,
        DType::IQ4_XS => iq4_xs::decode,
        DType::TQ1_0 => tq1_0::decode,
        DType::TQ2_0 => tq2_0::decode,
        DType::MXFP4 => mxfp4::decode,
        DType::NVFP4 => nvfp4::decode,
        DType::Q1_0 => q1_0::decode,
        DType::Q2_0 => q2_0::decode,
        DType::LATTICE_Q4 => lattice::decode,
        DType::APR_Q4 => apr::decode_q4,
        DType::APR_Q8 => apr::decode_q8,
    }
}

/// Returns the lossless transcoder between two types, if there is one.
pub fn transcoder(from: DType, to: DType) -> Option<TranscodeFn> {
    match (from, to) {
        (DType::LATTICE_Q4, DType::Q4_1) => Some(transcode::lattice_to_q4_1),
        (DType::LATTICE_Q4, DType::Q4_0) => Some(transcode::lattice_to_q4_0),
        (DType::Q4_1, DType::LATTICE_Q4) => Some(transcode::q4_1_to_lattice),
        (DType::APR_Q4, DType::Q4_0) => Some(transcode::apr_q4_to_q4_0),
        _ => None,
    }
}

/// Refuses the first finite value of `src` that became infinite in `values`, its decoded values.
///
/// # Errors
///
/// [`EncodeError::F32Overflow`]; only binary64 has such values.
#[inline(always)]
pub fn check_decoded(d: DType, src: &[u8], values: &[f32]) -> Result<(), EncodeError> {
    if d == DType::F64 { plain::check_f32_range(src, values) } else { Ok(()) }
}

/// Refuses the first NaN or infinity.
///
/// # Errors
///
/// [`EncodeError::NonFinite`].
#[inline(always)]
pub fn check_finite(values: &[f32]) -> Result<(), EncodeError> {
    const EXPONENT: u32 = 0x7F80_0000;
    let bad = |x: &f32| x.to_bits() & EXPONENT == EXPONENT;
    // Each chunk is tested without branches, so that the test vectorizes; only a chunk with a hit is
    // searched.
    for (n, chunk) in values.chunks(256).enumerate() {
        if chunk.iter().fold(false, |any, x| any | bad(x)) {
            let offset = chunk.iter().position(bad).unwrap_or(0);
            return Err(EncodeError::NonFinite { index: n * 256 + offset });
        }
    }
    Ok(())
}
