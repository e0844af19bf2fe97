//! Kernels on a graphics processor, through wgpu: Vulkan, Metal, Direct3D 12, and WebGPU in a page.
//!
//! No device is trusted: the kernels of small blocks decide every byte by integers, and a float says only what no rounding
//! can change (`block.wgsl`). Searches trust that a device rounds to nearest, which the probe finds out, and nothing else
//! (`guarded.wgsl`). What a kernel cannot judge (NaN, what an encoder refuses, what might be flushed) it hands back.

mod buffers;
mod device;
mod dispatch_plan;
#[cfg(feature = "hostile")]
pub mod float_modes;
mod kernel;
mod multi_pass;
mod rotate;
#[cfg(test)]
mod rotation_tests;
#[cfg(test)]
mod super_block_tests;
#[cfg(test)]
mod tests;

use crate::device::rotation_passes::RotationTask;
use crate::device::{Arithmetic, Device, DeviceFuture, DeviceOutcome, Kernel, KernelTask};
use buffers::{BufferSet, Submission};
use device::{Driver, Program};
use quantoscope_core::error::{Code, Error, Result};
use rotate::Rotator;
use std::sync::{Mutex, PoisonError};

/// Values of a slice, the work of one submission: 16 MiB of binary32, and far below every limit of a device.
const SLICE: usize = 1 << 22;

/// Submissions that may be under way at once: while the device computes one, the next is uploaded.
const SLOTS: usize = 4;

/// A device with its kernels.
pub struct WgpuDevice {
    driver: Driver,
    /// Kernels, and the place of their program.
    kernels: Vec<(Kernel, usize)>,
    programs: Vec<Program>,
    rotator: Rotator,
    /// Buffers of earlier submissions, for the next.
    idle: Mutex<Vec<BufferSet>>,
}

impl WgpuDevice {
    /// The best device of this machine, its kernels compiled; fails where there is none.
    pub async fn open() -> Result<WgpuDevice> {
        WgpuDevice::edited(&|_, text| text).await
    }

    /// The same, where `edit` may change a kernel's text.
    pub(crate) async fn edited(edit: &dyn Fn(Kernel, String) -> String) -> Result<WgpuDevice> {
        WgpuDevice::chosen(&|_| true, edit).await
    }

    /// The same, with some of the kernels.
    pub(crate) async fn chosen(
        chosen: &dyn Fn(Kernel) -> bool,
        edit: &dyn Fn(Kernel, String) -> String,
    ) -> Result<WgpuDevice> {
        let driver = Driver::open().await?;
        // Kernels that differ in their source alone may have one text.
        let (mut kernels, mut programs) = (Vec::new(), Vec::<Program>::new());
        for kernel in kernel::all().filter(|k| chosen(*k)) {
            let (entry, text) = (kernel.entry(), edit(kernel, kernel::text(kernel)));
            let known = programs.iter().position(|p| p.is(entry, &text));
            let at = known.unwrap_or_else(|| {
                programs.push(Program::new(&kernel.to_string(), entry, text));
                programs.len() - 1
            });
            kernels.push((kernel, at));
        }
        let rotator = Rotator::new(&|_, text| text);
        driver.check()?;
        Ok(WgpuDevice { driver, kernels, programs, rotator, idle: Mutex::new(Vec::new()) })
    }

    /// The same device under the name that a browser has for it, which it tells scripts only.
    pub fn named(mut self, name: String, software: bool) -> WgpuDevice {
        self.driver.name = name;
        self.driver.software |= software;
        self
    }

    /// What it runs for a kernel, compiled; none where it has none, or cannot compile it.
    async fn pipeline(&self, kernel: Kernel) -> Option<&wgpu::ComputePipeline> {
        let (_, at) = self.kernels.iter().find(|(known, _)| *known == kernel)?;
        self.programs.get(*at)?.on(&self.driver).await
    }

    async fn program<'a>(&self, program: &'a Program) -> Option<&'a wgpu::ComputePipeline> {
        program.on(&self.driver).await
    }

    /// Stage after stage, slice after slice.
    async fn work(&self, task: KernelTask<'_>, out: &mut [u8]) -> Result<DeviceOutcome> {
        let stages: Vec<Kernel> = task.kernels().collect();
        let [kernel] = stages[..] else { return self.requantize(task, out).await };
        let Some((pipeline, values)) = self.pipeline(kernel).await.zip(task.values()) else {
            return Ok(DeviceOutcome::Declined);
        };
        let blocks = values / kernel.block().block_len() as usize;
        if task.src.len() != kernel.bytes_in(blocks) || out.len() != kernel.bytes_out(blocks) {
            return Ok(DeviceOutcome::Declined);
        }
        let slice = SLICE / kernel.block().block_len() as usize;
        let (step_in, step_out) = (kernel.bytes_in(slice), kernel.bytes_out(slice));
        let row = (task.weights.len() / kernel.block().block_len() as usize).max(1);
        for (n, (src, out)) in task.src.chunks(step_in).zip(out.chunks_mut(step_out)).enumerate() {
            let blocks = (src.len() / kernel.bytes_in(1)) as u32;
            let slot = self.slot(src.len(), out.len(), task.weights.len())?;
            let work = Submission {
                groups: kernel::groups(kernel, blocks),
                blocks,
                first: (n * slice % row) as u32,
                row: row as u32,
                kind: kernel::kind(kernel),
                weights: task.weights,
                src,
            };
            let done = slot.run(&self.driver, Some(pipeline), work, out).await?;
            self.keep(slot);
            if !done {
                return Ok(DeviceOutcome::Declined);
            }
        }
        Ok(DeviceOutcome::Done)
    }

    /// There and back, and no work.
    async fn there_and_back(&self, src: &[u8], out: &mut [u8]) -> Result<DeviceOutcome> {
        let slices = (src.len().max(out.len()) / (4 * SLICE)).max(1);
        let (step_in, step_out) = (src.len().div_ceil(slices).max(1), out.len().div_ceil(slices).max(1));
        for (src, out) in src.chunks(step_in).zip(out.chunks_mut(step_out)) {
            let slot = self.slot(src.len(), out.len(), 0)?;
            let work = Submission { groups: 0, blocks: 0, first: 0, row: 1, kind: 0, weights: &[], src };
            slot.run(&self.driver, None, work, out).await?;
            self.keep(slot);
        }
        Ok(DeviceOutcome::Done)
    }

    /// From blocks to blocks: values stay on the device.
    async fn requantize(&self, task: KernelTask<'_>, out: &mut [u8]) -> Result<DeviceOutcome> {
        let KernelTask { from, to, width, src, weights } = task;
        let whole = |n: &usize| n.is_multiple_of(width.max(1)) && weights.is_empty();
        let Some(values) = task.values().filter(whole) else { return Ok(DeviceOutcome::Declined) };
        let matrix = RotationTask { from, src, rows: values / width.max(1), width, steps: &[], to };
        self.rotate(matrix, Arithmetic::Exact, out).await
    }

    /// Buffers that are large enough.
    fn slot(&self, input: usize, output: usize, weights: usize) -> Result<BufferSet> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().position(|slot| slot.holds(input, output, weights)) {
            Some(at) => Ok(idle.swap_remove(at)),
            None => {
                // What is too small now is too small for what comes: windows are as large as they can be.
                idle.pop();
                drop(idle);
                BufferSet::new(&self.driver, input, output, weights)
            }
        }
    }

    fn keep(&self, slot: BufferSet) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < SLOTS {
            idle.push(slot);
        }
    }
}

impl Device for WgpuDevice {
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

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(self.work(task, out))
    }

    fn copy_roundtrip<'a>(&'a self, src: &'a [u8], out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(self.there_and_back(src, out))
    }

    fn rotate<'a>(&'a self, matrix: RotationTask<'a>, by: Arithmetic, out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(self.rotate(matrix, by, out))
    }
}

/// Every program that there is, with its name: for translators.
pub fn texts() -> Vec<(String, String)> {
    let kernels = kernel::all().map(|k| (k.to_string(), kernel::text(k)));
    let rotator = Rotator::new(&|_, text| text);
    let between = rotator.programs().map(|p| (p.name.clone(), p.text.clone()));
    kernels.chain(between).collect()
}

/// The one error that a device is the cause of.
fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Device, format!("the graphics device failed: {what}"))
}
