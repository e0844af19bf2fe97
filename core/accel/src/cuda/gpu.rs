//! A device behind NVIDIA's driver. The driver is looked for when the program runs: none is needed to build.

use super::{Call, carry_out, kernels, texts};
use crate::device::{Answer, Device, Kernel, Task};
use cudarc::driver::sys::is_culib_present;
use cudarc::driver::{CudaContext, CudaFunction, DriverError, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use std::sync::Arc;

/// A device with its kernels loaded.
pub struct Gpu {
    context: Arc<CudaContext>,
    name: String,
    functions: Vec<(DType, &'static str, CudaFunction)>,
}

fn absent(message: impl Into<String>) -> Error {
    Error::new(Code::Device, message)
}

/// What the driver says of a failure.
fn failed(what: &str) -> impl Fn(DriverError) -> Error + use<'_> {
    move |e| {
        let reason = e
            .error_string()
            .map(|s| s.to_string_lossy().into_owned())
            .unwrap_or_else(|_| format!("{:?}", e.0));
        absent(format!("CUDA: {what} failed: {reason}"))
    }
}

impl Gpu {
    /// The device with this number. The error says whether it is the driver or the device that is missing.
    pub fn open(number: usize) -> Result<Gpu> {
        // SAFETY: loads the library that the system has under the driver's own name, and calls nothing in it.
        if !unsafe { is_culib_present() } {
            return Err(absent("CUDA needs NVIDIA's driver, and this machine has none"));
        }
        let count = CudaContext::device_count().map_err(failed("the start of the driver"))?;
        if usize::try_from(count).is_ok_and(|count| number >= count) {
            return Err(absent(format!("there is no CUDA device {number}: the driver knows of {count}")));
        }
        let context = CudaContext::new(number).map_err(failed("opening the device"))?;
        let name = context.name().map_err(failed("asking for the device's name"))?;
        let name = format!("{name} (CUDA)");
        let mut functions = Vec::new();
        for dtype in texts::TYPES {
            let Some(text) = texts::text(dtype) else { continue };
            let module = context
                .load_module(Ptx::from_src(text))
                .map_err(failed("translating a kernel for the device"))?;
            for entry in texts::entries() {
                let function = module.load_function(entry).map_err(failed("loading a kernel"))?;
                functions.push((dtype, entry, function));
            }
        }
        Ok(Gpu { context, name, functions })
    }

    /// Copies, launches and copies back, in the order of the calling thread's own stream.
    fn launch(&self, function: &CudaFunction, call: Call) -> std::result::Result<bool, DriverError> {
        let stream = self.context.per_thread_stream();
        let src = stream.clone_htod(call.src)?;
        let mut out = stream.alloc_zeros::<u8>(call.out.len())?;
        let mut refused = stream.alloc_zeros::<u32>(1)?;
        let mut launch = stream.launch_builder(function);
        launch.arg(&src).arg(&mut out);
        if call.entry != texts::DECODE {
            launch.arg(&mut refused);
        }
        launch.arg(&call.blocks);
        let grid = (texts::groups(call.blocks), 1, 1);
        // SAFETY: the arguments are those of the entry; threads reach no further than the blocks that are counted, and
        // `run` has checked that both buffers hold as many.
        unsafe {
            launch.launch(LaunchConfig {
                grid_dim: grid,
                block_dim: (texts::THREADS, 1, 1),
                shared_mem_bytes: 0,
            })?
        };
        stream.memcpy_dtoh(&out, call.out)?;
        let mut flag = [0];
        stream.memcpy_dtoh(&refused, &mut flag)?;
        stream.synchronize()?;
        Ok(flag != [0])
    }
}

impl Device for Gpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn kernels(&self) -> Vec<Kernel> {
        kernels()
    }

    fn run<'a>(&'a self, task: Task<'a>, out: &'a mut [u8]) -> Answer<'a> {
        Box::pin(std::future::ready(carry_out(task, out, |call| self.call(call))))
    }
}

impl Gpu {
    fn call(&self, call: Call) -> Result<bool> {
        let known = self.functions.iter().find(|(d, e, _)| *d == call.dtype && *e == call.entry);
        let (_, _, function) = known.ok_or_else(|| absent("there is no such kernel"))?;
        self.launch(function, call).map_err(failed("a kernel"))
    }
}
