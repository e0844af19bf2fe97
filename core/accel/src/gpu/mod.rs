//! Kernels on a graphics processor, through wgpu: Vulkan, Metal, Direct3D 12, and WebGPU in a page.
//!
//! No device is trusted: the kernels of small blocks decide every byte by integers, and a float says only what no rounding
//! can change (`block.wgsl`). Searches trust that a device rounds to nearest, which the probe finds out, and nothing else
//! (`guarded.wgsl`). What a kernel cannot judge (NaN, what an encoder refuses, what might be flushed) it hands back.

mod buffers;
mod device;
#[cfg(feature = "hostile")]
pub mod hostile;
mod kernel;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wide_tests;

use crate::device::{Answer, Device, Kernel, Outcome, Task};
use buffers::{Slot, Work};
use device::Driver;
use quantoscope_core::error::{Code, Error, Result};
use std::sync::{Mutex, PoisonError};

/// Values of a slice, the work of one submission: 16 MiB of binary32, and far below every limit of a device.
const SLICE: usize = 1 << 22;

/// Submissions that may be under way at once: while the device computes one, the next is uploaded.
const SLOTS: usize = 4;

/// A device with its kernels.
pub struct Gpu {
    driver: Driver,
    kernels: Vec<(Kernel, wgpu::ComputePipeline)>,
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
        Gpu::chosen(&|_| true, edit).await
    }

    /// The same, with some of the kernels.
    pub(crate) async fn chosen(
        chosen: &dyn Fn(Kernel) -> bool,
        edit: &dyn Fn(Kernel, String) -> String,
    ) -> Result<Gpu> {
        let driver = Driver::open().await?;
        // Kernels that differ in their source alone may have one text, which is compiled once.
        let mut programs: Vec<(&str, String, wgpu::ComputePipeline)> = Vec::new();
        let mut kernels = Vec::new();
        for kernel in kernel::all().filter(|k| chosen(*k)) {
            let (entry, text) = (kernel.entry(), edit(kernel, kernel::text(kernel)));
            let known = programs.iter().find(|(e, t, _)| *e == entry && *t == text);
            let program = match known {
                Some((_, _, program)) => program.clone(),
                None => driver.compile(kernel, text.clone()),
            };
            if known.is_none() {
                programs.push((entry, text, program.clone()));
            }
            kernels.push((kernel, program));
        }

        driver.check()?;
        Ok(Gpu { driver, kernels, idle: Mutex::new(Vec::new()) })
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
        let row = (task.weights.len() / kernel.block().block_len() as usize).max(1);
        for (n, (src, out)) in task.src.chunks(step_in).zip(out.chunks_mut(step_out)).enumerate() {
            let blocks = (src.len() / kernel.bytes_in(1)) as u32;
            let slot = self.slot(src.len(), out.len(), task.weights.len())?;
            let work = Work {
                groups: kernel::groups(kernel, blocks),
                blocks,
                first: (n * slice % row) as u32,
                row: row as u32,
                kind: kernel::kind(kernel),
                weights: task.weights,
                src,
            };
            let done = slot.run(&self.driver, pipeline, work, out).await?;
            self.keep(slot);
            if !done {
                return Ok(Outcome::Declined);
            }
        }
        Ok(Outcome::Done)
    }

    /// Buffers that are large enough.
    fn slot(&self, input: usize, output: usize, weights: usize) -> Result<Slot> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().position(|slot| slot.holds(input, output, weights)) {
            Some(at) => Ok(idle.swap_remove(at)),
            None => {
                // What is too small now is too small for what comes: windows are as large as they can be.
                idle.pop();
                drop(idle);
                Slot::new(&self.driver, input, output, weights)
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
        self.kernels.iter().map(|(kernel, _)| *kernel).collect()
    }

    fn run<'a>(&'a self, task: Task<'a>, out: &'a mut [u8]) -> Answer<'a> {
        Box::pin(self.work(task, out))
    }
}

/// The one error that a device is the cause of.
fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Device, format!("the graphics device failed: {what}"))
}
