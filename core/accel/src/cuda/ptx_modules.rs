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
pub enum PtxModule {
    /// That of a block type.
    Type(DType),
    /// Passes of rotations.
    Hadamard,
}

impl PtxModule {
    /// Every text that there is.
    pub fn all() -> impl Iterator<Item = PtxModule> {
        TYPES.into_iter().map(PtxModule::Type).chain([PtxModule::Hadamard])
    }

    /// What the driver is given; none for a type without kernels.
    ///
    /// Addresses are those of device memory, and those of values are aligned to 16 bytes; a count is of blocks or lines, and
    /// not 0. Where the definition refuses a value, or a result is not finite, an entry sets the 32-bit `refused` to 1, and
    /// nothing is said of the block or line that holds it.
    pub fn source(self) -> Option<&'static str> {
        Some(match self {
            PtxModule::Type(DType::Q8_0) => include_str!("kernels/q8_0.ptx"),
            PtxModule::Type(DType::Q4_0) => include_str!("kernels/q4_0.ptx"),
            PtxModule::Type(DType::Q4_1) => include_str!("kernels/q4_1.ptx"),
            PtxModule::Type(DType::Q5_0) => include_str!("kernels/q5_0.ptx"),
            PtxModule::Type(DType::Q5_1) => include_str!("kernels/q5_1.ptx"),
            PtxModule::Type(DType::Q2_K) => include_str!("kernels/q2_k.ptx"),
            PtxModule::Type(DType::Q3_K) => include_str!("kernels/q3_k.ptx"),
            PtxModule::Type(DType::Q4_K) => include_str!("kernels/q4_k.ptx"),
            PtxModule::Type(DType::Q5_K) => include_str!("kernels/q5_k.ptx"),
            PtxModule::Type(DType::Q6_K) => include_str!("kernels/q6_k.ptx"),
            PtxModule::Type(_) => return None,
            PtxModule::Hadamard => include_str!("kernels/hadamard.ptx"),
        })
    }

    /// Its entries.
    pub fn entries(self) -> &'static [&'static str] {
        match self {
            // Searches are long: how values are stored is a parameter.
            PtxModule::Type(d) if d.block_len() == 256 => &["encode", "weigh", "decode"],
            PtxModule::Type(_) => &["encode_f32", "encode_bf16", "encode_f16", "decode"],
            PtxModule::Hadamard => &["turn"],
        }
    }
}
