//! The choice between the processor and a device, from measured rates: one policy for all drivers. Measures nothing and
//! reads no clock; rates are passed in.

use crate::device::{Kernel, Offload, kernels};
use quantoscope_core::job::Job;

/// Work that takes the processor less than this many seconds is done before a device is open and probed.
pub const SHORT_WORK: f64 = 10.0;
/// How many times faster than the processor a device must be: the processor measures and checks meanwhile.
pub const LEAST_SPEEDUP: f64 = 1.25;

/// Values that a plan sends through one kernel, and the processor's rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelLoad {
    /// The kernel: an encoder.
    pub kernel: Kernel,
    /// Number of values.
    pub values: u64,
    /// Values per second of the processor, all threads together.
    pub processor_rate: f64,
}

impl KernelLoad {
    /// Seconds that the processor takes.
    pub fn seconds(&self) -> f64 {
        self.values as f64 / self.processor_rate
    }
}

/// The encoders that `jobs` need, and how many values each encodes; in the order in which they first appear.
pub fn loads(jobs: impl Iterator<Item = Job>, processor_rate: impl Fn(Kernel) -> f64) -> Vec<KernelLoad> {
    let mut loads: Vec<KernelLoad> = Vec::new();
    for job in jobs {
        let values = job.window.height().saturating_mul(job.window.width());
        let encoders = job.device_tasks().flat_map(|task| kernels(&task));
        for kernel in encoders.filter(|k| matches!(k, Kernel::Quantize { .. })) {
            match loads.iter_mut().find(|l| l.kernel == kernel) {
                Some(load) => load.values = load.values.saturating_add(values),
                None => loads.push(KernelLoad { kernel, values, processor_rate: processor_rate(kernel) }),
            }
        }
    }
    loads
}

/// True if a device of `device_rate` values per second is worth using beside a processor of `processor_rate`.
pub fn is_worth_it(device_rate: f64, processor_rate: f64) -> bool {
    device_rate > LEAST_SPEEDUP * processor_rate
}

/// True if the processor alone takes long enough for a device to be opened and probed.
pub fn is_long(loads: &[KernelLoad]) -> bool {
    loads.iter().map(KernelLoad::seconds).sum::<f64>() >= SHORT_WORK
}

/// The kernels of `loads` that a device takes over, and the seconds of processor time that this saves. `device_rate` is that
/// of an exact kernel, in values per second; absent where the device has none.
pub fn offloaded(loads: &[KernelLoad], device_rate: impl Fn(Kernel) -> Option<f64>) -> (Vec<Kernel>, f64) {
    let faster = |l: &&KernelLoad| device_rate(l.kernel).is_some_and(|r| is_worth_it(r, l.processor_rate));
    let chosen: Vec<&KernelLoad> = loads.iter().filter(faster).collect();
    (chosen.iter().map(|l| l.kernel).collect(), chosen.iter().map(|l| l.seconds()).sum())
}

/// The device restricted to `encoders` and to all decoders, which have no rate of their own to be chosen by.
pub fn restricted(offload: Offload, encoders: &[Kernel]) -> Offload {
    offload.choosing(|k| encoders.contains(&k) || matches!(k, Kernel::Dequantize(_)))
}
