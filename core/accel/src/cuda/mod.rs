//! CUDA kernels on NVIDIA devices. Their bytes equal those of `quantoscope_core`, because every float
//! operation names its rounding (`__fadd_rn` and the like).

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

/// All kernels that this build has as PTX.
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

/// The CUDA task of a kernel task; `None` if a kernel is missing or the lengths do not fit.
pub fn cuda_task<'a>(task: &KernelTask<'a>) -> Option<CudaTask<'a>> {
    let known = kernels();
    let possible = task.kernels().all(|kernel| known.contains(&kernel)) && task.values().is_some();
    possible.then_some(CudaTask::Convert { from: task.from, to: task.to, weights: task.weights })
}

/// Opens the devices of this machine as one. Of several, uses those that are exact in all kernels in which
/// the best one is.
///
/// # Errors
/// [`Code::Device`] if the driver or the devices are missing, or if every device fails to open.
pub async fn open() -> Result<CudaDevice> {
    let all = CudaDevice::all()?;
    let mut exact_kernels = Vec::new();
    for gpu in &all {
        // A single device is probed by its user.
        exact_kernels.push(if all.len() > 1 { exact(gpu).await } else { Vec::new() });
    }
    let best = exact_kernels.iter().max_by_key(|exact| exact.len()).cloned().unwrap_or_default();
    let matches_best = |exact: &Vec<Kernel>| best.iter().all(|kernel| exact.contains(kernel));
    let good =
        all.into_iter().zip(&exact_kernels).filter(|(_, exact)| matches_best(exact)).map(|(gpu, _)| gpu);
    let none = || Error::new(Code::Device, "there is no CUDA device");
    CudaDevice::together(good.collect()).ok_or_else(none)
}

/// Kernels that pass the probe on a device; empty if the device fails.
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
