//! The kernels of a device as kernels of an engine: what the probe found exact runs there, all else on the processor.

use super::probe::Exact;
use super::texts;
use quantoscope_core::DType;
use quantoscope_core::error::Result;
use quantoscope_core::kernels::Kernels;
use quantoscope_core::metric::{Histogram, Moments, PairSums};
use quantoscope_core::quant::{Encoding, Refused};
use quantoscope_core::rotate::Rotation;
use std::sync::atomic::{AtomicBool, Ordering};

/// One run of an entry of [`texts`].
#[derive(Debug)]
pub struct Call<'a> {
    /// Whose text.
    pub dtype: DType,
    /// [`texts::DECODE`] or one of [`texts::encode`].
    pub entry: &'static str,
    /// What the entry reads.
    pub src: &'a [u8],
    /// What it writes, every byte of it.
    pub out: &'a mut [u8],
    /// How many blocks, at least one; `src` and `out` have the bytes of as many.
    pub blocks: u32,
}

/// What runs the kernels: a device, or what stands for one in tests.
pub trait Device: Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// Runs an entry, from and to the memory of the host; whether it said that a value is refused.
    ///
    /// After an error nothing is known of `out`.
    fn run(&self, call: Call) -> Result<bool>;
}

/// An engine that asks a device where its kernels are exact, and the processor elsewhere.
///
/// A device that fails once is not asked again: what it was to do is done by the processor, so that no result depends on it.
pub struct Offload<D> {
    device: D,
    exact: Exact,
    lost: AtomicBool,
    cpu: &'static dyn Kernels,
}

impl<D: Device> Offload<D> {
    /// Probes every kernel of the device; `cpu` does what the device does not.
    pub fn new(device: D, cpu: &'static dyn Kernels) -> Offload<D> {
        let exact = Exact::probe(&device);
        Offload { device, exact, lost: AtomicBool::new(false), cpu }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Which kernels are exact there.
    pub fn exact(&self) -> &Exact {
        &self.exact
    }

    /// Whether the device failed since.
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Runs an entry if it is exact; whether that was done and nothing was refused.
    fn run(&self, dtype: DType, entry: &'static str, src: &[u8], values: usize, out: &mut [u8]) -> bool {
        let count = u32::try_from(values / texts::LEN).ok().filter(|&n| n > 0);
        let Some(blocks) = count.filter(|_| self.exact.has(dtype, entry) && !self.lost()) else {
            return false;
        };
        match self.device.run(Call { dtype, entry, src, out, blocks }) {
            Ok(refused) => !refused,
            Err(_) => {
                self.lost.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    /// Encodes stored values; whether that was done.
    fn encoded(&self, from: DType, src: &[u8], to: Encoding, values: usize, out: &mut [u8]) -> bool {
        let (Encoding::Type(dtype), Some(entry)) = (to, texts::encode(from)) else { return false };
        let fits = |d: DType, bytes: &[u8]| d.bytes_for(values as u64) == Some(bytes.len() as u64);
        fits(from, src) && fits(dtype, out) && self.run(dtype, entry, src, values, out)
    }
}

impl<D: Device> Kernels for Offload<D> {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn decode(&self, dtype: DType, src: &[u8], out: &mut [f32]) -> std::result::Result<(), Refused> {
        let values = out.len();
        let fits = dtype.bytes_for(values as u64) == Some(src.len() as u64);
        if fits && self.run(dtype, texts::DECODE, src, values, bytemuck::cast_slice_mut(out)) {
            return Ok(());
        }
        self.cpu.decode(dtype, src, out)
    }

    /// What is to blame for a refusal is for the processor to find out.
    fn encode(
        &self,
        encoding: Encoding,
        src: &[f32],
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> std::result::Result<(), Refused> {
        let bytes = bytemuck::cast_slice(src);
        if importance.is_none() && self.encoded(DType::F32, bytes, encoding, src.len(), out) {
            return Ok(());
        }
        self.cpu.encode(encoding, src, importance, out)
    }

    fn recode(
        &self,
        from: DType,
        src: &[u8],
        to: Encoding,
        values: &mut [f32],
        out: &mut [u8],
    ) -> std::result::Result<(), Refused> {
        if self.encoded(from, src, to, values.len(), out) {
            return Ok(());
        }
        if self.exact.has(from, texts::DECODE) {
            self.decode(from, src, values)?;
            return self.encode(to, values, None, out);
        }
        self.cpu.recode(from, src, to, values, out)
    }

    fn moments(&self, values: &[f32]) -> Moments {
        self.cpu.moments(values)
    }

    fn count(&self, histogram: &mut Histogram, values: &[f32]) {
        self.cpu.count(histogram, values);
    }

    fn pair(&self, reference: &[f32], candidate: &[f32]) -> PairSums {
        self.cpu.pair(reference, candidate)
    }

    fn rotate_rows(&self, rotation: &Rotation, x: &mut [f32], stride: usize, at: usize) {
        self.cpu.rotate_rows(rotation, x, stride, at);
    }

    fn rotate_columns(&self, rotation: &Rotation, x: &mut [f32], width: usize) {
        self.cpu.rotate_columns(rotation, x, width);
    }

    fn transcode(
        &self,
        from: DType,
        to: DType,
        src: &[u8],
        out: &mut [u8],
    ) -> std::result::Result<(), Refused> {
        self.cpu.transcode(from, to, src, out)
    }
}
