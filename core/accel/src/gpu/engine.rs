//! Jobs on a graphics device: it makes the bytes that it can make, and the processor does and measures the rest.

use super::{Gpu, Outcome, Verdict};
use crate::cpu::Level;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Done, Job, Scratch};
use quantoscope_core::quant::Encoding;
use std::fmt;

/// A graphics device, and the level of the processor beside it. A value, for the device stays open.
#[derive(Clone, Copy)]
pub struct Graphics {
    gpu: &'static Gpu,
    level: Level,
}

impl Graphics {
    /// The device of this machine with its kernels probed, and the processor's fastest level; fails where there is no
    /// device, or none of its kernels is exact.
    pub async fn open() -> Result<Graphics> {
        let gpu = Gpu::open().await?;
        if gpu.verdicts().all(|(_, verdict)| verdict == Verdict::Refused) {
            let message = format!("{} gave wrong bytes when it was probed, so it is not used", gpu.name());
            return Err(Error::new(Code::Device, message));
        }
        let level = Level::available().last().copied().unwrap_or(Level::Scalar);
        Ok(Graphics { gpu: Box::leak(Box::new(gpu)), level })
    }

    /// The device.
    pub fn gpu(self) -> &'static Gpu {
        self.gpu
    }

    /// The level that does what the device does not.
    pub fn level(self) -> Level {
        self.level
    }

    /// Runs a job. What the device declines, or fails at, is done by the processor alone.
    pub(crate) async fn run(self, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<Done> {
        if self.make(job, inputs, scratch).await {
            return job::complete(self.level.kernels(), job, inputs, scratch);
        }
        job::run(self.level.kernels(), job, inputs, scratch)
    }

    /// Whether the device made the bytes of a job.
    async fn make(self, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> bool {
        let (Some((from, Encoding::Type(to))), Some(input)) = (job.recodes(), inputs.first()) else {
            return false;
        };
        let values = job.window.height().checked_mul(job.window.width());
        let bytes = values.and_then(|n| to.bytes_for(n)).and_then(|n| usize::try_from(n).ok());
        let Some(bytes) = bytes else { return false };
        scratch.out.resize(bytes, 0);
        matches!(self.gpu.quantize(from, input, to, &mut scratch.out).await, Ok(Outcome::Done))
    }
}

impl PartialEq for Graphics {
    fn eq(&self, other: &Graphics) -> bool {
        std::ptr::eq(self.gpu, other.gpu) && self.level == other.level
    }
}

impl Eq for Graphics {}

impl fmt::Debug for Graphics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graphics({}, {:?})", self.gpu.name(), self.level)
    }
}
