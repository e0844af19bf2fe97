//! Devices behind NVIDIA's driver. The driver is looked for when the program runs: none is needed to build.

use super::driver::{Context, KernelFunction, devices, failed};
use super::launch::Launch;
use super::ptx_modules::PtxModule;
use super::stream_slot::StreamSlot;
use super::task::{CudaSlices, CudaTask};
use super::{kernels, work};
use crate::device::{Device, DeviceFuture, DeviceOutcome, Kernel, KernelTask};
use cudarc::driver::DriverError;
use quantoscope_core::error::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Values of a slice: 4 MiB of binary32, so that a window is several, and copies long enough for their speed.
const SLICE: usize = 1 << 20;
/// Slices of one call that are under way on a device: one is brought while another is computed and a third fetched.
const LANES: usize = 3;

/// One device with its kernels loaded.
struct CudaContext {
    // Lanes first: they are given back to a context that is there.
    idle: Mutex<Vec<StreamSlot>>,
    functions: Vec<(PtxModule, &'static str, KernelFunction)>,
    name: String,
    context: Context,
}

/// A device, or several that share the work.
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
        for text in PtxModule::all() {
            let Some(source) = text.source() else { continue };
            let loaded = context.load(source, text.entries())?;
            functions.extend(text.entries().iter().zip(loaded).map(|(entry, f)| (text, *entry, f)));
        }
        let name = format!("{} (CUDA)", context.name()?);
        Ok(CudaContext { idle: Mutex::default(), functions, name, context })
    }

    fn find(&self, launch: &Launch) -> Option<KernelFunction> {
        let found = self.functions.iter().find(|(t, e, _)| (*t, *e) == (launch.text, launch.entry));
        found.map(|(_, _, function)| *function)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<StreamSlot>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self) -> std::result::Result<StreamSlot, DriverError> {
        let kept = self.idle().pop();
        kept.map_or_else(StreamSlot::new, Ok)
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        // What lanes have is given back in their own context.
        let _ = self.context.enter();
        self.idle().clear();
    }
}

impl CudaDevice {
    /// Every device that the driver has, each alone. The error says whether it is the driver or the devices that are missing,
    /// or what the first of them failed at.
    pub fn all() -> Result<Vec<CudaDevice>> {
        let mut opened: Vec<Result<CudaContext>> = (0..devices()?).map(CudaContext::open).collect();
        if opened.iter().all(|one| one.is_err()) {
            opened.truncate(1);
        } else {
            opened.retain(|one| one.is_ok());
        }
        opened.into_iter().map(|one| Ok(CudaDevice::of(vec![Arc::new(one?)]))).collect()
    }

    /// Several devices as one: their slices are dealt in turn. `None` for no devices.
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

    /// Does a piece of work, from and to the memory of the host; whether that was done and no value refused. After an error
    /// nothing is known of `out`.
    pub fn perform(&self, work: CudaTask<'_>, src: &[u8], out: &mut [u8]) -> Result<bool> {
        let Some(slices) = work.slices(src.len(), out.len(), SLICE) else { return Ok(false) };
        // The first slice of a call may be its last: calls begin at different devices.
        let turn = self.next.fetch_add(slices.all.len(), Ordering::Relaxed) % self.devices.len().max(1);
        let mut lanes = Vec::new();
        let done = self.through(&slices, turn, &mut lanes, src, out);
        for (one, lane) in lanes {
            // After a failure a lane may still be at work; dropping it waits.
            match &done {
                Ok(_) => one.idle().push(lane),
                Err(_) => drop(one.context.enter().map(|()| lane)),
            }
        }
        done.map_err(failed("a kernel"))
    }

    /// The same, as a device answers.
    fn answer<'a>(&self, work: Option<CudaTask<'_>>, src: &[u8], out: &mut [u8]) -> DeviceFuture<'a> {
        let done = work.map_or(Ok(false), |work| self.perform(work, src, out));
        let outcome = done.map(|done| if done { DeviceOutcome::Done } else { DeviceOutcome::Declined });
        Box::pin(std::future::ready(outcome))
    }

    /// Slice after slice, each through the lane that has been under way for longest.
    fn through<'a>(
        &'a self,
        slices: &CudaSlices<'_>,
        turn: usize,
        lanes: &mut Vec<(&'a CudaContext, StreamSlot)>,
        src: &[u8],
        out: &mut [u8],
    ) -> std::result::Result<bool, DriverError> {
        let many = slices.all.len().min(LANES * self.devices.len());
        for one in self.devices.iter().cycle().skip(turn).take(many) {
            one.context.enter()?;
            lanes.push((one, one.lane()?));
        }
        let mut sound = true;
        for (n, slice) in slices.all.iter().enumerate() {
            let (one, lane) = &mut lanes[n % many];
            one.context.enter()?;
            sound &= lane.end(out)?;
            if !sound {
                // The processor does all of it anyway.
                break;
            }
            lane.begin(slice, slices, src, |launch| one.find(launch))?;
        }
        for (one, lane) in lanes.iter_mut() {
            one.context.enter()?;
            sound &= lane.end(out)?;
        }
        Ok(sound)
    }
}

impl Device for CudaDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn preferred_batch(&self) -> usize {
        LANES * SLICE * self.devices.len()
    }

    fn kernels(&self) -> Vec<Kernel> {
        kernels()
    }

    fn run<'a>(&'a self, task: KernelTask<'a>, out: &'a mut [u8]) -> DeviceFuture<'a> {
        self.answer(work(&task), task.src, out)
    }

    fn copy_roundtrip<'a>(&'a self, src: &'a [u8], out: &'a mut [u8]) -> DeviceFuture<'a> {
        self.answer(Some(CudaTask::Carry), src, out)
    }
}
