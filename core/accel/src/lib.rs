//! The machine room: engines that run jobs, chosen at run time, all giving the same bytes.
//!
//! An engine never parses a file and never decides what to do; it interprets jobs. The scalar code of
//! `quantoscope-core` defines every result.

use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Done, Job, Scratch};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

pub use cpu::Level;

/// What runs jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The processor.
    Cpu(Level),
}

impl Engine {
    /// The fastest engine of this machine that gives exact bytes.
    pub fn auto() -> Engine {
        Engine::Cpu(Level::available().last().copied().unwrap_or(Level::Scalar))
    }

    /// Every engine of this machine, the slowest first.
    pub fn available() -> Vec<Engine> {
        Level::available().into_iter().map(Engine::Cpu).collect()
    }

    /// The engine with this name, or `auto`; the error says which ones there are.
    pub fn by_name(name: &str) -> Result<Engine> {
        if name == "auto" {
            return Ok(Engine::auto());
        }
        let available = Engine::available();
        available.iter().copied().find(|e| e.name() == name).ok_or_else(|| {
            let names: Vec<&str> = available.iter().map(|e| e.name()).collect();
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
        }
    }

    /// Runs a job on the bytes of its reads. The processor is ready at once; devices may have to be waited for.
    pub async fn run(self, job: &Job, inputs: &[&[u8]], scratch: &mut Scratch) -> Result<Done> {
        match self {
            Engine::Cpu(level) => job::run(level.kernels(), job, inputs, scratch),
        }
    }
}
