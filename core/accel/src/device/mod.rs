//! The interface of devices, their start-up probe, and the engine that uses them beside the CPU.
//!
//! A device returns encoded or decoded bytes and nothing else. A kernel is used only if it passed the probe
//! (`probe`): fixed cases whose bytes must equal the CPU reference. During use the CPU recomputes a random
//! sample of blocks, and the first difference ends the use of the device ([`Offload`]). Knows no backend
//! (`gpu`, `cuda`).

pub mod benchmark;
mod kernel;
mod offload;
mod probe;
mod probe_cases;
pub mod rotation_passes;
mod rotation_probe;

pub use kernel::{Arithmetic, Kernel};
pub use offload::{Offload, kernels};
pub use probe::{ProbeVerdict, probe_kernel};

use quantoscope_core::DType;
use quantoscope_core::error::Result;
use std::future::Future;
use std::pin::Pin;

/// A conversion of rows of stored values to another type.
#[derive(Clone, Copy, Debug)]
pub struct KernelTask<'a> {
    /// Type of the input.
    pub from: DType,
    /// Type of the output; F32 to decode only.
    pub to: DType,
    /// Values per row.
    pub width: usize,
    /// Input bytes: whole rows that are whole blocks of both types.
    pub src: &'a [u8],
    /// Importance weights, one per column (`width` of them); empty for none.
    pub weights: &'a [f32],
}

impl KernelTask<'_> {
    /// Number of values; `None` if the bytes are not whole blocks of both types or, with weights, not whole
    /// rows.
    pub fn values(&self) -> Option<usize> {
        let size = self.from.block_bytes() as usize;
        let values = (self.src.len() / size).checked_mul(self.from.block_len() as usize)?;
        let whole =
            self.src.len().is_multiple_of(size) && values.is_multiple_of(self.to.block_len() as usize);
        let rows = self.weights.is_empty()
            || self.weights.len() == self.width
                && self.width.is_multiple_of(self.to.block_len() as usize)
                && values.is_multiple_of(self.width.max(1));
        (whole && rows).then_some(values)
    }

    /// The kernels that the task runs, in order.
    pub fn kernels(&self) -> impl Iterator<Item = Kernel> + use<> {
        stages(self.from, self.to, !self.weights.is_empty())
    }
}

/// The kernels that convert one type to another: decode, encode, or both.
fn stages(from: DType, to: DType, weighted: bool) -> impl Iterator<Item = Kernel> {
    let is_float = matches!(from, DType::F32 | DType::F16 | DType::BF16);
    let decode = (!is_float).then_some(Kernel::Dequantize(from));
    let source = if is_float { from } else { DType::F32 };
    // Float to F32 has no kernel; the lookup of this one finds none and the task is declined.
    let encode = (is_float || to != DType::F32).then_some(Kernel::Quantize { from: source, to, weighted });
    decode.into_iter().chain(encode)
}

/// Outcome of a device task that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceOutcome {
    /// All output bytes are written and equal the CPU reference, as far as the device can tell.
    Done,
    /// The CPU must do the task, and report the error if a value cannot be encoded. The output is undefined.
    Declined,
}

/// Future of a device task.
pub type DeviceFuture<'a> = Pin<Box<dyn Future<Output = Result<DeviceOutcome>> + 'a>>;

/// A device that runs kernels, or a fake one in tests.
pub trait Device: Send + Sync {
    /// Name of the device and its API: `NVIDIA L4 (Vulkan)`.
    fn name(&self) -> &str;

    /// True for a software device, which runs on the CPU and is slow.
    fn is_software(&self) -> bool {
        false
    }

    /// Number of values per task at which the device reaches its best speed.
    fn preferred_batch(&self) -> usize {
        1 << 22
    }

    /// All kernels of the device, whether or not they pass the probe.
    fn kernels(&self) -> Vec<Kernel>;

    /// Runs a task on host memory. `out` has the length of the task's values in type `to`.
    ///
    /// Declines tasks without a kernel, lengths that are not whole blocks, and values that the CPU reference
    /// refuses.
    ///
    /// # Errors
    /// [`Code::Device`](quantoscope_core::error::Code::Device) if the device was lost or is out of memory;
    /// `out` is undefined then.
    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a>;

    /// Copies `src` to the device and `out.len()` bytes of any content back: the upper bound of every
    /// kernel's speed. Declines if the device does not implement it.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn copy_roundtrip<'a>(&'a self, _src: &'a [u8], _out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(std::future::ready(Ok(DeviceOutcome::Declined)))
    }

    /// Decodes a matrix, applies gains and rotations, and encodes it into `out`. Declines as [`Device::run`]
    /// does, and if the device has no rotation kernels.
    ///
    /// # Errors
    /// As [`Device::run`].
    fn rotate<'a>(
        &'a self,
        _matrix: rotation_passes::RotationTask<'a>,
        _arithmetic: Arithmetic,
        _out: &'a mut [u8],
    ) -> DeviceFuture<'a> {
        Box::pin(std::future::ready(Ok(DeviceOutcome::Declined)))
    }
}

impl<D: Device + ?Sized> Device for &D {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn is_software(&self) -> bool {
        (**self).is_software()
    }

    fn preferred_batch(&self) -> usize {
        (**self).preferred_batch()
    }

    fn kernels(&self) -> Vec<Kernel> {
        (**self).kernels()
    }

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        (**self).run(task, out)
    }

    fn copy_roundtrip<'a>(&'a self, src: &'a [u8], out: &'a mut [u8]) -> DeviceFuture<'a> {
        (**self).copy_roundtrip(src, out)
    }

    fn rotate<'a>(
        &'a self,
        matrix: rotation_passes::RotationTask<'a>,
        arithmetic: Arithmetic,
        out: &'a mut [u8],
    ) -> DeviceFuture<'a> {
        (**self).rotate(matrix, arithmetic, out)
    }
}
