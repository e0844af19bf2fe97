//! What devices can be asked for. A kernel's text has the name of its scalar twin in `core::quant`.

use quantoscope_core::DType;
use std::fmt;

/// One thing that a device is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Stored values to blocks.
    Quantize {
        /// How the values are stored.
        from: DType,
        /// The block type.
        to: DType,
        /// Whether columns have weights.
        weighted: bool,
    },
    /// Blocks to binary32.
    Dequantize(DType),
    /// A matrix, turned ([`super::rotation_passes::RotationTask`]).
    Rotate(Arithmetic),
}

/// What sums and products of a rotation are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// A float unit that no standard binds: it has to be seen to round to nearest, and declines values at which it would
    /// matter whether it flushes what is subnormal.
    Guarded,
    /// Whatever gives the definition's roundings of all values.
    Exact,
}

impl Kernel {
    /// The name of its entry point.
    pub fn entry(self) -> &'static str {
        match self {
            Kernel::Quantize { .. } => "quantize",
            Kernel::Dequantize(_) => "dequantize",
            Kernel::Rotate(_) => "turn",
        }
    }

    /// The block type.
    pub fn block(self) -> DType {
        match self {
            Kernel::Quantize { to, .. } => to,
            Kernel::Dequantize(from) => from,
            Kernel::Rotate(_) => DType::F32,
        }
    }

    /// What it reads.
    pub fn from(self) -> DType {
        match self {
            Kernel::Quantize { from, .. } | Kernel::Dequantize(from) => from,
            Kernel::Rotate(_) => DType::F32,
        }
    }

    /// What it writes.
    pub fn to(self) -> DType {
        match self {
            Kernel::Quantize { to, .. } => to,
            Kernel::Dequantize(_) | Kernel::Rotate(_) => DType::F32,
        }
    }

    /// Whether columns have weights.
    pub fn is_weighted(self) -> bool {
        matches!(self, Kernel::Quantize { weighted: true, .. })
    }

    /// Bytes that so many blocks are made from.
    pub fn bytes_in(self, blocks: usize) -> usize {
        blocks * bytes_of(self.from(), self.block())
    }

    /// Bytes that so many blocks become.
    pub fn bytes_out(self, blocks: usize) -> usize {
        blocks * bytes_of(self.to(), self.block())
    }
}

/// Bytes that the values of one block take in a type.
fn bytes_of(dtype: DType, block: DType) -> usize {
    (block.block_len() / dtype.block_len() * dtype.block_bytes()) as usize
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kernel::Rotate(Arithmetic::Guarded) => return f.write_str("rotations, guarded"),
            Kernel::Rotate(Arithmetic::Exact) => return f.write_str("rotations"),
            _ => {}
        }
        let weights = if self.is_weighted() { ", weighted" } else { "" };
        write!(f, "{} to {}{weights}", self.from(), self.to())
    }
}
