//! The PTX modules, compiled offline from the CUDA C in `kernels/` by `tests/generate/ptx.py`. Any driver
//! since CUDA 9 compiles them for its device. Knows no driver.

use quantoscope_core::DType;

/// Block types with kernels.
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
/// Float types that encode kernels read.
pub const SOURCES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// A PTX module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtxModule {
    /// Kernels of a block type.
    Type(DType),
    /// Passes of rotations ([`crate::device::rotation_passes`]).
    Hadamard,
}

impl PtxModule {
    /// All modules.
    pub fn all() -> impl Iterator<Item = PtxModule> {
        TYPES.into_iter().map(PtxModule::Type).chain([PtxModule::Hadamard])
    }

    /// PTX source; `None` for a type without kernels.
    ///
    /// Conventions of all entries: pointers are device addresses, those of values aligned to 16 bytes; counts
    /// are numbers of blocks or lines and not 0. If the CPU reference refuses a value, or a result is not
    /// finite, an entry sets the 32-bit `refused` to 1, and the output of that block or line is undefined.
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

    /// Entry names.
    pub fn entries(self) -> &'static [&'static str] {
        match self {
            // Scale searches are long, so the source type is a parameter.
            PtxModule::Type(d) if d.block_len() == 256 => &["encode", "weigh", "decode"],
            PtxModule::Type(_) => &["encode_f32", "encode_bf16", "encode_f16", "decode"],
            PtxModule::Hadamard => &["turn"],
        }
    }
}
