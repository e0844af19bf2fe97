//! Kernels on a graphics processor, through wgpu: Vulkan, Metal, Direct3D 12, and WebGPU in a page.
//!
//! No device is trusted: the kernels decide every byte by integers, and a float says only what no rounding can change
//! (`block.wgsl`). Rotations alone may use floats, where the probe sees that they round to nearest (`turn_guarded.wgsl`).
//! What a kernel cannot judge (NaN, what an encoder refuses) it hands back.

mod buffers;
mod chain;
mod course;
mod device;
#[cfg(feature = "hostile")]
pub mod hostile;
mod kernel;
mod rotate;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turn_tests;

use crate::device::turn::Matrix;
use crate::device::{Answer, Arithmetic, Device, Kernel, Outcome, Task};
use buffers::Slot;
use device::Driver;
use quantoscope_core::error::{Code, Error, Result};
use rotate::Rotator;
use std::sync::{Mutex, PoisonError};

/// Values of a slice, the work of one submission: 16 MiB of binary32, and far below every limit of a device.
const SLICE: usize = 1 << 22;

/// Submissions that may be under way at once: while the device computes one, the next is uploaded.
const SLOTS: usize = 4;

/// A device with its kernels.
pub struct Gpu {
    driver: Driver,
    kernels: Vec<(Kernel, wgpu::ComputePipeline)>,
    rotator: Rotator,
    /// Buffers of earlier submissions, for the next.
    idle: Mutex<Vec<Slot>>,
}

impl Gpu {
    /// The best device of this machine, its kernels compiled; fails where there is none.
    pub async fn open() -> Result<Gpu> {
        Gpu::edited(&|_, text| text).await
    }

    /// The same, where `edit` may change a kernel's text.
    pub(crate) async fn edited(edit: &dyn Fn(Kernel, String) -> String) -> Result<Gpu> {
        let driver = Driver::open().await?;
        let compiled =
            kernel::all().map(|k| (k, driver.compile(&k.to_string(), k.entry(), edit(k, kernel::text(k)))));
        let kernels = compiled.collect();
        let rotator = Rotator::new(&driver, &|_, text| text);
        driver.check()?;
        Ok(Gpu { driver, kernels, rotator, idle: Mutex::new(Vec::new()) })
    }

    /// Stage after stage, slice after slice.
    async fn work(&self, task: Task<'_>, out: &mut [u8]) -> Result<Outcome> {
        let stages: Vec<Kernel> = task.kernels().collect();
        let [kernel] = stages[..] else { return Ok(Outcome::Declined) };
        let found = self.kernels.iter().find(|(k, _)| *k == kernel);
        let (Some((_, pipeline)), Some(values)) = (found, task.values()) else {
            return Ok(Outcome::Declined);
        };
        let blocks = values / kernel.block().block_len() as usize;
        if task.src.len() != kernel.bytes_in(blocks) || out.len() != kernel.bytes_out(blocks) {
            return Ok(Outcome::Declined);
        }
        let slice = SLICE / kernel.block().block_len() as usize;
        let (step_in, step_out) = (kernel.bytes_in(slice), kernel.bytes_out(slice));
        for (src, out) in task.src.chunks(step_in).zip(out.chunks_mut(step_out)) {
            let blocks = (src.len() / kernel.bytes_in(1)) as u32;
            let slot = self.slot(src.len(), out.len())?;
            let groups = kernel::groups(kernel, blocks);
            let done = slot.run(&self.driver, pipeline, groups, blocks, src, out).await?;
            self.keep(slot);
            if !done {
                return Ok(Outcome::Declined);
            }
        }
        Ok(Outcome::Done)
    }

    /// Buffers that are large enough.
    fn slot(&self, input: usize, output: usize) -> Result<Slot> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().position(|slot| slot.holds(input, output)) {
            Some(at) => Ok(idle.swap_remove(at)),
            None => {
                // What is too small now is too small for what comes: windows are as large as they can be.
                idle.pop();
                drop(idle);
                Slot::new(&self.driver, input, output)
            }
        }
    }

    fn keep(&self, slot: Slot) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < SLOTS {
            idle.push(slot);
        }
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        &self.driver.name
    }

    fn is_software(&self) -> bool {
        self.driver.software
    }

    fn kernels(&self) -> Vec<Kernel> {
        let ways = [Arithmetic::Guarded, Arithmetic::Exact].map(Kernel::Rotate);
        self.kernels.iter().map(|(kernel, _)| *kernel).chain(ways).collect()
    }

    fn run<'a>(&'a self, task: Task<'a>, out: &'a mut [u8]) -> Answer<'a> {
        Box::pin(self.work(task, out))
    }

    fn rotate<'a>(&'a self, matrix: Matrix<'a>, by: Arithmetic, out: &'a mut [u8]) -> Answer<'a> {
        Box::pin(self.turn(matrix, by, out))
    }
}

/// The one error that a device is the cause of.
fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Device, format!("the graphics device failed: {what}"))
}
