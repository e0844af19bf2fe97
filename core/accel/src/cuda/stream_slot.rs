//! A stream with its buffers, which processes one slice at a time: copy to the device, launches, copy back.
//! Slots overlap: while one computes, others copy.

use super::driver::{DeviceMemory, KernelFunction, Pinned, Stream};
use super::launch::{Argument, BufferId, Launch};
use super::task::{CudaSlice, CudaSlices};
use cudarc::driver::{DriverError, result};
use std::ffi::c_void;
use std::ops::Range;

type CudaResult<T> = std::result::Result<T, DriverError>;

/// Alignment in bytes of the parts of a device buffer.
const ALIGNMENT: usize = 256;

/// A stream and its buffers. The input buffers hold values, weights and a table; the output buffers hold the
/// `refused` word, padded to [`ALIGNMENT`], then the output bytes.
pub(super) struct StreamSlot {
    // Declared first: its drop waits for the operations that use the buffers.
    stream: Stream,
    /// Input on the host.
    pinned_in: Pinned,
    /// Input on the device.
    h2d: DeviceMemory,
    /// Output on the device.
    d2h: DeviceMemory,
    /// Output on the host.
    pinned_out: Pinned,
    /// Output of a launch that the next launch reads.
    intermediate: DeviceMemory,
    /// Range of the caller's output that the slice in flight fills; `None` if idle.
    in_flight: Option<Range<usize>>,
}

/// Replaces a buffer that is too small, by one half as large again as needed.
fn grow<T>(
    buffer: &mut T,
    capacity: usize,
    needed: usize,
    new: impl Fn(usize) -> CudaResult<T>,
) -> CudaResult<()> {
    if needed > capacity {
        *buffer = new(needed.next_multiple_of(ALIGNMENT) * 3 / 2)?;
    }
    Ok(())
}

/// Offsets of the weights and the table in the input buffers, and the total size, for `src` bytes of values.
fn input_layout(src: usize, slices: &CudaSlices) -> [usize; 3] {
    let weights = src.next_multiple_of(ALIGNMENT);
    let table = (weights + 4 * slices.weights.len()).next_multiple_of(ALIGNMENT);
    [weights, table, table + 4 * slices.table.len()]
}

impl StreamSlot {
    /// Creates a stream with empty buffers on the current context.
    pub(super) fn new() -> CudaResult<StreamSlot> {
        Ok(StreamSlot {
            stream: Stream::new()?,
            pinned_in: Pinned::new(0)?,
            h2d: DeviceMemory::new(0)?,
            d2h: DeviceMemory::new(0)?,
            pinned_out: Pinned::new(0)?,
            intermediate: DeviceMemory::new(0)?,
            in_flight: None,
        })
    }

    /// Starts a slice; the slot must be idle and its context current. `find` returns the kernel of a launch.
    ///
    /// # Errors
    /// The driver's error, or `CUDA_ERROR_NOT_FOUND` if `find` returns `None`.
    pub(super) fn start(
        &mut self,
        slice: &CudaSlice,
        slices: &CudaSlices,
        src: &[u8],
        find: impl Fn(&Launch) -> Option<KernelFunction>,
    ) -> CudaResult<()> {
        let src = &src[slice.src.clone()];
        let [weights, table, input_size] = input_layout(src.len(), slices);
        let output_size = ALIGNMENT + slice.out.len();
        let (pinned_in, pinned_out) = (self.pinned_in.bytes().len(), self.pinned_out.bytes().len());
        grow(&mut self.pinned_in, pinned_in, input_size, Pinned::new)?;
        grow(&mut self.pinned_out, pinned_out, output_size, Pinned::new)?;
        let sizes = [self.h2d.size, self.d2h.size, self.intermediate.size];
        grow(&mut self.h2d, sizes[0], input_size, DeviceMemory::new)?;
        grow(&mut self.d2h, sizes[1], output_size, DeviceMemory::new)?;
        grow(&mut self.intermediate, sizes[2], slice.intermediate, DeviceMemory::new)?;
        let pinned_in = &mut self.pinned_in.bytes()[..input_size];
        pinned_in[..src.len()].copy_from_slice(src);
        pinned_in[weights..weights + 4 * slices.weights.len()]
            .copy_from_slice(bytemuck::cast_slice(slices.weights));
        pinned_in[table..].copy_from_slice(bytemuck::cast_slice(&slices.table));
        // From here on the stream may use the buffers even if a call fails: `finish` waits before they are
        // used again.
        self.in_flight = Some(slice.out.clone());
        let stream = self.stream.0;
        let (h2d, d2h) = (self.h2d.address, self.d2h.address);
        // SAFETY: the buffers belong to this slot, have these sizes, and live until the stream was waited
        // for.
        unsafe {
            result::memcpy_htod_async(h2d, pinned_in, stream)?;
            result::memset_d8_async(d2h, 0, 4, stream)?;
            if slice.copies_input {
                result::memcpy_dtod_async(d2h + ALIGNMENT as u64, h2d, src.len(), stream)?;
            }
        }
        let address = |buffer| match buffer {
            BufferId::Src => h2d,
            BufferId::Weights => h2d + weights as u64,
            BufferId::Table => h2d + table as u64,
            BufferId::Refused => d2h,
            BufferId::Out => d2h + ALIGNMENT as u64,
            BufferId::Intermediate => self.intermediate.address,
        };
        for launch in &slice.launches {
            let Some(function) = find(launch) else {
                return Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_FOUND));
            };
            self.launch(function, launch, address)?;
        }
        let pinned_out = &mut self.pinned_out.bytes()[..output_size];
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(pinned_out, d2h, stream) }
    }

    fn launch(
        &self,
        function: KernelFunction,
        launch: &Launch,
        address: impl Fn(BufferId) -> u64,
    ) -> CudaResult<()> {
        // The driver reads the first bytes of each value, as many as the parameter has (little-endian).
        let mut values: Vec<u64> = launch
            .arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Address(buffer, offset) => address(buffer) + offset,
                Argument::Null => 0,
                Argument::U32(word) => u64::from(word).to_le(),
                Argument::U64(long) => long,
                Argument::F32(x) => u64::from(x.to_bits()).to_le(),
            })
            .collect();
        let mut arguments: Vec<*mut c_void> =
            values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
        let (grid, block) = ((launch.groups, 1, 1), (launch.threads, 1, 1));
        // SAFETY: the arguments are those of the entry, and its threads stay within the sizes of the slice.
        // The driver has copied the arguments when it returns.
        unsafe {
            result::launch_kernel(function.0, grid, block, launch.shared, self.stream.0, &mut arguments)
        }
    }

    /// Waits for the slice in flight, if any, and copies its output to `out`. Returns false if a value was
    /// refused.
    ///
    /// # Errors
    /// The driver's error; the range of the slice in `out` is undefined then.
    pub(super) fn finish(&mut self, out: &mut [u8]) -> CudaResult<bool> {
        let Some(range) = self.in_flight.take() else { return Ok(true) };
        self.stream.wait()?;
        let pinned_out = &self.pinned_out.bytes()[..ALIGNMENT + range.len()];
        out[range].copy_from_slice(&pinned_out[ALIGNMENT..]);
        Ok(pinned_out[..4] == [0; 4])
    }
}
