//! The part of NVIDIA's driver API that is used here: checked for before the first call, with owners that
//! free what they hold. Knows no kernel.

use cudarc::driver::sys::{self, culib, is_culib_present};
use cudarc::driver::{DriverError, result};
use quantoscope_core::error::{Code, Error, Result};
use std::ffi::{CStr, CString, c_void};

/// Driver functions that are called. They are looked up first, because calling a missing one would abort the
/// program.
const REQUIRED_FUNCTIONS: [&[u8]; 22] = [
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

/// The error of a missing or failed device.
pub(super) fn device_error(message: impl Into<String>) -> Error {
    Error::new(Code::Device, message)
}

/// Converts a driver error; `what` names the operation that failed.
pub(super) fn failed(what: &str) -> impl Fn(DriverError) -> Error + use<'_> {
    move |e| {
        let reason = e.error_string().map(|s| s.to_string_lossy().into_owned());
        device_error(format!("CUDA: {what} failed: {}", reason.unwrap_or_else(|_| (e.0 as u32).to_string())))
    }
}

/// Number of CUDA devices, at least 1.
///
/// # Errors
/// [`Code::Device`] if the driver or the devices are missing, or if the driver is too old.
pub(super) fn device_count() -> Result<i32> {
    // SAFETY: loads the driver's library by its own name and calls no function of it.
    if !unsafe { is_culib_present() } {
        return Err(device_error("CUDA needs NVIDIA's driver, and this machine has none"));
    }
    for name in REQUIRED_FUNCTIONS {
        // SAFETY: only looks up a symbol in the library, which is loaded.
        if unsafe { culib().get::<*const c_void>(name) }.is_err() {
            let name = CStr::from_bytes_with_nul(name).unwrap_or_default().to_string_lossy().into_owned();
            return Err(device_error(format!(
                "NVIDIA's driver on this machine is too old: it has no {name}"
            )));
        }
    }
    result::init().map_err(failed("the start of the driver"))?;
    match result::device::get_count().map_err(failed("counting the devices"))? {
        0 => Err(device_error("NVIDIA's driver knows of no CUDA device")),
        count => Ok(count),
    }
}

/// An open device with its primary context, which all threads share.
pub(super) struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
}

// SAFETY: the driver accepts context handles from every thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens device `number`.
    ///
    /// # Errors
    /// [`Code::Device`] if the driver cannot open it.
    pub(super) fn open(number: i32) -> Result<Context> {
        let device = result::device::get(number).map_err(failed("opening a device"))?;
        // SAFETY: the driver just returned this device.
        let handle = unsafe { result::primary_ctx::retain(device) }.map_err(failed("opening a device"))?;
        Ok(Context { device, handle })
    }

    /// Name of the device.
    ///
    /// # Errors
    /// [`Code::Device`] if the driver cannot tell it.
    pub(super) fn name(&self) -> Result<String> {
        result::device::get_name(self.device).map_err(failed("asking for a device's name"))
    }

    /// Makes this the current context of the calling thread.
    pub(super) fn enter(&self) -> std::result::Result<(), DriverError> {
        // SAFETY: the handle is released only on drop.
        unsafe { result::ctx::set_current(self.handle) }
    }

    /// Compiles a PTX module for the device and returns its entries. The module lives as long as the context.
    ///
    /// # Errors
    /// [`Code::Device`] if the driver rejects the module or an entry is missing.
    pub(super) fn load(&self, ptx: &str, entries: &[&'static str]) -> Result<Vec<KernelFunction>> {
        let failed = failed("translating a kernel for the device");
        self.enter().map_err(&failed)?;
        let ptx = CString::new(ptx).map_err(|_| device_error("a kernel's text is not a text"))?;
        // SAFETY: the image is a zero-terminated string, and the driver only reads it.
        let module = unsafe { result::module::load_data(ptx.as_ptr().cast()) }.map_err(&failed)?;
        let function = |entry: &&'static str| {
            let name = CString::new(*entry).map_err(|_| device_error("an entry's name is not a name"))?;
            // SAFETY: the module was just loaded.
            unsafe { result::module::get_function(module, name) }.map(KernelFunction).map_err(&failed)
        };
        entries.iter().map(function).collect()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, in `open`. An error on release cannot be handled.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A loaded kernel entry.
#[derive(Clone, Copy)]
pub(super) struct KernelFunction(pub sys::CUfunction);

// SAFETY: the driver accepts function handles from every thread.
unsafe impl Send for KernelFunction {}
// SAFETY: as above.
unsafe impl Sync for KernelFunction {}

/// A stream: operations on a device that run in order.
pub(super) struct Stream(pub sys::CUstream);

// SAFETY: the driver accepts stream handles from every thread.
unsafe impl Send for Stream {}

impl Stream {
    /// Creates a stream on the current context.
    pub(super) fn new() -> std::result::Result<Stream, DriverError> {
        result::stream::create(result::stream::StreamKind::NonBlocking).map(Stream)
    }

    /// Waits until all operations are finished.
    pub(super) fn wait(&self) -> std::result::Result<(), DriverError> {
        // SAFETY: the handle is destroyed only on drop.
        unsafe { result::stream::synchronize(self.0) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created once, and not used after this. Buffers of running operations are freed after the
        // stream (fields of a slot are dropped in order), so it waits first.
        let _ = self.wait().and_then(|()| unsafe { result::stream::destroy(self.0) });
    }
}

/// A device buffer.
pub(super) struct DeviceMemory {
    pub address: sys::CUdeviceptr,
    pub size: usize,
}

impl DeviceMemory {
    /// Allocates `size` bytes, uninitialized.
    pub(super) fn new(size: usize) -> std::result::Result<DeviceMemory, DriverError> {
        // SAFETY: the contents are written before they are read.
        let address = unsafe { result::malloc_sync(size.max(1)) }?;
        Ok(DeviceMemory { address, size })
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated once, and no stream uses it: slots wait for their stream first.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Pinned host memory, which a device reads and writes by DMA.
pub(super) struct Pinned {
    at: *mut u8,
    size: usize,
}

// SAFETY: plain memory with this as its only owner.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Allocates `size` zero bytes.
    pub(super) fn new(size: usize) -> std::result::Result<Pinned, DriverError> {
        // SAFETY: no flags; the memory is initialized below before it is used.
        let at = unsafe { result::malloc_host(size.max(1), 0) }?.cast::<u8>();
        // SAFETY: the driver allocated `size` bytes.
        unsafe { at.write_bytes(0, size) };
        Ok(Pinned { at, size })
    }

    /// The bytes. No operation of a stream on them may be in flight.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `size` initialized bytes, borrowed with `self`. `StreamSlot` waits for its stream before it
        // calls this.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.size) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated once, and no stream uses it: slots wait for their stream first.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}
