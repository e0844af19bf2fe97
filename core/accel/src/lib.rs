//! Engines that run jobs. They are selected at run time and all give the same bytes.
//!
//! An engine executes a [`Job`]; it never parses a file and never plans. The scalar code of
//! `quantoscope-core` is the CPU reference that defines every result.

use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Done, Job, Workspace};
use quantoscope_core::kernels::Kernels;

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod select;

pub use cpu::SimdLevel;
use device::{Device, Offload};

/// A backend that runs jobs.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    /// The CPU at one SIMD level.
    Cpu(SimdLevel),
    /// A device. The CPU measures, verifies and does what the device declines.
    Device(&'static Offload),
}

/// Names of the devices that this build supports, as `--engine` takes them.
pub const DEVICES: &[&str] = &[
    #[cfg(feature = "gpu")]
    "gpu",
    #[cfg(feature = "cuda")]
    "cuda",
];

impl Engine {
    /// Returns the fastest CPU engine of this machine.
    pub fn auto() -> Engine {
        Engine::Cpu(fastest())
    }

    /// Wraps a device. It stays open until the program ends.
    pub fn of(offload: Offload) -> Engine {
        Engine::Device(Box::leak(Box::new(offload)))
    }

    /// Returns the CPU engines of this machine, slowest first.
    pub fn available() -> Vec<Engine> {
        SimdLevel::available().into_iter().map(Engine::Cpu).collect()
    }

    /// Opens the engine with this name: `auto`, a SIMD level or one of [`DEVICES`]. A device stays open until
    /// the program ends; none of its kernels is used before it is probed ([`Offload::ready`]).
    ///
    /// # Errors
    /// [`Code::Device`] if there is no such engine (the message lists the names) or the device cannot be
    /// opened.
    pub async fn open(name: &str) -> Result<Engine> {
        if name == "auto" {
            return Ok(Engine::auto());
        }
        if let Some(name) = DEVICES.iter().find(|n| **n == name) {
            return open_device(name).await.map(Engine::of);
        }
        let level = SimdLevel::available().into_iter().find(|l| l.name() == name);
        level.map(Engine::Cpu).ok_or_else(|| {
            let levels = Engine::available().into_iter().map(Engine::name);
            let names: Vec<&str> =
                ["auto"].into_iter().chain(levels).chain(DEVICES.iter().copied()).collect();
            let names = names.join(", ");
            Error::new(Code::Device, format!("there is no engine named {name:?} here, but {names}"))
        })
    }

    /// Name shown in reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Cpu(level) => level.kernels().name(),
            Engine::Device(offload) => offload.name(),
        }
    }

    /// The device, if the engine has one.
    pub fn device(self) -> Option<&'static Offload> {
        match self {
            Engine::Cpu(_) => None,
            Engine::Device(offload) => Some(offload),
        }
    }

    /// CPU kernels of this engine.
    pub fn kernels(self) -> &'static dyn Kernels {
        match self {
            Engine::Cpu(level) => level.kernels(),
            Engine::Device(offload) => offload.cpu(),
        }
    }

    /// Runs a job. `inputs` holds the bytes of each of its reads, in order. CPU engines never suspend.
    ///
    /// # Errors
    /// Those of [`job::run`]: a value that cannot be encoded, or inputs that do not fit the job. A device
    /// failure is no error; the CPU repeats the job.
    pub async fn run(self, job: &Job, inputs: &[&[u8]], scratch: &mut Workspace) -> Result<Done> {
        match self {
            Engine::Cpu(level) => job::run(level.kernels(), job, inputs, scratch),
            Engine::Device(offload) => offload.run(job, inputs, scratch).await,
        }
    }
}

fn fastest() -> SimdLevel {
    SimdLevel::available().last().copied().unwrap_or(SimdLevel::Scalar)
}

/// Opens the best device of a kind.
///
/// # Errors
/// [`Code::Device`] if this build does not support the name, or if the driver or the device is missing.
pub async fn open_device(name: &str) -> Result<Offload> {
    let opened: Option<(&'static str, Box<dyn Device>)> = match name {
        #[cfg(feature = "gpu")]
        "gpu" => Some(("gpu", Box::new(gpu::WgpuDevice::open().await?))),
        #[cfg(feature = "cuda")]
        "cuda" => Some(("cuda", Box::new(cuda::open().await?))),
        _ => None,
    };
    let unknown = || Error::new(Code::Device, format!("this build knows no device named {name:?}"));
    let (name, device) = opened.ok_or_else(unknown)?;
    Ok(Offload::new(name, device, fastest().kernels()))
}
