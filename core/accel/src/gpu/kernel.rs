//! Which kernels there are, and the text of each. A kernel's file has the name of its scalar twin in `core::quant`.

use crate::device::Kernel;
use quantoscope_core::DType;

/// What quantize takes.
const SOURCES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// The block types.
const BLOCKS: [DType; 10] = [
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
/// Values of a super-block: its quantize kernels are searches, and there are weighted ones.
const WIDE: u64 = 256;
/// Invocations of a workgroup.
const GROUP: u32 = 64;

fn is_wide(block: DType) -> bool {
    block.block_len() == WIDE
}

/// Every kernel that there is.
pub fn all() -> impl Iterator<Item = Kernel> {
    BLOCKS.into_iter().flat_map(|to| {
        let weights = if is_wide(to) { &[false, true][..] } else { &[false] };
        let quantize = move |&weighted| SOURCES.map(move |from| Kernel::Quantize { from, to, weighted });
        weights.iter().flat_map(quantize).chain([Kernel::Dequantize(to)])
    })
}

/// Its program.
pub fn text(kernel: Kernel) -> String {
    let load = match kernel {
        _ if is_wide(kernel.block()) => include_str!("any.wgsl"),
        Kernel::Quantize { from: DType::F16, .. } => include_str!("f16.wgsl"),
        Kernel::Quantize { from: DType::BF16, .. } => include_str!("bf16.wgsl"),
        _ => include_str!("f32.wgsl"),
    };
    let shared: &[&str] = match is_wide(kernel.block()) {
        true => &[include_str!("guarded.wgsl"), include_str!("search.wgsl"), include_str!("wide.wgsl")],
        false => &[include_str!("block.wgsl")],
    };
    let weighted = format!("const WEIGHTED = {};\n", kernel.is_weighted());
    let ground = [include_str!("float.wgsl"), include_str!("memory.wgsl"), load];
    [&[&*weighted][..], &ground, shared, own(kernel.block())].concat().concat()
}

/// The texts of a block type.
fn own(block: DType) -> &'static [&'static str] {
    const FITTED: &str = include_str!("with_minimum.wgsl");
    const SIX: &str = include_str!("six_bits.wgsl");
    match block {
        DType::Q4_0 => &[include_str!("q4_0.wgsl")],
        DType::Q4_1 => &[include_str!("q4_1.wgsl")],
        DType::Q5_0 => &[include_str!("q5_0.wgsl")],
        DType::Q5_1 => &[include_str!("q5_1.wgsl")],
        DType::Q2_K => &[FITTED, include_str!("q2_k.wgsl")],
        DType::Q3_K => &[include_str!("q3_k.wgsl")],
        DType::Q4_K => &[FITTED, SIX, include_str!("q4_k.wgsl")],
        DType::Q5_K => &[FITTED, SIX, include_str!("q5_k.wgsl")],
        DType::Q6_K => &[include_str!("q6_k.wgsl")],
        _ => &[include_str!("q8_0.wgsl")],
    }
}

/// Values that one invocation takes from quantize: two small blocks, which are whole words, or a part of a super-block.
/// Dequantize has one block, or the same part, for each.
pub fn groups(kernel: Kernel, blocks: u32) -> u32 {
    let invocations = match (kernel.block(), kernel) {
        (DType::Q4_K | DType::Q5_K, _) => 8 * blocks,
        (block, _) if is_wide(block) => 16 * blocks,
        (_, Kernel::Quantize { .. }) => blocks.div_ceil(2),
        (_, Kernel::Dequantize(_)) => blocks,
        // Rotations are cut into tiles elsewhere.
        (_, Kernel::Rotate(_)) => 0,
    };
    invocations.div_ceil(GROUP)
}

/// The number of its source, as texts know it that take several.
pub fn kind(kernel: Kernel) -> u32 {
    SOURCES.iter().position(|&from| from == kernel.from()).unwrap_or(0) as u32
}
