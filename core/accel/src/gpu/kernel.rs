//! The list of kernels and their WGSL source, in `kernels/`. A kernel's file is named after its CPU reference
//! in `core::quant`.

use crate::device::Kernel;
use quantoscope_core::DType;

/// Float types that quantize kernels read.
const SOURCES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// Block types with kernels.
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
/// Values of a super-block. These types have weighted kernels too.
const SUPER_BLOCK: u64 = 256;
/// Invocations per workgroup.
const GROUP: u32 = 64;

fn is_super_block(block: DType) -> bool {
    block.block_len() == SUPER_BLOCK
}

/// All kernels.
pub(super) fn all() -> impl Iterator<Item = Kernel> {
    BLOCKS.into_iter().flat_map(|to| {
        let weights = if is_super_block(to) { &[false, true][..] } else { &[false] };
        let quantize = move |&weighted| SOURCES.map(move |from| Kernel::Quantize { from, to, weighted });
        weights.iter().flat_map(quantize).chain([Kernel::Dequantize(to)])
    })
}

/// WGSL source of a kernel.
pub(super) fn source(kernel: Kernel) -> String {
    let load = match kernel {
        _ if is_super_block(kernel.block()) => include_str!("kernels/load_any.wgsl"),
        Kernel::Quantize { from: DType::F16, .. } => include_str!("kernels/load_f16.wgsl"),
        Kernel::Quantize { from: DType::BF16, .. } => include_str!("kernels/load_bf16.wgsl"),
        _ => include_str!("kernels/load_f32.wgsl"),
    };
    let shared: &[&str] = match is_super_block(kernel.block()) {
        true => &[
            include_str!("kernels/hardware_f32.wgsl"),
            include_str!("kernels/scale_search.wgsl"),
            include_str!("kernels/super_block.wgsl"),
        ],
        false => &[include_str!("kernels/small_blocks.wgsl")],
    };
    let weighted = format!("const WEIGHTED = {};\n", kernel.is_weighted());
    let common = [include_str!("kernels/soft_f32.wgsl"), include_str!("kernels/memory.wgsl"), load];
    [&[&*weighted][..], &common, shared, files_of(kernel.block())].concat().concat()
}

/// The files of a block type.
fn files_of(block: DType) -> &'static [&'static str] {
    const ASYMMETRIC: &str = include_str!("kernels/asymmetric.wgsl");
    const SIX_BITS: &str = include_str!("kernels/six_bits.wgsl");
    match block {
        DType::Q4_0 => &[include_str!("kernels/q4_0.wgsl")],
        DType::Q4_1 => &[include_str!("kernels/q4_1.wgsl")],
        DType::Q5_0 => &[include_str!("kernels/q5_0.wgsl")],
        DType::Q5_1 => &[include_str!("kernels/q5_1.wgsl")],
        DType::Q2_K => &[ASYMMETRIC, include_str!("kernels/q2_k.wgsl")],
        DType::Q3_K => &[include_str!("kernels/q3_k.wgsl")],
        DType::Q4_K => &[ASYMMETRIC, SIX_BITS, include_str!("kernels/q4_k.wgsl")],
        DType::Q5_K => &[ASYMMETRIC, SIX_BITS, include_str!("kernels/q5_k.wgsl")],
        DType::Q6_K => &[include_str!("kernels/q6_k.wgsl")],
        _ => &[include_str!("kernels/q8_0.wgsl")],
    }
}

/// Number of workgroups for `blocks` blocks. An invocation of quantize does two small blocks (whole words) or
/// one sub-block; an invocation of dequantize does one small block or one sub-block.
pub(super) fn groups(kernel: Kernel, blocks: u32) -> u32 {
    let invocations = match (kernel.block(), kernel) {
        (DType::Q4_K | DType::Q5_K, _) => 8 * blocks,
        (block, _) if is_super_block(block) => 16 * blocks,
        (_, Kernel::Quantize { .. }) => blocks.div_ceil(2),
        (_, Kernel::Dequantize(_)) => blocks,
        // See `DispatchPlan`.
        (_, Kernel::Rotate(_)) => 0,
    };
    invocations.div_ceil(GROUP)
}

/// Number of the source type in `load_any.wgsl`.
pub(super) fn kind(kernel: Kernel) -> u32 {
    SOURCES.iter().position(|&from| from == kernel.from()).unwrap_or(0) as u32
}
