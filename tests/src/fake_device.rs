//! A device that runs the CPU reference and, on request, fails or returns wrong bytes.

use crate::models::Rng;
use quantoscope_accel::device::{Device, DeviceFuture, DeviceOutcome, Kernel, KernelTask};
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::quant::Encoding;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Faults to inject, and counters. The test keeps a handle.
#[derive(Debug, Default)]
pub struct FakeFaults {
    /// One block in this many is corrupted; 0 for none. The probe sees it too, so set it after the probe.
    pub spoils_one_in: AtomicU64,
    /// Whether every task fails.
    pub fails: AtomicBool,
    /// Blocks encoded or decoded.
    pub made: AtomicU64,
    /// Corrupted blocks.
    pub spoiled: AtomicU64,
}

/// A fake device.
pub struct FakeDevice {
    kernels: Vec<Kernel>,
    faults: Arc<FakeFaults>,
}

impl FakeDevice {
    /// A device with kernels from three float types to `types` and back; weighted ones for super-block types.
    pub fn new(types: &[DType], faults: &Arc<FakeFaults>) -> FakeDevice {
        let quantize = |to: DType, weighted| {
            [DType::F32, DType::F16, DType::BF16].map(|from| Kernel::Quantize { from, to, weighted })
        };
        let kernels = types.iter().flat_map(|&to| {
            let weighted = if to.block_len() == 256 { quantize(to, true).to_vec() } else { Vec::new() };
            quantize(to, false).into_iter().chain(weighted).chain([Kernel::Dequantize(to)])
        });
        FakeDevice { kernels: kernels.collect(), faults: Arc::clone(faults) }
    }

    fn run_task(&self, task: KernelTask<'_>, out: &mut [u8]) -> Result<DeviceOutcome> {
        if self.faults.fails.load(Ordering::Relaxed) {
            out.fill(0xEE);
            return Err(Error::new(Code::Device, "the stand-in is gone"));
        }
        let Some(n) = task.values().filter(|n| task.to.bytes_for(*n as u64) == Some(out.len() as u64)) else {
            return Ok(DeviceOutcome::Declined);
        };
        let mut values = vec![0.0; n];
        let weights = (!task.weights.is_empty()).then_some(task.weights);
        let done = Scalar
            .decode(task.from, task.src, &mut values)
            .and_then(|()| Scalar.encode(Encoding::Type(task.to), &values, weights, out));
        if done.is_err() || values.iter().any(|x| !x.is_finite()) {
            return Ok(DeviceOutcome::Declined);
        }
        let first = self.faults.made.fetch_add(n as u64 / task.to.block_len(), Ordering::Relaxed);
        self.corrupt(first, task.to, out);
        Ok(DeviceOutcome::Done)
    }

    fn corrupt(&self, first: u64, to: DType, out: &mut [u8]) {
        let one_in = self.faults.spoils_one_in.load(Ordering::Relaxed);
        for (at, block) in (first..).zip(out.chunks_mut(to.block_bytes() as usize)) {
            if one_in > 0 && Rng(at).bits().is_multiple_of(one_in) {
                block[0] ^= 1;
                self.faults.spoiled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Device for FakeDevice {
    fn name(&self) -> &str {
        "a stand-in"
    }

    fn kernels(&self) -> Vec<Kernel> {
        self.kernels.clone()
    }

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(std::future::ready(self.run_task(task, out)))
    }
}
