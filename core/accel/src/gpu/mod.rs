//! Kernels on a graphics processor, through wgpu: Vulkan, Metal, Direct3D 12, and WebGPU in a page.
//!
//! No device is trusted: the kernels decide every byte by integers, and a float says only what no rounding can change
//! (`block.wgsl`). What a kernel cannot judge (NaN, what an encoder refuses) it hands back.

mod buffers;
mod device;
#[cfg(feature = "hostile")]
pub mod hostile;
mod kernel;
#[cfg(test)]
mod tests;

use crate::device::{Answer, Device, Kernel, Outcome, Task};
use buffers::Slot;
use device::Driver;
use quantoscope_core::error::{Code, Error, Result};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Values of a slice, the work of one submission: 16 MiB of binary32, and far below every limit of a device.
const SLICE: usize = 1 << 22;

/// Submissions that may be under way at once: while the device computes one, the next is uploaded.
const SLOTS: usize = 4;

/// A device with its kernels.
pub struct Gpu {
    driver: Driver,
    kernels: Vec<Program>,
    /// Buffers of earlier submissions, for the next.
    idle: Mutex<Vec<Slot>>,
}

/// A kernel, compiled when it is first run: in a page that can take seconds.
struct Program {
    kernel: Kernel,
    text: String,
    pipeline: OnceLock<wgpu::ComputePipeline>,
}

impl Gpu {
    /// The best device of this machine; fails where there is none.
    pub async fn open() -> Result<Gpu> {
        Gpu::edited(&|_, text| text).await
    }

    /// The same, where `edit` may change a kernel's text.
    pub(crate) async fn edited(edit: &dyn Fn(Kernel, String) -> String) -> Result<Gpu> {
        let driver = Driver::open().await?;
        let program = |kernel| {
            let text = edit(kernel, kernel::text(kernel));
            Program { kernel, text, pipeline: OnceLock::new() }
        };
        let kernels = kernel::all().map(program).collect();
        driver.check()?;
        Ok(Gpu { driver, kernels, idle: Mutex::new(Vec::new()) })
    }

    /// The same device under the name that a browser has for it, which tells scripts only.
    pub fn named(mut self, name: String, software: bool) -> Gpu {
        self.driver.name = name;
        self.driver.software |= software;
        self
    }

    /// Stage after stage, slice after slice.
    async fn work(&self, task: Task<'_>, out: &mut [u8]) -> Result<Outcome> {
        let stages: Vec<Kernel> = task.kernels().collect();
        let [kernel] = stages[..] else { return Ok(Outcome::Declined) };
        let found = self.kernels.iter().find(|p| p.kernel == kernel);
        let (Some(program), Some(values)) = (found, task.values()) else {
            return Ok(Outcome::Declined);
        };
        let blocks = values / kernel.block().block_len() as usize;
        if task.src.len() != kernel.bytes_in(blocks) || out.len() != kernel.bytes_out(blocks) {
            return Ok(Outcome::Declined);
        }
        let pipeline = program.pipeline.get_or_init(|| self.driver.compile(kernel, program.text.clone()));
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
        self.kernels.iter().map(|p| p.kernel).collect()
    }

    fn run<'a>(&'a self, task: Task<'a>, out: &'a mut [u8]) -> Answer<'a> {
        Box::pin(self.work(task, out))
    }
}

/// The one error that a device is the cause of.
fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Device, format!("the graphics device failed: {what}"))
}
