//! The table of encodings: who can encode what, who can decode what, and what an encoder may refuse.
//!
//! One file per block type; this file only names them. Nothing here knows of files, tensors, rows of a tensor
//! or containers: a slice of numbers goes in, bytes come out. The bytes are the contract: ggml's types equal
//! the reference quantizers of ggml 0.25 (`ggml-quants.c`) built for x86-64, that is IEEE binary32 in index
//! order with no multiply-add contracted; the lattice block is specified in `lattice`'s own module.

mod block;
pub mod codebook;
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
use crate::error::{Code, Error};
use alloc::borrow::Cow;
use core::fmt;
pub use scalar_search::ScalarSearch;
use scale_search::ScaleSearch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a tensor is written as: a dtype, or a dtype together with how its bytes are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// The dtype, by its one way of being written.
    Type(DType),
    /// F16 where the container allows finite values only (the lattice `.f16` file).
    F16Finite,
    /// The lattice block with scale and minimum.
    LatticeAsym,
    /// The lattice block around zero, its bias always -8 scales.
    LatticeSym,
}

/// What an encoder makes of an importance row: one weight for each column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportanceUse {
    /// It makes no difference.
    Ignored,
    /// It steers the search.
    Optional,
    /// As optional, but the few bits of the type serve badly without.
    Wanted,
    /// Without one the encoder refuses.
    Required,
}

impl Encoding {
    /// Whether its encoder tries many scales for each block even without importance, which takes tens of times longer
    /// than not to.
    pub const fn searches(self) -> bool {
        use DType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ4_NL, IQ4_XS};
        use DType::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
        let Encoding::Type(d) = self else { return false };
        matches!(d, Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_NL | IQ4_XS | IQ3_S | IQ3_XXS)
            || matches!(d, IQ2_S | IQ2_XS | IQ2_XXS | IQ1_M | IQ1_S)
    }

    /// What its encoder makes of an importance row.
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

    /// Whether, when importance is given, its encoder must see whole rows, for how loud a row is weighs in all of its
    /// blocks. The others take any run of whole blocks of a row with the importance of its columns.
    pub const fn needs_whole_rows(self) -> bool {
        use DType::{Q4_0, Q4_1, Q5_0, Q5_1};
        matches!(self, Encoding::Type(Q4_0 | Q4_1 | Q5_0 | Q5_1))
    }

    /// The dtype of the bytes.
    pub const fn dtype(self) -> DType {
        match self {
            Encoding::Type(d) => d,
            Encoding::F16Finite => DType::F16,
            Encoding::LatticeAsym | Encoding::LatticeSym => DType::LATTICE_Q4,
        }
    }

    /// The name shown to people: the dtype's, where that says it all.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Type(d) => d.name(),
            Encoding::F16Finite => "F16_FINITE",
            Encoding::LatticeAsym => "Q4_ASYM",
            Encoding::LatticeSym => "Q4_SYM",
        }
    }

    /// The encoding with this name, in any case; the inverse of [`Encoding::name`].
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

/// Why an encoder or transcoder would not write; indices count from the start of the slice it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// NaN or infinity where the encoding needs a number; the first one.
    NonFinite {
        /// Which element.
        index: usize,
    },
    /// A finite value for which a binary16 field would become infinite.
    F16Overflow {
        /// Which element.
        index: usize,
    },
    /// A finite value that bfloat16 would round to infinity.
    BF16Overflow {
        /// Which element.
        index: usize,
    },
    /// A finite binary64 value that binary32 would round to infinity.
    F32Overflow {
        /// Which element.
        index: usize,
    },
    /// A block whose values the target of a lossless transcode cannot hold.
    NotExact {
        /// Which block.
        block: usize,
    },
    /// The encoding needs an importance row, and there was none.
    NeedsImportance,
    /// There is no such codec. Plans are made from the tables of what there is, so this is a mistake of ours.
    NoCodec,
}

impl EncodeError {
    /// The error to show; its element counts from the start of the slice.
    pub fn error(self) -> Error {
        let new = |code, message: &str, at: usize| Error::new(code, message).element(at as u64);
        match self {
            EncodeError::NonFinite { index } => {
                new(Code::NonFinite, "NaN or infinity cannot be encoded", index)
            }
            EncodeError::F16Overflow { index } => {
                new(Code::F16Overflow, "the value is too large for the 16-bit float that must hold it", index)
            }
            EncodeError::BF16Overflow { index } => {
                new(Code::BF16Overflow, "the value is too large for BF16: it would become infinite", index)
            }
            EncodeError::F32Overflow { index } => {
                new(Code::F32Overflow, "the value is too large for F32: it would become infinite", index)
            }
            EncodeError::NotExact { block } => {
                let at = block as u64 * block::LEN as u64;
                Error::new(Code::NotExact, "the block here cannot be rewritten without changing its values")
                    .element(at)
            }
            EncodeError::NeedsImportance => Error::new(
                Code::NeedsImportance,
                "this type needs an importance matrix: its few bits must know which columns matter",
            ),
            EncodeError::NoCodec => {
                Error::new(Code::UnsupportedDtype, "this type cannot be decoded or encoded")
            }
        }
    }

    /// The same refusal, seen from a slice that starts `elements` earlier.
    #[must_use]
    pub fn shifted(self, elements: usize) -> EncodeError {
        match self {
            EncodeError::NonFinite { index } => EncodeError::NonFinite { index: index + elements },
            EncodeError::F16Overflow { index } => EncodeError::F16Overflow { index: index + elements },
            EncodeError::BF16Overflow { index } => EncodeError::BF16Overflow { index: index + elements },
            EncodeError::F32Overflow { index } => EncodeError::F32Overflow { index: index + elements },
            EncodeError::NotExact { block } => EncodeError::NotExact { block: block + elements / block::LEN },
            EncodeError::NeedsImportance | EncodeError::NoCodec => self,
        }
    }
}

impl From<EncodeError> for Error {
    fn from(r: EncodeError) -> Error {
        r.error()
    }
}

/// Encodes whole rows or whole blocks (only the lattice block may end in a partial one) into exactly the
/// bytes that [`DType::bytes_for`] says. `importance` holds one weight for each column of one row, none of them
/// negative or infinite, and `src` then whole rows of that many columns; [`Encoding::importance`] says who uses it.
/// Unless [`Encoding::needs_whole_rows`], a run of whole blocks of one row with the weights of its columns will do.
/// After a refusal `out` holds nothing of use.
///
/// # Panics
/// Where the lengths do not belong together: they are the caller's, never a file's.
pub type EncodeFn = fn(src: &[f32], importance: Option<&[f32]>, out: &mut [u8]) -> Result<(), EncodeError>;

/// Decodes whole blocks; the values after `out`'s end in a partial last lattice block are dropped. Any bytes
/// decode to something.
///
/// # Panics
/// Where the lengths do not belong together: they are the caller's, never a file's.
pub type DecodeFn = fn(src: &[u8], out: &mut [f32]);

/// Rewrites whole blocks as another type with every decoded value the same to the bit, or refuses.
///
/// # Panics
/// Where the lengths do not belong together: they are the caller's, never a file's.
pub type TranscodeFn = fn(src: &[u8], out: &mut [u8]) -> Result<(), EncodeError>;

/// One table, used in two ways: as function pointers, and called in place, so that an engine compiles the same source
/// once more for the instructions that it has.
macro_rules! codecs {
    (
        encode { $($encoding:pat => $encode:path,)* }
        search { $($searched:pat => $search:path,)* }
        decode { $($dtype:pat => $decode:path,)* }
    ) => {
        /// How to write `e`, where we can.
        pub fn encoder(e: Encoding) -> Option<EncodeFn> {
            match e {
                $($encoding => Some($encode),)*
                $(Encoding::Type($searched) => Some(|x, w, out| $search(ScalarSearch, x, w, out)),)*
                _ => None,
            }
        }

        /// How to read `d`, where we can.
        pub fn decoder(d: DType) -> Option<DecodeFn> {
            match d {
                $($dtype => Some($decode),)*
                _ => None,
            }
        }

        /// What [`encoder`] names, called here, with an engine's searches; the same bytes.
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
                _ => Err(EncodeError::NoCodec),
            }
        }

        /// What [`decoder`] names, called here.
        #[inline(always)]
        pub fn decode_in_place(d: DType, src: &[u8], out: &mut [f32]) -> Result<(), EncodeError> {
            match d {
                $($dtype => $decode(src, out),)*
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
    }
}

/// How to rewrite `from` as `to` without decoding, where that can be lossless.
pub fn transcoder(from: DType, to: DType) -> Option<TranscodeFn> {
    match (from, to) {
        (DType::LATTICE_Q4, DType::Q4_1) => Some(transcode::lattice_to_q4_1),
        (DType::LATTICE_Q4, DType::Q4_0) => Some(transcode::lattice_to_q4_0),
        (DType::Q4_1, DType::LATTICE_Q4) => Some(transcode::q4_1_to_lattice),
        _ => None,
    }
}

/// Refuses the first finite value of `src` that became infinite in `values`, into which [`decoder`] decoded it.
#[inline(always)]
pub fn check_decoded(d: DType, src: &[u8], values: &[f32]) -> Result<(), EncodeError> {
    if d == DType::F64 { plain::check_f32_range(src, values) } else { Ok(()) }
}

/// Refuses the first NaN or infinity.
#[inline(always)]
pub fn check_finite(values: &[f32]) -> Result<(), EncodeError> {
    const EXPONENT: u32 = 0x7F80_0000;
    let bad = |x: &f32| x.to_bits() & EXPONENT == EXPONENT;
    // A whole stretch is judged without a branch, so that it vectorises; only a guilty one is searched.
    for (n, stretch) in values.chunks(256).enumerate() {
        if stretch.iter().fold(false, |any, x| any | bad(x)) {
            let within = stretch.iter().position(bad).unwrap_or(0);
            return Err(EncodeError::NonFinite { index: n * 256 + within });
        }
    }
    Ok(())
}
