//! Storage types of tensor elements, plain or in blocks, and their size in bytes.
//!
//! One table holds everything: names in safetensors and ggml, ggml type numbers, block sizes. Which types can
//! be decoded and encoded is defined in [`crate::quant`].
//!
//! Sources: type numbers and block sizes from `ggml.h` and `ggml-common.h` of ggml 0.25; names from the
//! `Dtype` enum of the safetensors crate.

mod mlx;

use crate::error::{Code, Error, Result};
use alloc::format;
use core::fmt;
pub use mlx::{MlxFloat, MlxType};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Kind of numbers that a dtype stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DTypeKind {
    /// One floating-point number per element.
    Float,
    /// Integers, booleans and complex numbers: never quantized.
    Integer,
    /// Blocks of integer codes that share scales.
    Quantized,
}

/// One row of the table; sizes are those of one block.
struct DTypeRow {
    /// Name shown to users.
    name: &'static str,
    /// Name in a safetensors header.
    safetensors: Option<&'static str>,
    /// Number in ggml's `enum ggml_type`.
    ggml: Option<u32>,
    /// Elements of a block; 1 for plain types.
    block_len: u32,
    /// Bytes of a block.
    block_bytes: u32,
    /// Kind of numbers.
    kind: DTypeKind,
}

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $st:expr, $ggml:expr, $len:literal, $bytes:literal, $kind:ident;)*) => {
        /// Storage type of a tensor's elements: a plain number type, or a block type of ggml or lattice.
        ///
        /// The numbers in the variants' names are ggml's: bits per weight without scales.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)]
        pub enum DType {
            $($(#[$doc])* $variant,)*
            /// A group of MLX's affine mode: codes of 2 to 8 bits, scale and bias. Not in [`DType::ALL`].
            MLX(MlxType),
            /// A type of a GGUF file that this version does not know. Its size is not known either: the tensor
            /// ends where the next one starts.
            UNKNOWN,
        }

        impl DType {
            /// All known dtypes but those of MLX, in table order.
            pub const ALL: &'static [DType] = &[$(DType::$variant,)*];

            const fn row(self) -> DTypeRow {
                match self { $(DType::$variant => DTypeRow {
                    name: $name, safetensors: $st, ggml: $ggml,
                    block_len: $len, block_bytes: $bytes, kind: DTypeKind::$kind,
                },)*
                DType::MLX(mlx) => mlx.row(),
                DType::UNKNOWN => DTypeRow {
                    name: "unknown", safetensors: None, ggml: None, block_len: 1, block_bytes: 1,
                    kind: DTypeKind::Quantized,
                } }
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
    /// OCP 8-bit float: 4 exponent bits, bias 7, no infinity.
    F8_E4M3: "F8_E4M3", Some("F8_E4M3"), None, 1, 1, Float;
    /// OCP 8-bit float: 5 exponent bits, bias 15.
    F8_E5M2: "F8_E5M2", Some("F8_E5M2"), None, 1, 1, Float;
    /// 8-bit float with 4 exponent bits, bias 8, no infinity and no negative zero.
    F8_E4M3FNUZ: "F8_E4M3FNUZ", Some("F8_E4M3FNUZ"), None, 1, 1, Float;
    /// 8-bit float with 5 exponent bits, bias 16, no infinity and no negative zero.
    F8_E5M2FNUZ: "F8_E5M2FNUZ", Some("F8_E5M2FNUZ"), None, 1, 1, Float;
    /// OCP 8-bit scale: a power of two, no sign, no mantissa.
    F8_E8M0: "F8_E8M0", Some("F8_E8M0"), None, 1, 1, Float;
    /// OCP 6-bit float with 2 exponent bits; four elements in three bytes.
    F6_E2M3: "F6_E2M3", Some("F6_E2M3"), None, 4, 3, Float;
    /// OCP 6-bit float with 3 exponent bits; four elements in three bytes.
    F6_E3M2: "F6_E3M2", Some("F6_E3M2"), None, 4, 3, Float;
    /// OCP 4-bit float (E2M1); two elements in a byte.
    F4: "F4", Some("F4"), None, 2, 1, Float;
    /// Complex number of two binary32.
    C64: "C64", Some("C64"), None, 1, 8, Integer;
    /// Boolean, one byte of 0 or 1.
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
    /// ggml: 32 codes of 4 bits and one scale.
    Q4_0: "Q4_0", None, Some(2), 32, 18, Quantized;
    /// ggml: 32 codes of 4 bits, scale and minimum.
    Q4_1: "Q4_1", None, Some(3), 32, 20, Quantized;
    /// ggml: 32 codes of 5 bits and one scale.
    Q5_0: "Q5_0", None, Some(6), 32, 22, Quantized;
    /// ggml: 32 codes of 5 bits, scale and minimum.
    Q5_1: "Q5_1", None, Some(7), 32, 24, Quantized;
    /// ggml: 32 codes of 8 bits and one scale.
    Q8_0: "Q8_0", None, Some(8), 32, 34, Quantized;
    /// ggml: Q8_0 with the scaled sum of the block's codes; used for activations.
    Q8_1: "Q8_1", None, Some(9), 32, 36, Quantized;
    /// ggml k-quant: codes of 2 bits, 16 sub-blocks with 4-bit scales and minima.
    Q2_K: "Q2_K", None, Some(10), 256, 84, Quantized;
    /// ggml k-quant: codes of 3 bits, 16 sub-blocks with 6-bit scales.
    Q3_K: "Q3_K", None, Some(11), 256, 110, Quantized;
    /// ggml k-quant: codes of 4 bits, 8 sub-blocks with 6-bit scales and minima.
    Q4_K: "Q4_K", None, Some(12), 256, 144, Quantized;
    /// ggml k-quant: codes of 5 bits, 8 sub-blocks with 6-bit scales and minima.
    Q5_K: "Q5_K", None, Some(13), 256, 176, Quantized;
    /// ggml k-quant: codes of 6 bits, 16 sub-blocks with 8-bit scales.
    Q6_K: "Q6_K", None, Some(14), 256, 210, Quantized;
    /// ggml: 256 codes of 8 bits with an F32 scale and block sums; used for activations.
    Q8_K: "Q8_K", None, Some(15), 256, 292, Quantized;
    /// ggml i-quant: groups of 8 weights on a grid of 256 points, 2.06 bits per weight.
    IQ2_XXS: "IQ2_XXS", None, Some(16), 256, 66, Quantized;
    /// ggml i-quant: groups of 8 weights on a grid of 512 points, 2.31 bits per weight.
    IQ2_XS: "IQ2_XS", None, Some(17), 256, 74, Quantized;
    /// ggml i-quant: groups of 4 weights on a grid of 256 points, 3.06 bits per weight.
    IQ3_XXS: "IQ3_XXS", None, Some(18), 256, 98, Quantized;
    /// ggml i-quant: groups of 8 weights on a grid of 2048 ternary points, 1.56 bits per weight.
    IQ1_S: "IQ1_S", None, Some(19), 256, 50, Quantized;
    /// ggml i-quant: 32 codes of 4 bits into a fixed non-linear codebook, one scale.
    IQ4_NL: "IQ4_NL", None, Some(20), 32, 18, Quantized;
    /// ggml i-quant: groups of 4 weights on a grid of 512 points, 3.44 bits per weight.
    IQ3_S: "IQ3_S", None, Some(21), 256, 110, Quantized;
    /// ggml i-quant: groups of 8 weights on a grid of 1024 points, 2.56 bits per weight.
    IQ2_S: "IQ2_S", None, Some(22), 256, 82, Quantized;
    /// ggml i-quant: the codebook of IQ4_NL, 8 sub-blocks with 6-bit scales.
    IQ4_XS: "IQ4_XS", None, Some(23), 256, 136, Quantized;
    /// ggml i-quant: the grid of IQ1_S with finer scales and shifts, 1.75 bits per weight.
    IQ1_M: "IQ1_M", None, Some(29), 256, 56, Quantized;
    /// ggml ternary type: five digits in a byte, 1.69 bits per weight.
    TQ1_0: "TQ1_0", None, Some(34), 256, 54, Quantized;
    /// ggml ternary type: four codes of 2 bits in a byte, 2.06 bits per weight.
    TQ2_0: "TQ2_0", None, Some(35), 256, 66, Quantized;
    /// OCP microscaling: 32 E2M1 floats and a power-of-two scale.
    MXFP4: "MXFP4", None, Some(39), 32, 17, Quantized;
    /// NVIDIA's 4-bit format: 64 E2M1 floats and an unsigned E4M3 scale for every 16.
    NVFP4: "NVFP4", None, Some(40), 64, 36, Quantized;
    /// ggml one-bit type: 128 signs and one scale.
    Q1_0: "Q1_0", None, Some(41), 128, 18, Quantized;
    /// ggml two-bit type: 64 codes of 2 bits and one scale.
    Q2_0: "Q2_0", None, Some(42), 64, 18, Quantized;
    /// Block of the [lattice](https://github.com/ohdearquant/lattice) `.q4` file: 32 codes of 4 bits, scale
    /// and bias.
    ///
    /// Blocks run over the *flattened* tensor, so a block may span rows and the last one may be partial.
    LATTICE_Q4: "LATTICE_Q4", None, None, 32, 20, Quantized;
    /// Native q4 of [aprender](https://github.com/paiml/aprender): 32 codes of 4 bits and one scale.
    ///
    /// Blocks run over the flattened tensor, as those of lattice do.
    APR_Q4: "APR_Q4", None, None, 32, 18, Quantized;
    /// Native q8 of aprender: codes of 8 bits behind one F32 scale for the whole tensor.
    APR_Q8: "APR_Q8", None, None, 1, 1, Quantized;
}

impl DType {
    /// Name shown to users; ggml's spelling if ggml has the type.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Name in a safetensors header, or `None` if safetensors does not have the type.
    pub const fn safetensors_name(self) -> Option<&'static str> {
        self.row().safetensors
    }

    /// Number in ggml's `enum ggml_type`, or `None` if ggml does not have the type.
    pub const fn ggml_id(self) -> Option<u32> {
        self.row().ggml
    }

    /// Elements of one block; 1 for plain types.
    pub const fn block_len(self) -> u64 {
        self.row().block_len as u64
    }

    /// Bytes of one block; of one element for plain types.
    pub const fn block_bytes(self) -> u64 {
        self.row().block_bytes as u64
    }

    /// Kind of numbers that the type stores.
    pub const fn kind(self) -> DTypeKind {
        self.row().kind
    }

    /// True for block types with shared scales.
    pub const fn is_quantized(self) -> bool {
        matches!(self.row().kind, DTypeKind::Quantized)
    }

    /// True if blocks run over the flattened tensor instead of along rows.
    ///
    /// For these types the number of columns need not be a multiple of the block length.
    pub const fn is_flat(self) -> bool {
        matches!(self, DType::LATTICE_Q4 | DType::APR_Q4 | DType::F4 | DType::F6_E2M3 | DType::F6_E3M2)
    }

    /// Bits per weight, scales included.
    ///
    /// ```
    /// use quantoscope_core::DType;
    ///
    /// assert_eq!(DType::BF16.bits_per_weight(), 16.0);
    /// assert_eq!(DType::Q4_K.bits_per_weight(), 4.5);
    /// ```
    pub fn bits_per_weight(self) -> f64 {
        (self.block_bytes() * 8) as f64 / self.block_len() as f64
    }

    /// Bytes of `n` consecutive elements: of a row, or for flat types of the whole tensor.
    ///
    /// Returns `None` if the size overflows 64 bits, or if `n` is not a multiple of the block length. Only
    /// the blocks of lattice and APR may be partial; their size is rounded up.
    ///
    /// ```
    /// use quantoscope_core::DType;
    ///
    /// assert_eq!(DType::Q8_0.bytes_for(64), Some(2 * 34));
    /// assert_eq!(DType::Q8_0.bytes_for(65), None);
    /// assert_eq!(DType::LATTICE_Q4.bytes_for(65), Some(3 * 20));
    /// ```
    pub fn bytes_for(self, n: u64) -> Option<u64> {
        let len = self.block_len();
        if !n.is_multiple_of(len) && !matches!(self, DType::LATTICE_Q4 | DType::APR_Q4) {
            return None;
        }
        n.div_ceil(len).checked_mul(self.block_bytes())
    }

    /// Bytes before the first element of a tensor: the F32 scale of [`DType::APR_Q8`].
    pub const fn prefix_bytes(self) -> u64 {
        if matches!(self, DType::APR_Q8) { 4 } else { 0 }
    }

    /// Bytes of a whole tensor of `n` elements; `None` as for [`DType::bytes_for`].
    ///
    /// ```
    /// use quantoscope_core::DType;
    ///
    /// assert_eq!(DType::APR_Q8.tensor_bytes(64), Some(4 + 64));
    /// assert_eq!(DType::APR_Q4.tensor_bytes(65), Some(3 * 18));
    /// ```
    pub fn tensor_bytes(self, n: u64) -> Option<u64> {
        self.bytes_for(n)?.checked_add(self.prefix_bytes())
    }

    /// Returns the dtype with this safetensors name.
    pub fn from_safetensors(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.safetensors_name() == Some(name))
    }

    /// Returns the dtype with this ggml type number.
    pub fn from_ggml(id: u32) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.ggml_id() == Some(id))
    }

    /// Parses the name of a dtype, ignoring case: `q4_0`, `BF16`, `lattice_q4`.
    ///
    /// # Errors
    ///
    /// [`Code::Usage`] if no dtype has this name.
    pub fn parse(text: &str) -> Result<DType> {
        let found = DType::ALL.iter().copied().find(|d| d.name().eq_ignore_ascii_case(text));
        found
            .or_else(|| MlxType::parse(text))
            .ok_or_else(|| Error::new(Code::Usage, format!("{text:?} is not a tensor type")))
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
