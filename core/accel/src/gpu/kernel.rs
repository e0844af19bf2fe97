//! Which kernels there are, and the text of each. A kernel's file has the name of its scalar twin in `core::quant`.

use crate::device::Kernel;
use quantoscope_core::DType;

/// What quantize takes.
const SOURCES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// The block types.
const BLOCKS: [DType; 5] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1];

/// Every kernel that there is.
pub fn all() -> impl Iterator<Item = Kernel> {
    BLOCKS.into_iter().flat_map(|to| {
        let quantize = SOURCES.into_iter().map(move |from| Kernel::Quantize { from, to, weighted: false });
        quantize.chain([Kernel::Dequantize(to)])
    })
}

/// Its program.
pub fn text(kernel: Kernel) -> String {
    let load = match kernel {
        Kernel::Quantize { from: DType::F16, .. } => include_str!("f16.wgsl"),
        Kernel::Quantize { from: DType::BF16, .. } => include_str!("bf16.wgsl"),
        _ => include_str!("f32.wgsl"),
    };
    let block = match kernel.block() {
        DType::Q4_0 => include_str!("q4_0.wgsl"),
        DType::Q4_1 => include_str!("q4_1.wgsl"),
        DType::Q5_0 => include_str!("q5_0.wgsl"),
        DType::Q5_1 => include_str!("q5_1.wgsl"),
        _ => include_str!("q8_0.wgsl"),
    };
    [include_str!("float.wgsl"), include_str!("block.wgsl"), load, block].concat()
}

/// Workgroups of 64 invocations for so many blocks; an invocation writes whole words, so it quantizes two.
pub fn groups(kernel: Kernel, blocks: u32) -> u32 {
    match kernel {
        Kernel::Quantize { .. } => blocks.div_ceil(2 * 64),
        Kernel::Dequantize(_) => blocks.div_ceil(64),
        // Rotations are cut into tiles elsewhere.
        Kernel::Rotate(_) => 0,
    }
}
