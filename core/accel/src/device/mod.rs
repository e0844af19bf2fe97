//! Devices beside the processor: what they are asked for, what they may answer, and how little they are trusted.
//!
//! A device makes bytes and nothing else. It is asked only for kernels that answered known questions as the definition
//! does (`probe`), some of what it makes is made again by the processor, and the first difference ends its part
//! ([`Offload`]). Which device that is (`gpu`, `cuda`) is not known here.

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

/// Rows of stored values, and what they are to become.
#[derive(Clone, Copy, Debug)]
pub struct KernelTask<'a> {
    /// How the values are stored.
    pub from: DType,
    /// What they become; F32 where they are only decoded.
    pub to: DType,
    /// Values of a row.
    pub width: usize,
    /// The stored values: whole rows, whole blocks of both types.
    pub src: &'a [u8],
    /// One weight for each value of a row; empty where there are none.
    pub weights: &'a [f32],
}

impl KernelTask<'_> {
    /// How many values there are, where the bytes are whole blocks of both types (and rows are, where they must be).
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

    /// The kernels that do it, one after the other.
    pub fn kernels(&self) -> impl Iterator<Item = Kernel> + use<> {
        stages(self.from, self.to, !self.weights.is_empty())
    }
}

/// The kernels that make one type of another.
fn stages(from: DType, to: DType, weighted: bool) -> impl Iterator<Item = Kernel> {
    let plain = matches!(from, DType::F32 | DType::F16 | DType::BF16);
    let decode = (!plain).then_some(Kernel::Dequantize(from));
    let source = if plain { from } else { DType::F32 };
    // What is not packed needs no kernel; asking for one finds none.
    let encode = (plain || to != DType::F32).then_some(Kernel::Quantize { from: source, to, weighted });
    decode.into_iter().chain(encode)
}

/// Whether a device did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceOutcome {
    /// All bytes are there, and they are the definition's as far as the device can tell.
    Done,
    /// The processor has to do it, and to say what is wrong if a value is refused; what was written is of no use.
    Declined,
}

/// What becomes of a task, in its time.
pub type DeviceFuture<'a> = Pin<Box<dyn Future<Output = Result<DeviceOutcome>> + 'a>>;

/// What runs kernels: a device, or what stands for one in tests.
pub trait Device: Send + Sync {
    /// What it is called, and what drives it: `NVIDIA L4 (Vulkan)`.
    fn name(&self) -> &str;

    /// Whether it is a program on the processor, of which no speed is to be expected.
    fn is_software(&self) -> bool {
        false
    }

    /// Values of one task that it is at its best with.
    fn preferred_batch(&self) -> usize {
        1 << 22
    }

    /// Every kernel that it has, exact or not.
    fn kernels(&self) -> Vec<Kernel>;

    /// Does a task, from and to the memory of the host. `out` has the bytes of as many values.
    ///
    /// Fails where the device was lost or has no memory: nothing is known of `out` then. Declines what it has no
    /// kernels for, lengths that are not those of whole blocks, and values that the definition would refuse.
    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a>;

    /// Takes bytes to the device, and as many as `out` has back, whatever they are: as fast as any kernel could be. Declines
    /// where it does not offer that.
    fn copy_roundtrip<'a>(&'a self, _src: &'a [u8], _out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(std::future::ready(Ok(DeviceOutcome::Declined)))
    }

    /// Decodes a matrix, turns it, and quantizes it into `out`, which has the bytes of as many values. Fails and declines
    /// as [`Device::run`] does; one that has no such kernels declines.
    fn rotate<'a>(
        &'a self,
        _matrix: rotation_passes::RotationTask<'a>,
        _by: Arithmetic,
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
        by: Arithmetic,
        out: &'a mut [u8],
    ) -> DeviceFuture<'a> {
        (**self).rotate(matrix, by, out)
    }
}
