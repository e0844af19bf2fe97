//! Kernels on a graphics processor, through wgpu: Vulkan, Metal, Direct3D 12, and WebGPU in a page.
//!
//! No device is trusted: the kernels decide every byte by integers, and a float says only what no rounding can change
//! (`block.wgsl`). A kernel whose answers to the probe are not the definition's is not used. What a kernel cannot judge
//! (NaN, what an encoder refuses) it hands back. Only `engine.rs` knows jobs.

mod buffers;
mod chain;
mod course;
mod device;
mod engine;
#[cfg(feature = "hostile")]
pub mod hostile;
mod kernel;
mod probe;
mod rotate;
#[cfg(test)]
mod tests;
mod turns;

use buffers::Slot;
use device::Device;
pub use engine::Graphics;
pub use kernel::Kernel;
pub use probe::Verdict;
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use rotate::Rotator;
pub use rotate::{Floats, Matrix};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Values of a slice, the work of one submission: 16 MiB of binary32, and far below every limit of a device.
const SLICE: usize = 1 << 22;

/// Whether the device did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All bytes are there, and they are the definition's.
    Done,
    /// The processor has to do it, and to say what is wrong if it is refused; what was written is of no use.
    Declined,
}

/// A device with its kernels.
pub struct Gpu {
    device: Device,
    kernels: Vec<(Kernel, wgpu::ComputePipeline, Verdict)>,
    rotator: Rotator,
    /// The buffers of the last submission, for the next.
    idle: Mutex<Option<Slot>>,
    /// Whether the device failed: it is not asked again.
    lost: AtomicBool,
    /// Blocks that were asked for and made, since the probe.
    made: AtomicUsize,
}

impl Gpu {
    /// The best device of this machine, its kernels compiled and probed; fails where there is none.
    pub async fn open() -> Result<Gpu> {
        let mut gpu = Gpu::unprobed(&|_, text| text).await?;
        gpu.probe().await?;
        Ok(gpu)
    }

    /// A device whose kernels are all refused until they are probed. `edit` may change a kernel's text.
    async fn unprobed(edit: &dyn Fn(Kernel, String) -> String) -> Result<Gpu> {
        let device = Device::open().await?;
        let rotator = Rotator::new(&device, &|_, text| text);
        let compiled = Kernel::all()
            .map(|k| (k, device.compile(&k.to_string(), k.entry(), edit(k, k.text())), Verdict::Refused));
        let kernels = compiled.collect();
        device.check()?;
        Ok(Gpu {
            device,
            kernels,
            rotator,
            idle: Mutex::new(None),
            lost: AtomicBool::new(false),
            made: AtomicUsize::new(0),
        })
    }

    /// Asks every kernel what is known, and from then on uses those alone that answer as the definition does.
    pub async fn probe(&mut self) -> Result<()> {
        for at in 0..self.kernels.len() {
            let verdict = probe::judge(self, self.kernels[at].0).await?;
            self.kernels[at].2 = verdict;
        }
        turns::probe(self).await
    }

    /// The device and what drives it, such as `NVIDIA L4 (Vulkan)`.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// Whether the device is a program on the processor.
    pub fn is_software(&self) -> bool {
        self.device.software
    }

    /// Blocks that were quantized or dequantized, the probe's not counted.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// What the probe found of each kernel.
    pub fn verdicts(&self) -> impl Iterator<Item = (Kernel, Verdict)> + '_ {
        self.kernels.iter().map(|(kernel, _, verdict)| (*kernel, *verdict))
    }

    /// Quantizes whole blocks of values that are stored as `from` into `out`, without importance.
    ///
    /// Fails where the device was lost or has no memory, and from then on declines; declines where there is no exact
    /// kernel, where lengths are not those of the same whole blocks, and where the definition would refuse a value.
    pub async fn quantize(&self, from: DType, src: &[u8], to: DType, out: &mut [u8]) -> Result<Outcome> {
        self.exactly(Kernel::Quantize { from, to }, src, out).await
    }

    /// Dequantizes whole blocks into little-endian binary32, four bytes a value. Fails and declines as
    /// [`Gpu::quantize`] does; it declines infinite and NaN scales too.
    pub async fn dequantize(&self, from: DType, src: &[u8], out: &mut [u8]) -> Result<Outcome> {
        self.exactly(Kernel::Dequantize(from), src, out).await
    }

    /// Through a kernel that the probe found exact.
    async fn exactly(&self, kernel: Kernel, src: &[u8], out: &mut [u8]) -> Result<Outcome> {
        let found = self.kernels.iter().find(|(k, _, verdict)| *k == kernel && *verdict == Verdict::Exact);
        match found {
            Some((_, pipeline, _)) if !self.lost.load(Ordering::Relaxed) => {
                let outcome = self.run(kernel, pipeline, src, out).await;
                self.lost.fetch_or(outcome.is_err(), Ordering::Relaxed);
                let blocks =
                    if matches!(outcome, Ok(Outcome::Done)) { src.len() / kernel.bytes_in(1) } else { 0 };
                self.made.fetch_add(blocks, Ordering::Relaxed);
                outcome
            }
            _ => Ok(Outcome::Declined),
        }
    }

    /// Slice after slice.
    async fn run(
        &self,
        kernel: Kernel,
        pipeline: &wgpu::ComputePipeline,
        src: &[u8],
        out: &mut [u8],
    ) -> Result<Outcome> {
        let (step_in, step_out) = (kernel.bytes_in(SLICE / 32), kernel.bytes_out(SLICE / 32));
        let blocks = src.len() / kernel.bytes_in(1);
        if src.len() != kernel.bytes_in(blocks) || out.len() != kernel.bytes_out(blocks) {
            return Ok(Outcome::Declined);
        }
        for (src, out) in src.chunks(step_in).zip(out.chunks_mut(step_out)) {
            let blocks = (src.len() / kernel.bytes_in(1)) as u32;
            let slot = self.slot(src.len(), out.len())?;
            let done = slot.run(&self.device, pipeline, kernel.groups(blocks), blocks, src, out).await?;
            if let Ok(mut idle) = self.idle.lock() {
                *idle = Some(slot);
            }
            if !done {
                return Ok(Outcome::Declined);
            }
        }
        Ok(Outcome::Done)
    }

    /// Buffers that are large enough.
    fn slot(&self, input: usize, output: usize) -> Result<Slot> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.take());
        match kept.filter(|slot| slot.holds(input, output)) {
            Some(slot) => Ok(slot),
            None => Slot::new(&self.device, input, output),
        }
    }
}

/// The one error that a device is the cause of.
fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Device, format!("the graphics device failed: {what}"))
}
