//! One slice at a time on its way through a device: staging, copies and launches in one stream. While a lane computes, others
//! copy.

use super::driver::{DeviceMemory, KernelFunction, Pinned, Stream};
use super::launch::{Argument, BufferId, Launch};
use super::task::{CudaSlice, CudaSlices};
use cudarc::driver::{DriverError, result};
use std::ffi::c_void;
use std::ops::Range;

type CudaResult<T> = std::result::Result<T, DriverError>;

/// What is kept apart in memory of a device begins at a multiple of this.
const ALIGNED: usize = 256;

/// Its memory. What is brought lies together: values, weights, a table; so does what is fetched: the word that says whether a
/// value was refused, then bytes.
pub struct StreamSlot {
    // Dropped first: it waits for what still uses the others.
    stream: Stream,
    staged: Pinned,
    brought: DeviceMemory,
    fetched: DeviceMemory,
    landed: Pinned,
    between: DeviceMemory,
    /// Where in the caller's output the slice belongs that is under way, if any is.
    underway: Option<Range<usize>>,
}

/// Makes room where there is too little; by half as much again, so that a size that grows does not cost each time.
fn grown<T>(room: &mut T, has: usize, needs: usize, new: impl Fn(usize) -> CudaResult<T>) -> CudaResult<()> {
    if needs > has {
        *room = new(needs.next_multiple_of(ALIGNED) * 3 / 2)?;
    }
    Ok(())
}

/// Where weights and a table begin behind values of so many bytes, and where all ends.
fn places(src: usize, slices: &CudaSlices) -> [usize; 3] {
    let weights = src.next_multiple_of(ALIGNED);
    let table = (weights + 4 * slices.weights.len()).next_multiple_of(ALIGNED);
    [weights, table, table + 4 * slices.table.len()]
}

impl StreamSlot {
    pub fn new() -> CudaResult<StreamSlot> {
        Ok(StreamSlot {
            stream: Stream::new()?,
            staged: Pinned::new(0)?,
            brought: DeviceMemory::new(0)?,
            fetched: DeviceMemory::new(0)?,
            landed: Pinned::new(0)?,
            between: DeviceMemory::new(0)?,
            underway: None,
        })
    }

    /// Begins a slice; nothing is under way. `find` knows the entries of this lane's device, which is this thread's.
    pub fn begin(
        &mut self,
        slice: &CudaSlice,
        slices: &CudaSlices,
        src: &[u8],
        find: impl Fn(&Launch) -> Option<KernelFunction>,
    ) -> CudaResult<()> {
        let src = &src[slice.src.clone()];
        let [weights, table, end] = places(src.len(), slices);
        let fetches = ALIGNED + slice.out.len();
        let (staged, landed) = (self.staged.bytes().len(), self.landed.bytes().len());
        grown(&mut self.staged, staged, end, Pinned::new)?;
        grown(&mut self.landed, landed, fetches, Pinned::new)?;
        let sizes = [self.brought.size, self.fetched.size, self.between.size];
        grown(&mut self.brought, sizes[0], end, DeviceMemory::new)?;
        grown(&mut self.fetched, sizes[1], fetches, DeviceMemory::new)?;
        grown(&mut self.between, sizes[2], slice.between, DeviceMemory::new)?;
        let staged = &mut self.staged.bytes()[..end];
        staged[..src.len()].copy_from_slice(src);
        staged[weights..weights + 4 * slices.weights.len()]
            .copy_from_slice(bytemuck::cast_slice(slices.weights));
        staged[table..].copy_from_slice(bytemuck::cast_slice(&slices.table));
        // From here on the stream uses this lane's memory, whatever fails: it is waited for before that is used again.
        self.underway = Some(slice.out.clone());
        let stream = self.stream.0;
        let (brought, fetched) = (self.brought.address, self.fetched.address);
        // SAFETY: all of it is this lane's, of these sizes, and stays until the stream was waited for.
        unsafe {
            result::memcpy_htod_async(brought, staged, stream)?;
            result::memset_d8_async(fetched, 0, 4, stream)?;
            if slice.copies {
                result::memcpy_dtod_async(fetched + ALIGNED as u64, brought, src.len(), stream)?;
            }
        }
        let address = |room| match room {
            BufferId::Src => brought,
            BufferId::Weights => brought + weights as u64,
            BufferId::Table => brought + table as u64,
            BufferId::Refused => fetched,
            BufferId::Out => fetched + ALIGNED as u64,
            BufferId::Between => self.between.address,
        };
        for launch in &slice.launches {
            let Some(function) = find(launch) else {
                return Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_FOUND));
            };
            self.launch(function, launch, address)?;
        }
        let landed = &mut self.landed.bytes()[..fetches];
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(landed, fetched, stream) }
    }

    fn launch(
        &self,
        function: KernelFunction,
        launch: &Launch,
        address: impl Fn(BufferId) -> u64,
    ) -> CudaResult<()> {
        // The driver reads as many bytes of each as the entry's parameter has: little-endian, so the first.
        let mut values: Vec<u64> = launch
            .arguments
            .iter()
            .map(|argument| match *argument {
                Argument::At(room, by) => address(room) + by,
                Argument::Nowhere => 0,
                Argument::Word(word) => u64::from(word).to_le(),
                Argument::Long(long) => long,
                Argument::Float(x) => u64::from(x.to_bits()).to_le(),
            })
            .collect();
        let mut arguments: Vec<*mut c_void> =
            values.iter_mut().map(|v| std::ptr::from_mut(v).cast()).collect();
        let (grid, block) = ((launch.groups, 1, 1), (launch.threads, 1, 1));
        // SAFETY: the arguments are those of the entry, whose threads reach no further than what `Slice` counted; the driver has
        // copied them when it returns.
        unsafe {
            result::launch_kernel(function.0, grid, block, launch.shared, self.stream.0, &mut arguments)
        }
    }

    /// Waits for the slice under way, if any is, and puts its bytes where they belong; whether no value was refused.
    pub fn end(&mut self, out: &mut [u8]) -> CudaResult<bool> {
        let Some(range) = self.underway.take() else { return Ok(true) };
        self.stream.wait()?;
        let landed = &self.landed.bytes()[..ALIGNED + range.len()];
        out[range].copy_from_slice(&landed[ALIGNED..]);
        Ok(landed[..4] == [0; 4])
    }
}
