//! The kernels that a device may have. A kernel's source file is named after its CPU reference in
//! `core::quant`.

use quantoscope_core::DType;
use std::fmt;

/// One kernel of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Encodes floats to blocks.
    Quantize {
        /// Float type of the input.
        from: DType,
        /// Block type of the output.
        to: DType,
        /// Whether columns have importance weights.
        weighted: bool,
    },
    /// Decodes blocks to F32.
    Dequantize(DType),
    /// Applies gains and rotations to a matrix ([`super::rotation_passes::RotationTask`]).
    Rotate(Arithmetic),
}

/// Implementation of the binary32 operations of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// The device's float unit. WGSL does not fix its rounding, so the probe must show that it rounds to
    /// nearest, and the kernel declines values whose result could depend on flushing of subnormals.
    HardwareF32,
    /// Binary32 in integer operations: rounds as IEEE 754 on every device, for all values.
    SoftF32,
}

impl Kernel {
    /// Entry point name of its kind, as reports and the page show it.
    pub fn entry(self) -> &'static str {
        match self {
            Kernel::Quantize { .. } => "quantize",
            Kernel::Dequantize(_) => "dequantize",
            Kernel::Rotate(_) => "turn",
        }
    }

    /// Block type; F32 for rotations.
    pub fn block(self) -> DType {
        match self {
            Kernel::Quantize { to, .. } => to,
            Kernel::Dequantize(from) => from,
            Kernel::Rotate(_) => DType::F32,
        }
    }

    /// Input type.
    pub fn from(self) -> DType {
        match self {
            Kernel::Quantize { from, .. } | Kernel::Dequantize(from) => from,
            Kernel::Rotate(_) => DType::F32,
        }
    }

    /// Output type.
    pub fn to(self) -> DType {
        match self {
            Kernel::Quantize { to, .. } => to,
            Kernel::Dequantize(_) | Kernel::Rotate(_) => DType::F32,
        }
    }

    /// Whether columns have importance weights.
    pub fn is_weighted(self) -> bool {
        matches!(self, Kernel::Quantize { weighted: true, .. })
    }

    /// Input bytes of `blocks` blocks.
    pub fn bytes_in(self, blocks: usize) -> usize {
        blocks * bytes_of(self.from(), self.block())
    }

    /// Output bytes of `blocks` blocks.
    pub fn bytes_out(self, blocks: usize) -> usize {
        blocks * bytes_of(self.to(), self.block())
    }
}

/// Bytes of one block's values in `dtype`.
fn bytes_of(dtype: DType, block: DType) -> usize {
    (block.block_len() / dtype.block_len() * dtype.block_bytes()) as usize
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kernel::Rotate(Arithmetic::HardwareF32) => return f.write_str("rotations, guarded"),
            Kernel::Rotate(Arithmetic::SoftF32) => return f.write_str("rotations"),
            _ => {}
        }
        let weights = if self.is_weighted() { ", weighted" } else { "" };
        write!(f, "{} to {}{weights}", self.from(), self.to())
    }
}
