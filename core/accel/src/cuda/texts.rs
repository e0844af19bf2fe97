//! What is launched on a device: PTX, made offline from the CUDA C in `kernels/` by `tests/generate/ptx.py`, which any
//! driver since CUDA 9 translates for its own device. Knows nothing of drivers.

use quantoscope_core::DType;

/// The entry that decodes: `(blocks, values, count)`.
pub const DECODE: &str = "decode";
/// The types that have kernels.
pub const TYPES: [DType; 5] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1];
/// What values may be stored as.
pub const SOURCES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];
/// Values of a block.
pub const LEN: usize = 32;
/// Threads of a group.
pub const THREADS: u32 = 256;
/// Threads that share a block.
const LANES: u32 = 8;

/// The text for a type. It has an entry for each of [`encode`] and one for [`DECODE`].
///
/// Addresses are those of device memory, and those of values are aligned to 16 bytes; a count is of blocks, and not 0.
pub fn text(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Q8_0 => include_str!("kernels/q8_0.ptx"),
        DType::Q4_0 => include_str!("kernels/q4_0.ptx"),
        DType::Q4_1 => include_str!("kernels/q4_1.ptx"),
        DType::Q5_0 => include_str!("kernels/q5_0.ptx"),
        DType::Q5_1 => include_str!("kernels/q5_1.ptx"),
        _ => return None,
    })
}

/// The entry that encodes values stored as `source`: `(values, blocks, refused, count)`. It sets the 32-bit `refused` to 1
/// where the definition refuses any of the values, and then nothing is said of the block that holds it.
pub fn encode(source: DType) -> Option<&'static str> {
    Some(match source {
        DType::F32 => "encode_f32",
        DType::BF16 => "encode_bf16",
        DType::F16 => "encode_f16",
        _ => return None,
    })
}

/// How many groups do so many blocks.
pub const fn groups(blocks: u32) -> u32 {
    blocks.div_ceil(THREADS / LANES)
}

/// The entries of every text.
pub fn entries() -> impl Iterator<Item = &'static str> {
    SOURCES.into_iter().filter_map(encode).chain([DECODE])
}

/// The bytes that an entry reads and writes for so many blocks of a type; none for what is no entry.
pub fn sizes(dtype: DType, entry: &str, blocks: u32) -> Option<(u64, u64)> {
    let packed = dtype.bytes_for(u64::from(blocks) * LEN as u64)?;
    let values = |d: DType| d.bytes_for(u64::from(blocks) * LEN as u64);
    if entry == DECODE {
        return Some((packed, values(DType::F32)?));
    }
    let source = SOURCES.into_iter().find(|&s| encode(s) == Some(entry))?;
    Some((values(source)?, packed))
}
