//! What is launched on a device: PTX, made offline from the CUDA C in `kernels/` by `tests/generate/ptx.py`, which any
//! driver since CUDA 9 translates for its own device. Knows nothing of drivers.

use quantoscope_core::DType;

/// The types that have kernels.
pub const TYPES: [DType; 10] = [
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];
/// What values may be stored as.
pub const SOURCES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// A text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// That of a block type.
    Type(DType),
    /// Passes of rotations.
    Hadamard,
}

impl Text {
    /// Every text that there is.
    pub fn all() -> impl Iterator<Item = Text> {
        TYPES.into_iter().map(Text::Type).chain([Text::Hadamard])
    }

    /// What the driver is given; none for a type without kernels.
    ///
    /// Addresses are those of device memory, and those of values are aligned to 16 bytes; a count is of blocks or lines, and
    /// not 0. Where the definition refuses a value, or a result is not finite, an entry sets the 32-bit `refused` to 1, and
    /// nothing is said of the block or line that holds it.
    pub fn source(self) -> Option<&'static str> {
        Some(match self {
            Text::Type(DType::Q8_0) => include_str!("kernels/q8_0.ptx"),
            Text::Type(DType::Q4_0) => include_str!("kernels/q4_0.ptx"),
            Text::Type(DType::Q4_1) => include_str!("kernels/q4_1.ptx"),
            Text::Type(DType::Q5_0) => include_str!("kernels/q5_0.ptx"),
            Text::Type(DType::Q5_1) => include_str!("kernels/q5_1.ptx"),
            Text::Type(DType::Q2_K) => include_str!("kernels/q2_k.ptx"),
            Text::Type(DType::Q3_K) => include_str!("kernels/q3_k.ptx"),
            Text::Type(DType::Q4_K) => include_str!("kernels/q4_k.ptx"),
            Text::Type(DType::Q5_K) => include_str!("kernels/q5_k.ptx"),
            Text::Type(DType::Q6_K) => include_str!("kernels/q6_k.ptx"),
            Text::Type(_) => return None,
            Text::Hadamard => include_str!("kernels/hadamard.ptx"),
        })
    }

    /// Its entries.
    pub fn entries(self) -> &'static [&'static str] {
        match self {
            // Searches are long: how values are stored is a parameter.
            Text::Type(d) if d.block_len() == 256 => &["encode", "weigh", "decode"],
            Text::Type(_) => &["encode_f32", "encode_bf16", "encode_f16", "decode"],
            Text::Hadamard => &["turn"],
        }
    }
}
