//! Kernels on graphics devices, through wgpu: Vulkan, Metal, Direct3D 12, and WebGPU in a page.
//!
//! WGSL does not fix the rounding of floats. Kernels of small blocks compute every byte in integers
//! (`soft_f32.wgsl`) and use a hardware float only where no rounding can change the code
//! (`small_blocks.wgsl`). Scale searches rely only on rounding to nearest, which the probe checks
//! (`hardware_f32.wgsl`). A kernel declines what it cannot decide: NaN, values that an encoder refuses,
//! results that could be flushed.

mod buffers;
mod device;
mod dispatch_plan;
#[cfg(feature = "test-float-modes")]
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

/// Values per submission: 16 MiB of F32, far below every device limit.
const SLICE: usize = 1 << 22;

/// Buffer sets kept for reuse. Several submissions may be in flight: one is uploaded while another is
/// computed.
const IDLE_BUFFERS: usize = 4;

/// A graphics device with its kernels.
pub struct WgpuDevice {
    driver: Driver,
    /// Kernels, and the index of their program.
    kernels: Vec<(Kernel, usize)>,
    programs: Vec<Program>,
    rotator: Rotator,
    /// Buffers of earlier submissions, for reuse.
    idle: Mutex<Vec<BufferSet>>,
}

impl WgpuDevice {
    /// Opens the high-performance device of this machine. Programs are compiled on first use.
    ///
    /// # Errors
    /// [`Code::Device`] if there is no usable device.
    pub async fn open() -> Result<WgpuDevice> {
        WgpuDevice::edited(&|_, text| text).await
    }

    /// As [`WgpuDevice::open`]; `edit(kernel, source)` returns the source to use.
    pub(crate) async fn edited(edit: &dyn Fn(Kernel, String) -> String) -> Result<WgpuDevice> {
        WgpuDevice::chosen(&|_| true, edit).await
    }

    /// As [`WgpuDevice::edited`], with some of the kernels.
    pub(crate) async fn chosen(
        chosen: &dyn Fn(Kernel) -> bool,
        edit: &dyn Fn(Kernel, String) -> String,
    ) -> Result<WgpuDevice> {
        let driver = Driver::open().await?;
        // Kernels that differ only in their source type may share a program.
        let (mut kernels, mut programs) = (Vec::new(), Vec::<Program>::new());
        for kernel in kernel::all().filter(|k| chosen(*k)) {
            let (entry, wgsl) = (kernel.entry(), edit(kernel, kernel::source(kernel)));
            let known = programs.iter().position(|p| p.is(entry, &wgsl));
            let at = known.unwrap_or_else(|| {
                programs.push(Program::new(&kernel.to_string(), entry, wgsl));
                programs.len() - 1
            });
            kernels.push((kernel, at));
        }
        let rotator = Rotator::new(&|_, text| text);
        driver.check()?;
        Ok(WgpuDevice { driver, kernels, programs, rotator, idle: Mutex::new(Vec::new()) })
    }

    /// Sets the name that the browser reports to scripts but not to wgpu, and whether the device is software.
    pub fn named(mut self, name: String, software: bool) -> WgpuDevice {
        self.driver.name = name;
        self.driver.software |= software;
        self
    }

    /// The pipeline of a kernel; `None` if there is none or it does not compile.
    async fn pipeline(&self, kernel: Kernel) -> Option<&wgpu::ComputePipeline> {
        let (_, at) = self.kernels.iter().find(|(known, _)| *known == kernel)?;
        self.programs.get(*at)?.pipeline(&self.driver).await
    }

    async fn program<'a>(&self, program: &'a Program) -> Option<&'a wgpu::ComputePipeline> {
        program.pipeline(&self.driver).await
    }

    /// Runs a task slice by slice.
    async fn run_task(&self, task: KernelTask<'_>, out: &mut [u8]) -> Result<DeviceOutcome> {
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
            let buffers = self.buffers(src.len(), out.len(), task.weights.len())?;
            let submission = Submission {
                groups: kernel::groups(kernel, blocks),
                blocks,
                first: (n * slice % row) as u32,
                row: row as u32,
                kind: kernel::kind(kernel),
                weights: task.weights,
                src,
            };
            let done = buffers.run(&self.driver, Some(pipeline), submission, out).await?;
            self.keep(buffers);
            if !done {
                return Ok(DeviceOutcome::Declined);
            }
        }
        Ok(DeviceOutcome::Done)
    }

    /// Copies to the device and back, without a kernel.
    async fn copies(&self, src: &[u8], out: &mut [u8]) -> Result<DeviceOutcome> {
        let slices = (src.len().max(out.len()) / (4 * SLICE)).max(1);
        let (step_in, step_out) = (src.len().div_ceil(slices).max(1), out.len().div_ceil(slices).max(1));
        for (src, out) in src.chunks(step_in).zip(out.chunks_mut(step_out)) {
            let buffers = self.buffers(src.len(), out.len(), 0)?;
            let submission =
                Submission { groups: 0, blocks: 0, first: 0, row: 1, kind: 0, weights: &[], src };
            buffers.run(&self.driver, None, submission, out).await?;
            self.keep(buffers);
        }
        Ok(DeviceOutcome::Done)
    }

    /// Blocks to blocks of another type; decoded values stay on the device.
    async fn requantize(&self, task: KernelTask<'_>, out: &mut [u8]) -> Result<DeviceOutcome> {
        let KernelTask { from, to, width, src, weights } = task;
        let whole = |n: &usize| n.is_multiple_of(width.max(1)) && weights.is_empty();
        let Some(values) = task.values().filter(whole) else { return Ok(DeviceOutcome::Declined) };
        let matrix = RotationTask { from, src, rows: values / width.max(1), width, steps: &[], to };
        self.rotate(matrix, Arithmetic::SoftF32, out).await
    }

    /// Idle buffers that are large enough, or new ones.
    fn buffers(&self, input: usize, output: usize, weights: usize) -> Result<BufferSet> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().position(|buffers| buffers.holds(input, output, weights)) {
            Some(at) => Ok(idle.swap_remove(at)),
            None => {
                // Drops a smaller set: windows have their full size from the start, so it would not be used
                // again.
                idle.pop();
                drop(idle);
                BufferSet::new(&self.driver, input, output, weights)
            }
        }
    }

    fn keep(&self, buffers: BufferSet) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_BUFFERS {
            idle.push(buffers);
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
        let rotate = [Arithmetic::HardwareF32, Arithmetic::SoftF32].map(Kernel::Rotate);
        self.kernels.iter().map(|(kernel, _)| *kernel).chain(rotate).collect()
    }

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(self.run_task(task, out))
    }

    fn copy_roundtrip<'a>(&'a self, src: &'a [u8], out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(self.copies(src, out))
    }

    fn rotate<'a>(
        &'a self,
        matrix: RotationTask<'a>,
        arithmetic: Arithmetic,
        out: &'a mut [u8],
    ) -> DeviceFuture<'a> {
        Box::pin(self.rotate(matrix, arithmetic, out))
    }
}

/// Names and WGSL source of all programs, for translation tests.
pub fn wgsl_programs() -> Vec<(String, String)> {
    let kernels = kernel::all().map(|k| (k.to_string(), kernel::source(k)));
    let rotator = Rotator::new(&|_, wgsl| wgsl);
    let others = rotator.programs().map(|p| (p.name.clone(), p.wgsl.clone()));
    kernels.chain(others).collect()
}

/// The error of a failed device.
fn failed(reason: impl std::fmt::Display) -> Error {
    Error::new(Code::Device, format!("the graphics device failed: {reason}"))
}
