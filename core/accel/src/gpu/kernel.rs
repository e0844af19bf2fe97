//! Which kernels there are, and the text of each. A kernel's file has the name of its scalar twin in `core::quant`.

use quantoscope_core::DType;
use std::fmt;

/// Values of a block of every type that is here.
const VALUES: usize = 32;
/// What quantize takes.
const SOURCES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// The block types.
const BLOCKS: [DType; 5] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1];

/// One thing that a device is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Stored values to blocks.
    Quantize {
        /// How the values are stored.
        from: DType,
        /// The block type.
        to: DType,
    },
    /// Blocks to binary32.
    Dequantize(DType),
}

impl Kernel {
    /// Every kernel that there is.
    pub fn all() -> impl Iterator<Item = Kernel> {
        BLOCKS.into_iter().flat_map(|to| {
            let quantize = SOURCES.into_iter().map(move |from| Kernel::Quantize { from, to });
            quantize.chain([Kernel::Dequantize(to)])
        })
    }

    /// The name of its entry point.
    pub fn entry(self) -> &'static str {
        match self {
            Kernel::Quantize { .. } => "quantize",
            Kernel::Dequantize(_) => "dequantize",
        }
    }

    /// The block type.
    pub(super) fn block(self) -> DType {
        match self {
            Kernel::Quantize { to, .. } => to,
            Kernel::Dequantize(from) => from,
        }
    }

    /// Its program.
    pub(super) fn text(self) -> String {
        let load = match self {
            Kernel::Quantize { from: DType::F16, .. } => include_str!("f16.wgsl"),
            Kernel::Quantize { from: DType::BF16, .. } => include_str!("bf16.wgsl"),
            _ => include_str!("f32.wgsl"),
        };
        let block = match self.block() {
            DType::Q4_0 => include_str!("q4_0.wgsl"),
            DType::Q4_1 => include_str!("q4_1.wgsl"),
            DType::Q5_0 => include_str!("q5_0.wgsl"),
            DType::Q5_1 => include_str!("q5_1.wgsl"),
            _ => include_str!("q8_0.wgsl"),
        };
        [include_str!("float.wgsl"), include_str!("block.wgsl"), load, block].concat()
    }

    /// Bytes that so many blocks are made from.
    pub(super) fn bytes_in(self, blocks: usize) -> usize {
        match self {
            Kernel::Quantize { from, .. } => blocks * VALUES * from.block_bytes() as usize,
            Kernel::Dequantize(from) => blocks * from.block_bytes() as usize,
        }
    }

    /// Bytes that so many blocks become.
    pub(super) fn bytes_out(self, blocks: usize) -> usize {
        match self {
            Kernel::Quantize { to, .. } => blocks * to.block_bytes() as usize,
            Kernel::Dequantize(_) => blocks * VALUES * size_of::<f32>(),
        }
    }

    /// Workgroups of 64 invocations for so many blocks; an invocation writes whole words, so it quantizes two.
    pub(super) fn groups(self, blocks: u32) -> u32 {
        match self {
            Kernel::Quantize { .. } => blocks.div_ceil(2 * 64),
            Kernel::Dequantize(_) => blocks.div_ceil(64),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kernel::Quantize { from, to } => write!(f, "{from} to {to}"),
            Kernel::Dequantize(from) => write!(f, "{from} to F32"),
        }
    }
}
