//! The machine room: engines that run jobs, chosen at run time, all giving the same bytes.
//!
//! An engine never parses a file and never decides what to do; it interprets jobs. The scalar code of
//! `quantoscope-core` defines every result.

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

/// What runs jobs.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    /// The processor.
    Cpu(SimdLevel),
    /// A device, and the processor beside it.
    Device(&'static Offload),
}

/// The names of the devices that this build knows.
pub const DEVICES: &[&str] = &[
    #[cfg(feature = "gpu")]
    "gpu",
    #[cfg(feature = "cuda")]
    "cuda",
];

impl Engine {
    /// The fastest engine of this machine that needs no device.
    pub fn auto() -> Engine {
        Engine::Cpu(fastest())
    }

    /// A device with the processor beside it, open as long as the program runs.
    pub fn of(offload: Offload) -> Engine {
        Engine::Device(Box::leak(Box::new(offload)))
    }

    /// Those of the processor, the slowest first.
    pub fn available() -> Vec<Engine> {
        SimdLevel::available().into_iter().map(Engine::Cpu).collect()
    }

    /// The engine with this name, or `auto`; the error says which ones there are. A device is opened, which takes a moment,
    /// and stays open; its kernels are not used before they are probed ([`Offload::ready`]).
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
            let there: Vec<&str> =
                ["auto"].into_iter().chain(levels).chain(DEVICES.iter().copied()).collect();
            let there = there.join(", ");
            Error::new(Code::Device, format!("there is no engine named {name:?} here, but {there}"))
        })
    }

    /// The name shown in reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Cpu(level) => level.kernels().name(),
            Engine::Device(offload) => offload.name(),
        }
    }

    /// The device, where there is one.
    pub fn device(self) -> Option<&'static Offload> {
        match self {
            Engine::Cpu(_) => None,
            Engine::Device(offload) => Some(offload),
        }
    }

    /// What the processor works with, alone or beside a device.
    pub fn kernels(self) -> &'static dyn Kernels {
        match self {
            Engine::Cpu(level) => level.kernels(),
            Engine::Device(offload) => offload.cpu(),
        }
    }

    /// Runs a job on the bytes of its reads. The processor is ready at once; devices may have to be waited for.
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

/// Opens the best device of a kind. The error says what is missing.
pub async fn open_device(name: &str) -> Result<Offload> {
    let (name, device): (&'static str, Box<dyn Device>) = match name {
        #[cfg(feature = "gpu")]
        "gpu" => ("gpu", Box::new(gpu::WgpuDevice::open().await?)),
        #[cfg(feature = "cuda")]
        "cuda" => ("cuda", Box::new(cuda::open().await?)),
        _ => return Err(Error::new(Code::Device, format!("this build knows no device named {name:?}"))),
    };
    Ok(Offload::new(name, device, fastest().kernels()))
}
