//! CUDA: kernels on NVIDIA's devices. Bytes are those of `quantoscope_core`, because every operation of the kernels names its
//! rounding.

mod device;
mod driver;
pub mod launch;
pub mod ptx_modules;
mod stream_slot;
pub mod task;

pub use device::CudaDevice;

use crate::device::{Device, Kernel, KernelTask, ProbeVerdict, probe_kernel};
use quantoscope_core::error::{Code, Error, Result};
use task::CudaTask;

/// Every kernel that has a text.
pub fn kernels() -> Vec<Kernel> {
    let of = |to: quantoscope_core::DType| {
        let weights: &[bool] = if to.block_len() == 256 { &[false, true] } else { &[false] };
        let sources = ptx_modules::SOURCES.into_iter();
        let quantize = sources.flat_map(move |from| {
            weights.iter().map(move |&weighted| Kernel::Quantize { from, to, weighted })
        });
        quantize.chain([Kernel::Dequantize(to)])
    };
    ptx_modules::TYPES.into_iter().flat_map(of).collect()
}

/// The work of a task, where all of its kernels are here.
pub fn work<'a>(task: &KernelTask<'a>) -> Option<CudaTask<'a>> {
    let known = kernels();
    let here = task.kernels().all(|kernel| known.contains(&kernel)) && task.values().is_some();
    here.then_some(CudaTask::Make { from: task.from, to: task.to, weights: task.weights })
}

/// The devices of this machine as one. Of several, those that are exact in all that the best of them is. The error says what is
/// missing.
pub async fn open() -> Result<CudaDevice> {
    let all = CudaDevice::all()?;
    let mut judged = Vec::new();
    for gpu in &all {
        // One alone is judged by whoever asked for it.
        judged.push(if all.len() > 1 { exact(gpu).await } else { Vec::new() });
    }
    let best = judged.iter().max_by_key(|exact| exact.len()).cloned().unwrap_or_default();
    let joins = |exact: &Vec<Kernel>| best.iter().all(|kernel| exact.contains(kernel));
    let good = all.into_iter().zip(&judged).filter(|(_, exact)| joins(exact)).map(|(gpu, _)| gpu);
    let none = || Error::new(Code::Device, "there is no CUDA device");
    CudaDevice::together(good.collect()).ok_or_else(none)
}

/// What a device is exact in; nothing where it fails.
async fn exact(gpu: &CudaDevice) -> Vec<Kernel> {
    let mut exact = Vec::new();
    for kernel in gpu.kernels() {
        match probe_kernel(gpu, kernel).await {
            Ok(ProbeVerdict::Exact) => exact.push(kernel),
            Ok(ProbeVerdict::Refused) => {}
            Err(_) => return Vec::new(),
        }
    }
    exact
}
