//! Every way a tensor's elements are stored, plain or in blocks, and how many bytes that takes.
//!
//! One table drives everything: names in safetensors and ggml, ggml's type numbers, block sizes. Whether a
//! dtype can be decoded or encoded is the business of [`crate::quant`].
//! ggml numbers and sizes: `ggml.h` and `ggml-common.h` of ggml 0.25; safetensors names: its `Dtype`.

use crate::error::{Code, Error, Result};
use alloc::format;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What kind of numbers a dtype holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DTypeKind {
    /// Plain floating point.
    Float,
    /// Plain integers, booleans, and everything else that is no weight.
    Integer,
    /// Blocks with shared scales.
    Quantized,
}

/// One row of the table.
struct DTypeRow {
    name: &'static str,
    safetensors: Option<&'static str>,
    ggml: Option<u32>,
    block_len: u32,
    block_bytes: u32,
    kind: DTypeKind,
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $st:expr, $ggml:expr, $len:literal, $bytes:literal, $kind:ident;)*) => {
        /// A storable element type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every dtype, in table order.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            const fn row(self) -> DTypeRow {
                match self { $(DType::$variant => DTypeRow {
                    name: $name, safetensors: $st, ggml: $ggml,
                    block_len: $len, block_bytes: $bytes, kind: DTypeKind::$kind,
                },)* }
            }
        }
    };
}

dtypes! {
    /// IEEE binary64.
    F64: "F64", Some("F64"), Some(28), 1, 8, Float;
    /// IEEE binary32.
    F32: "F32", Some("F32"), Some(0), 1, 4, Float;
    /// IEEE binary16.
    F16: "F16", Some("F16"), Some(1), 1, 2, Float;
    /// The upper half of a binary32.
    BF16: "BF16", Some("BF16"), Some(30), 1, 2, Float;
    /// OCP 8-bit float, 4 exponent bits, finite.
    F8_E4M3: "F8_E4M3", Some("F8_E4M3"), None, 1, 1, Float;
    /// OCP 8-bit float, 5 exponent bits.
    F8_E5M2: "F8_E5M2", Some("F8_E5M2"), None, 1, 1, Float;
    /// 8-bit float without negative zero, 4 exponent bits.
    F8_E4M3FNUZ: "F8_E4M3FNUZ", Some("F8_E4M3FNUZ"), None, 1, 1, Float;
    /// 8-bit float without negative zero, 5 exponent bits.
    F8_E5M2FNUZ: "F8_E5M2FNUZ", Some("F8_E5M2FNUZ"), None, 1, 1, Float;
    /// A power of two, 8 exponent bits.
    F8_E8M0: "F8_E8M0", Some("F8_E8M0"), None, 1, 1, Float;
    /// 6-bit float, 2 exponent bits, four in three bytes.
    F6_E2M3: "F6_E2M3", Some("F6_E2M3"), None, 4, 3, Float;
    /// 6-bit float, 3 exponent bits, four in three bytes.
    F6_E3M2: "F6_E3M2", Some("F6_E3M2"), None, 4, 3, Float;
    /// 4-bit float, two in a byte.
    F4: "F4", Some("F4"), None, 2, 1, Float;
    /// Complex of two binary32.
    C64: "C64", Some("C64"), None, 1, 8, Integer;
    /// A byte, 0 or 1.
    BOOL: "BOOL", Some("BOOL"), None, 1, 1, Integer;
    /// Unsigned 8-bit integer.
    U8: "U8", Some("U8"), None, 1, 1, Integer;
    /// Unsigned 16-bit integer.
    U16: "U16", Some("U16"), None, 1, 2, Integer;
    /// Unsigned 32-bit integer.
    U32: "U32", Some("U32"), None, 1, 4, Integer;
    /// Unsigned 64-bit integer.
    U64: "U64", Some("U64"), None, 1, 8, Integer;
    /// Signed 8-bit integer.
    I8: "I8", Some("I8"), Some(24), 1, 1, Integer;
    /// Signed 16-bit integer.
    I16: "I16", Some("I16"), Some(25), 1, 2, Integer;
    /// Signed 32-bit integer.
    I32: "I32", Some("I32"), Some(26), 1, 4, Integer;
    /// Signed 64-bit integer.
    I64: "I64", Some("I64"), Some(27), 1, 8, Integer;
    /// ggml: 32 codes of 4 bits, one scale.
    Q4_0: "Q4_0", None, Some(2), 32, 18, Quantized;
    /// ggml: 32 codes of 4 bits, scale and minimum.
    Q4_1: "Q4_1", None, Some(3), 32, 20, Quantized;
    /// ggml: 32 codes of 5 bits, one scale.
    Q5_0: "Q5_0", None, Some(6), 32, 22, Quantized;
    /// ggml: 32 codes of 5 bits, scale and minimum.
    Q5_1: "Q5_1", None, Some(7), 32, 24, Quantized;
    /// ggml: 32 codes of 8 bits, one scale.
    Q8_0: "Q8_0", None, Some(8), 32, 34, Quantized;
    /// ggml: Q8_0 with a block sum, for activations.
    Q8_1: "Q8_1", None, Some(9), 32, 36, Quantized;
    /// ggml k-type, 2 bits.
    Q2_K: "Q2_K", None, Some(10), 256, 84, Quantized;
    /// ggml k-type, 3 bits.
    Q3_K: "Q3_K", None, Some(11), 256, 110, Quantized;
    /// ggml k-type, 4 bits.
    Q4_K: "Q4_K", None, Some(12), 256, 144, Quantized;
    /// ggml k-type, 5 bits.
    Q5_K: "Q5_K", None, Some(13), 256, 176, Quantized;
    /// ggml k-type, 6 bits.
    Q6_K: "Q6_K", None, Some(14), 256, 210, Quantized;
    /// ggml k-type, 8 bits, for activations.
    Q8_K: "Q8_K", None, Some(15), 256, 292, Quantized;
    /// ggml i-type.
    IQ2_XXS: "IQ2_XXS", None, Some(16), 256, 66, Quantized;
    /// ggml i-type.
    IQ2_XS: "IQ2_XS", None, Some(17), 256, 74, Quantized;
    /// ggml i-type.
    IQ3_XXS: "IQ3_XXS", None, Some(18), 256, 98, Quantized;
    /// ggml i-type.
    IQ1_S: "IQ1_S", None, Some(19), 256, 50, Quantized;
    /// ggml i-type, 32 codes into a fixed codebook.
    IQ4_NL: "IQ4_NL", None, Some(20), 32, 18, Quantized;
    /// ggml i-type.
    IQ3_S: "IQ3_S", None, Some(21), 256, 110, Quantized;
    /// ggml i-type.
    IQ2_S: "IQ2_S", None, Some(22), 256, 82, Quantized;
    /// ggml i-type.
    IQ4_XS: "IQ4_XS", None, Some(23), 256, 136, Quantized;
    /// ggml i-type.
    IQ1_M: "IQ1_M", None, Some(29), 256, 56, Quantized;
    /// ggml ternary type.
    TQ1_0: "TQ1_0", None, Some(34), 256, 54, Quantized;
    /// ggml ternary type.
    TQ2_0: "TQ2_0", None, Some(35), 256, 66, Quantized;
    /// OCP microscaling, 4-bit floats, a power-of-two scale.
    MXFP4: "MXFP4", None, Some(39), 32, 17, Quantized;
    /// 4-bit floats with 8-bit float scales.
    NVFP4: "NVFP4", None, Some(40), 64, 36, Quantized;
    /// ggml one-bit type.
    Q1_0: "Q1_0", None, Some(41), 128, 18, Quantized;
    /// ggml two-bit type.
    Q2_0: "Q2_0", None, Some(42), 64, 18, Quantized;
    /// The lattice block: 32 codes of 4 bits, scale and bias, over the *flattened* tensor.
    LATTICE_Q4: "LATTICE_Q4", None, None, 32, 20, Quantized;
}

impl DType {
    /// The name shown to people; ggml's spelling where ggml has the type.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The name in a safetensors header, where it may stand there.
    pub const fn safetensors_name(self) -> Option<&'static str> {
        self.row().safetensors
    }

    /// ggml's type number, where ggml has the type.
    pub const fn ggml_id(self) -> Option<u32> {
        self.row().ggml
    }

    /// Elements in one block; 1 for plain types.
    pub const fn block_len(self) -> u64 {
        self.row().block_len as u64
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> u64 {
        self.row().block_bytes as u64
    }

    /// What kind of numbers it holds.
    pub const fn kind(self) -> DTypeKind {
        self.row().kind
    }

    /// Whether it has blocks with shared scales.
    pub const fn is_quantized(self) -> bool {
        matches!(self.row().kind, DTypeKind::Quantized)
    }

    /// Whether blocks run over the flattened tensor (a partial last block is legal) and not along rows.
    pub const fn is_flat(self) -> bool {
        matches!(self, DType::LATTICE_Q4 | DType::F4 | DType::F6_E2M3 | DType::F6_E3M2)
    }

    /// Storage bits of one element.
    pub fn bits_per_weight(self) -> f64 {
        (self.block_bytes() * 8) as f64 / self.block_len() as f64
    }

    /// Bytes of `n` consecutive elements: a row, or for flat types the whole tensor.
    ///
    /// `None` where the product overflows, or where `n` is no whole number of blocks and the type allows
    /// no partial block (only the lattice block does).
    pub fn bytes_for(self, n: u64) -> Option<u64> {
        let len = self.block_len();
        if !n.is_multiple_of(len) && self != DType::LATTICE_Q4 {
            return None;
        }
        n.div_ceil(len).checked_mul(self.block_bytes())
    }

    /// The dtype with this safetensors name.
    pub fn from_safetensors(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.safetensors_name() == Some(name))
    }

    /// The dtype with this ggml type number.
    pub fn from_ggml(id: u32) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.ggml_id() == Some(id))
    }

    /// The dtype that a user typed, in any case: `q4_0`, `BF16`, `lattice_q4`.
    pub fn parse(text: &str) -> Result<DType> {
        let found = DType::ALL.iter().copied().find(|d| d.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| Error::new(Code::Usage, format!("{text:?} is not a tensor type")))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for DType {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for DType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<DType, D::Error> {
        let text = <alloc::borrow::Cow<'de, str>>::deserialize(d)?;
        DType::parse(&text).map_err(serde::de::Error::custom)
    }
}
