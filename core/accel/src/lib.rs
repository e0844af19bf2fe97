//! The machine room: engines that run jobs, chosen at run time, all giving the same bytes.
//!
//! An engine never parses a file and never decides what to do; it interprets jobs. The scalar code of
//! `quantoscope-core` defines every result.

use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Done, Job, Scratch};
use quantoscope_core::kernels::Kernels;

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
#[cfg(feature = "gpu")]
pub mod gpu;

pub use cpu::Level;

/// What runs jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The processor.
    Cpu(Level),
    /// A graphics device, and the processor beside it.
    #[cfg(feature = "gpu")]
    Gpu(gpu::Graphics),
    /// The first NVIDIA device, and the processor for what is not done there.
    #[cfg(feature = "cuda")]
    Cuda,
}

impl Engine {
    /// The fastest engine of this machine that gives exact bytes. Never a device: tiles are too small to be worth the way.
    pub fn auto() -> Engine {
        Engine::Cpu(Level::available().last().copied().unwrap_or(Level::Scalar))
    }

    /// Every engine of this machine: the processor's, the slowest first, then devices, which are opened for it.
    pub fn available() -> Vec<Engine> {
        let engines = Level::available().into_iter().map(Engine::Cpu);
        #[cfg(feature = "cuda")]
        let engines = engines.chain(cuda::first().ok().map(|_| Engine::Cuda));
        engines.collect()
    }

    /// As [`Engine::by_name`], and `gpu` is known too: its device is opened and probed, which takes a moment.
    pub async fn open(name: &str) -> Result<Engine> {
        #[cfg(feature = "gpu")]
        if name == "gpu" {
            return gpu::Graphics::open().await.map(Engine::Gpu);
        }
        Engine::by_name(name)
    }

    /// The engine with this name, or `auto`; the error says which ones there are.
    pub fn by_name(name: &str) -> Result<Engine> {
        if name == "auto" {
            return Ok(Engine::auto());
        }
        #[cfg(feature = "cuda")]
        if name == Engine::Cuda.name() {
            return cuda::first().map(|_| Engine::Cuda);
        }
        let level = Level::available().into_iter().find(|l| l.name() == name);
        level.map(Engine::Cpu).ok_or_else(|| {
            let names: Vec<&str> = Engine::available().into_iter().map(Engine::name).collect();
            let there = names.join(", ");
            Error::new(
                Code::Device,
                format!("this machine has no engine named {name:?}; it has auto, {there}"),
            )
        })
    }

    /// The name shown in reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Cpu(level) => level.kernels().name(),
            #[cfg(feature = "gpu")]
            Engine::Gpu(_) => "gpu",
            #[cfg(feature = "cuda")]
            Engine::Cuda => "cuda",
        }
    }

    /// What does the work of a job's tiles.
    pub fn kernels(self) -> Result<&'static dyn Kernels> {
        Ok(match self {
            Engine::Cpu(level) => level.kernels(),
            #[cfg(feature = "gpu")]
            Engine::Gpu(graphics) => graphics.level().kernels(),
            #[cfg(feature = "cuda")]
            Engine::Cuda => cuda::first()?,
        })
    }

    /// Runs a job on the bytes of its reads. The processor is ready at once; devices may have to be waited for.
    pub async fn run(self, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<Done> {
        #[cfg(feature = "gpu")]
        if let Engine::Gpu(graphics) = self {
            return graphics.run(job, inputs, scratch).await;
        }
        job::run(self.kernels()?, job, inputs, scratch)
    }
}
