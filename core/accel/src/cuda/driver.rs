//! NVIDIA's driver, as little of it as we use: what is looked for before anything is called, and what is given back when it
//! is dropped.

use cudarc::driver::sys::{self, culib, is_culib_present};
use cudarc::driver::{DriverError, result};
use quantoscope_core::error::{Code, Error, Result};
use std::ffi::{CStr, CString, c_void};

/// What is called here, and so all that a driver must have: a function that is not there would end the program.
const NEEDED: [&[u8]; 22] = [
    b"cuInit\0",
    b"cuGetErrorString\0",
    b"cuDeviceGetCount\0",
    b"cuDeviceGet\0",
    b"cuDeviceGetName\0",
    b"cuDevicePrimaryCtxRetain\0",
    b"cuDevicePrimaryCtxRelease_v2\0",
    b"cuCtxSetCurrent\0",
    b"cuModuleLoadData\0",
    b"cuModuleGetFunction\0",
    b"cuMemAlloc_v2\0",
    b"cuMemFree_v2\0",
    b"cuMemHostAlloc\0",
    b"cuMemFreeHost\0",
    b"cuMemcpyHtoDAsync_v2\0",
    b"cuMemcpyDtoHAsync_v2\0",
    b"cuMemcpyDtoDAsync_v2\0",
    b"cuMemsetD8Async\0",
    b"cuStreamCreate\0",
    b"cuStreamSynchronize\0",
    b"cuStreamDestroy_v2\0",
    b"cuLaunchKernel\0",
];

pub fn absent(message: impl Into<String>) -> Error {
    Error::new(Code::Device, message)
}

/// What the driver says of a failure.
pub fn failed(what: &str) -> impl Fn(DriverError) -> Error + use<'_> {
    move |e| {
        let reason = e.error_string().map(|s| s.to_string_lossy().into_owned());
        absent(format!("CUDA: {what} failed: {}", reason.unwrap_or_else(|_| (e.0 as u32).to_string())))
    }
}

/// How many devices the driver knows of. The error says whether it is the driver or the devices that are missing, or whether the
/// driver is too old.
pub fn devices() -> Result<i32> {
    // SAFETY: loads the library that the system has under the driver's own name, and calls nothing in it.
    if !unsafe { is_culib_present() } {
        return Err(absent("CUDA needs NVIDIA's driver, and this machine has none"));
    }
    for name in NEEDED {
        // SAFETY: only asks whether the library, which is there, has the name.
        if unsafe { culib().get::<*const c_void>(name) }.is_err() {
            let name = CStr::from_bytes_with_nul(name).unwrap_or_default().to_string_lossy().into_owned();
            return Err(absent(format!("NVIDIA's driver on this machine is too old: it has no {name}")));
        }
    }
    result::init().map_err(failed("the start of the driver"))?;
    match result::device::get_count().map_err(failed("counting the devices"))? {
        0 => Err(absent("NVIDIA's driver knows of no CUDA device")),
        count => Ok(count),
    }
}

/// A device that is open; its context is the driver's own for it, and shared by all threads.
pub struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
}

// SAFETY: the driver takes handles of contexts from every thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub fn open(number: i32) -> Result<Context> {
        let device = result::device::get(number).map_err(failed("opening a device"))?;
        // SAFETY: the device is one that the driver just named.
        let handle = unsafe { result::primary_ctx::retain(device) }.map_err(failed("opening a device"))?;
        Ok(Context { device, handle })
    }

    pub fn name(&self) -> Result<String> {
        result::device::get_name(self.device).map_err(failed("asking for a device's name"))
    }

    /// Makes it the one that this thread's calls are for.
    pub fn enter(&self) -> std::result::Result<(), DriverError> {
        // SAFETY: the handle is released only when this is dropped.
        unsafe { result::ctx::set_current(self.handle) }
    }

    /// Translates a text, and finds its entries. What is loaded stays as long as the context.
    pub fn load(&self, text: &str, entries: &[&'static str]) -> Result<Vec<KernelFunction>> {
        let failed = failed("translating a kernel for the device");
        self.enter().map_err(&failed)?;
        let text = CString::new(text).map_err(|_| absent("a kernel's text is not a text"))?;
        // SAFETY: the image is a text that ends in a zero, and is only read.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.map_err(&failed)?;
        let function = |entry: &&'static str| {
            let name = CString::new(*entry).map_err(|_| absent("an entry's name is not a name"))?;
            // SAFETY: the module was just loaded.
            unsafe { result::module::get_function(module, name) }.map(KernelFunction).map_err(&failed)
        };
        entries.iter().map(function).collect()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, in `open`. What a driver says that goes away is of no use.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// An entry, ready to be launched.
#[derive(Clone, Copy)]
pub struct KernelFunction(pub sys::CUfunction);

// SAFETY: the driver takes handles of functions from every thread.
unsafe impl Send for KernelFunction {}
// SAFETY: as above.
unsafe impl Sync for KernelFunction {}

/// An order of work on a device.
pub struct Stream(pub sys::CUstream);

// SAFETY: the driver takes handles of streams from every thread.
unsafe impl Send for Stream {}

impl Stream {
    pub fn new() -> std::result::Result<Stream, DriverError> {
        result::stream::create(result::stream::StreamKind::NonBlocking).map(Stream)
    }

    /// Waits until all of it is done.
    pub fn wait(&self) -> std::result::Result<(), DriverError> {
        // SAFETY: the handle is destroyed only when this is dropped.
        unsafe { result::stream::synchronize(self.0) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created once, and not used after this. Memory of what still runs is given back after it (fields of a lane are
        // dropped in order), so it is waited for first.
        let _ = self.wait().and_then(|()| unsafe { result::stream::destroy(self.0) });
    }
}

/// Memory of a device.
pub struct DeviceMemory {
    pub address: sys::CUdeviceptr,
    pub size: usize,
}

impl DeviceMemory {
    pub fn new(size: usize) -> std::result::Result<DeviceMemory, DriverError> {
        // SAFETY: what it holds is written before it is read.
        let address = unsafe { result::malloc_sync(size.max(1)) }?;
        Ok(DeviceMemory { address, size })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated once, and no stream uses it: lanes wait.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Memory of the host that a device reads and writes without the processor's help.
pub struct Pinned {
    at: *mut u8,
    size: usize,
}

// SAFETY: it is memory, and this its only owner.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Zeros, which the host can read and write at its own pace.
    pub fn new(size: usize) -> std::result::Result<Pinned, DriverError> {
        // SAFETY: no flags; the memory is written below before anybody has it.
        let at = unsafe { result::malloc_host(size.max(1), 0) }?.cast::<u8>();
        // SAFETY: the driver gave so many bytes.
        unsafe { at.write_bytes(0, size) };
        Ok(Pinned { at, size })
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes, all written once, and borrowed as this is. What a stream still writes to them is waited for before
        // they are asked for: see `Lane`.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.size) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated once, and no stream uses it: lanes wait.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}
