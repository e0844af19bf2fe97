//! Types of MLX's affine mode: codes of a few bits in groups along a row, with a scale and a bias for each group.
//!
//! In memory a group is one block: its codes, its scale, its bias. In a file the three are tensors of their own.
//!
//! Layout: `mx.quantize` of MLX 0.32. Knows no file format.

use super::{DType, DTypeKind, DTypeRow};

/// The float type of scales and biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MlxFloat {
    /// Bfloat16.
    Bf16,
    /// Binary16.
    F16,
    /// Binary32.
    F32,
}

impl MlxFloat {
    /// All of them, in the order of the names.
    const ALL: [MlxFloat; 3] = [MlxFloat::Bf16, MlxFloat::F16, MlxFloat::F32];

    /// The dtype.
    pub const fn dtype(self) -> DType {
        match self {
            MlxFloat::Bf16 => DType::BF16,
            MlxFloat::F16 => DType::F16,
            MlxFloat::F32 => DType::F32,
        }
    }

    /// The float type of this dtype, if MLX has scales of it.
    pub fn of(dtype: DType) -> Option<MlxFloat> {
        MlxFloat::ALL.into_iter().find(|float| float.dtype() == dtype)
    }

    const fn bytes(self) -> u32 {
        match self {
            MlxFloat::Bf16 | MlxFloat::F16 => 2,
            MlxFloat::F32 => 4,
        }
    }
}

/// A type of MLX's affine mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MlxType {
    bits: u8,
    group: u8,
    float: MlxFloat,
}

/// Bits, group, and the names by [`MlxFloat`].
struct MlxRow(u8, u8, [&'static str; 3]);

macro_rules! rows {
    ($($bits:literal, $group:literal;)*) => {
        const ROWS: [MlxRow; 18] = [$(MlxRow($bits, $group, [
            concat!("MLX_Q", $bits, "_G", $group),
            concat!("MLX_Q", $bits, "_G", $group, "_F16"),
            concat!("MLX_Q", $bits, "_G", $group, "_F32"),
        ]),)*];
    };
}

rows! {
    2, 32; 2, 64; 2, 128;
    3, 32; 3, 64; 3, 128;
    4, 32; 4, 64; 4, 128;
    5, 32; 5, 64; 5, 128;
    6, 32; 6, 64; 6, 128;
    8, 32; 8, 64; 8, 128;
}

impl MlxType {
    /// The number of types.
    pub const COUNT: usize = ROWS.len() * MlxFloat::ALL.len();

    /// The type of codes of `bits` bits in groups of `group` columns; `None` if MLX has none.
    ///
    /// ```
    /// use quantoscope_core::DType;
    /// use quantoscope_core::dtype::{MlxFloat, MlxType};
    ///
    /// let four = MlxType::new(4, 64, MlxFloat::Bf16).unwrap();
    /// assert_eq!(DType::MLX(four).name(), "MLX_Q4_G64");
    /// assert_eq!(DType::MLX(four).bits_per_weight(), 4.5);
    /// assert_eq!(MlxType::new(7, 64, MlxFloat::Bf16), None);
    /// ```
    pub fn new(bits: u64, group: u64, float: MlxFloat) -> Option<MlxType> {
        let row = ROWS.iter().find(|row| (u64::from(row.0), u64::from(row.1)) == (bits, group))?;
        Some(MlxType { bits: row.0, group: row.1, float })
    }

    /// Type number `index`, below [`MlxType::COUNT`]: by bits, then by group, then by float type.
    pub fn nth(index: usize) -> Option<MlxType> {
        let row = ROWS.get(index / MlxFloat::ALL.len())?;
        let float = MlxFloat::ALL.into_iter().nth(index % MlxFloat::ALL.len())?;
        Some(MlxType { bits: row.0, group: row.1, float })
    }

    /// The inverse of [`MlxType::nth`].
    pub(crate) fn index(self) -> usize {
        (0..MlxType::COUNT).find(|index| MlxType::nth(*index) == Some(self)).unwrap_or(0)
    }

    /// All types.
    pub fn all() -> impl Iterator<Item = MlxType> {
        (0..MlxType::COUNT).filter_map(MlxType::nth)
    }

    /// The types as people name them: those with scales in BF16, which stand for all three.
    pub fn named() -> impl Iterator<Item = MlxType> {
        MlxType::all().filter(|t| t.float == MlxFloat::Bf16)
    }

    /// Bits of a code.
    pub const fn bits(self) -> u64 {
        self.bits as u64
    }

    /// Columns of a group.
    pub const fn group(self) -> u64 {
        self.group as u64
    }

    /// The type of scales and biases.
    pub const fn float(self) -> MlxFloat {
        self.float
    }

    /// The same with scales of another type.
    #[must_use]
    pub const fn with_float(self, float: MlxFloat) -> MlxType {
        MlxType { float, ..self }
    }

    /// Bytes of the codes of a block: whole words of 32 bits.
    pub const fn code_bytes(self) -> u64 {
        self.group() * self.bits() / 8
    }

    pub(super) const fn row(self) -> DTypeRow {
        DTypeRow {
            name: self.name(),
            safetensors: None,
            ggml: None,
            block_len: self.group as u32,
            block_bytes: self.code_bytes() as u32 + 2 * self.float.bytes(),
            kind: DTypeKind::Quantized,
        }
    }

    const fn name(self) -> &'static str {
        let mut rows: &[MlxRow] = &ROWS;
        while let [MlxRow(bits, group, [bf16, f16, f32]), rest @ ..] = rows {
            if *bits == self.bits && *group == self.group {
                return match self.float {
                    MlxFloat::Bf16 => bf16,
                    MlxFloat::F16 => f16,
                    MlxFloat::F32 => f32,
                };
            }
            rows = rest;
        }
        ""
    }

    /// The type of this name, ignoring case. Without a group it has 64 columns: `mlx_q4`.
    pub(super) fn parse(text: &str) -> Option<DType> {
        let named = |text: &str| MlxType::all().find(|t| t.name().eq_ignore_ascii_case(text));
        let whole = || named(&alloc::format!("{text}_G64"));
        named(text).or_else(whole).map(DType::MLX)
    }
}
