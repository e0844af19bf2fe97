//! The machine room: engines that run jobs, chosen at run time, all giving the same bytes.
//!
//! An engine never parses a file and never decides what to do; it interprets jobs. The scalar code of
//! `quantoscope-core` defines every result.

use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Done, Job, Scratch};
use quantoscope_core::kernels::{Kernels, Scalar};

/// A level of CPU support. A value, so that tests can iterate over levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain loops, on every machine.
    Scalar,
}

impl Level {
    /// Every level that this machine supports, the slowest first.
    pub fn available() -> Vec<Level> {
        vec![Level::Scalar]
    }

    /// Its kernels.
    pub fn kernels(self) -> &'static dyn Kernels {
        match self {
            Level::Scalar => &Scalar,
        }
    }
}

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

    /// The engine with this name, or `auto`.
    pub fn by_name(name: &str) -> Result<Engine> {
        let named = |l: &Level| l.kernels().name() == name;
        match name {
            "auto" => Ok(Engine::auto()),
            _ => Level::available().into_iter().find(named).map(Engine::Cpu).ok_or_else(|| {
                Error::new(Code::Device, format!("this machine has no engine named {name:?}"))
            }),
        }
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
