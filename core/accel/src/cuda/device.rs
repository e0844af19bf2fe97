//! NVIDIA devices. The driver is loaded at run time; none is needed to build.

use super::driver::{Context, KernelFunction, device_count, failed};
use super::launch::Launch;
use super::ptx_modules::PtxModule;
use super::stream_slot::StreamSlot;
use super::task::{CudaSlices, CudaTask};
use super::{cuda_task, kernels};
use crate::device::{Device, DeviceFuture, DeviceOutcome, Kernel, KernelTask};
use cudarc::driver::DriverError;
use quantoscope_core::error::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Values per slice: 4 MiB of F32. A window is several slices, and copies are long enough to be fast.
const SLICE: usize = 1 << 20;
/// Slices of one call in flight on a device: one is copied in, one is computed, one is copied out.
const SLOTS: usize = 3;

/// One device with its loaded kernels.
struct CudaContext {
    // Declared first: slots must be freed while the context exists.
    idle: Mutex<Vec<StreamSlot>>,
    functions: Vec<(PtxModule, &'static str, KernelFunction)>,
    name: String,
    context: Context,
}

/// One device, or several that share the work.
#[derive(Clone)]
pub struct CudaDevice {
    devices: Vec<Arc<CudaContext>>,
    name: String,
    next: Arc<AtomicUsize>,
}

impl CudaContext {
    fn open(number: i32) -> Result<CudaContext> {
        let context = Context::open(number)?;
        let mut functions = Vec::new();
        for module in PtxModule::all() {
            let Some(ptx) = module.source() else { continue };
            let loaded = context.load(ptx, module.entries())?;
            functions.extend(module.entries().iter().zip(loaded).map(|(entry, f)| (module, *entry, f)));
        }
        let name = format!("{} (CUDA)", context.name()?);
        Ok(CudaContext { idle: Mutex::default(), functions, name, context })
    }

    fn find(&self, launch: &Launch) -> Option<KernelFunction> {
        let found = self.functions.iter().find(|(m, e, _)| (*m, *e) == (launch.module, launch.entry));
        found.map(|(_, _, function)| *function)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<StreamSlot>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle slot, or a new one.
    fn slot(&self) -> std::result::Result<StreamSlot, DriverError> {
        let idle = self.idle().pop();
        idle.map_or_else(StreamSlot::new, Ok)
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        // Slots are freed in their own context.
        let _ = self.context.enter();
        self.idle().clear();
    }
}

impl CudaDevice {
    /// Opens all devices of the driver, each on its own. Devices that fail to open are left out.
    ///
    /// # Errors
    /// [`Code::Device`](quantoscope_core::error::Code::Device) if the driver or the devices are missing, or
    /// the error of the first device if none can be opened.
    pub fn all() -> Result<Vec<CudaDevice>> {
        let mut opened: Vec<Result<CudaContext>> = (0..device_count()?).map(CudaContext::open).collect();
        if opened.iter().all(|one| one.is_err()) {
            opened.truncate(1);
        } else {
            opened.retain(|one| one.is_ok());
        }
        opened.into_iter().map(|one| Ok(CudaDevice::of(vec![Arc::new(one?)]))).collect()
    }

    /// Joins devices; slices are distributed round-robin. `None` for no devices.
    pub fn together(gpus: Vec<CudaDevice>) -> Option<CudaDevice> {
        let devices: Vec<Arc<CudaContext>> = gpus.into_iter().flat_map(|gpu| gpu.devices).collect();
        (!devices.is_empty()).then(|| CudaDevice::of(devices))
    }

    fn of(devices: Vec<Arc<CudaContext>>) -> CudaDevice {
        let mut name = devices.first().map_or(String::new(), |one| one.name.clone());
        if devices.len() > 1 {
            name = format!("{name} and {} more", devices.len() - 1);
        }
        CudaDevice { devices, name, next: Arc::default() }
    }

    /// Runs a task on host memory. Returns false if the task cannot be done or a value was refused.
    ///
    /// # Errors
    /// [`Code::Device`](quantoscope_core::error::Code::Device) if the device fails; `out` is undefined then.
    pub fn execute(&self, task: CudaTask<'_>, src: &[u8], out: &mut [u8]) -> Result<bool> {
        let Some(slices) = task.slices(src.len(), out.len(), SLICE) else { return Ok(false) };
        // A call may have a single slice, so successive calls start at different devices.
        let first = self.next.fetch_add(slices.all.len(), Ordering::Relaxed) % self.devices.len().max(1);
        let mut slots = Vec::new();
        let done = self.run_slices(&slices, first, &mut slots, src, out);
        for (device, slot) in slots {
            // After a failure a slot may still be running; its drop waits.
            match &done {
                Ok(_) => device.idle().push(slot),
                Err(_) => drop(device.context.enter().map(|()| slot)),
            }
        }
        done.map_err(failed("a kernel"))
    }

    /// [`CudaDevice::execute`] as a finished future; declines without a task.
    fn outcome<'a>(&self, task: Option<CudaTask<'_>>, src: &[u8], out: &mut [u8]) -> DeviceFuture<'a> {
        let done = task.map_or(Ok(false), |task| self.execute(task, src, out));
        let outcome = done.map(|done| if done { DeviceOutcome::Done } else { DeviceOutcome::Declined });
        Box::pin(std::future::ready(outcome))
    }

    /// Runs the slices in order, each in the slot that started longest ago.
    fn run_slices<'a>(
        &'a self,
        slices: &CudaSlices<'_>,
        first: usize,
        slots: &mut Vec<(&'a CudaContext, StreamSlot)>,
        src: &[u8],
        out: &mut [u8],
    ) -> std::result::Result<bool, DriverError> {
        let count = slices.all.len().min(SLOTS * self.devices.len());
        for device in self.devices.iter().cycle().skip(first).take(count) {
            device.context.enter()?;
            slots.push((device, device.slot()?));
        }
        let mut accepted = true;
        for (n, slice) in slices.all.iter().enumerate() {
            let (device, slot) = &mut slots[n % count];
            device.context.enter()?;
            accepted &= slot.finish(out)?;
            if !accepted {
                // The CPU will do the whole task.
                break;
            }
            slot.start(slice, slices, src, |launch| device.find(launch))?;
        }
        for (device, slot) in slots.iter_mut() {
            device.context.enter()?;
            accepted &= slot.finish(out)?;
        }
        Ok(accepted)
    }
}

impl Device for CudaDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn preferred_batch(&self) -> usize {
        SLOTS * SLICE * self.devices.len()
    }

    fn kernels(&self) -> Vec<Kernel> {
        kernels()
    }

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        self.outcome(cuda_task(&task), task.src, out)
    }

    fn copy_roundtrip<'a>(&'a self, src: &'a [u8], out: &'a mut [u8]) -> DeviceFuture<'a> {
        self.outcome(Some(CudaTask::CopyRoundtrip), src, out)
    }
}
