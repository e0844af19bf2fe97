//! Resources of forward passes: engine, threads, and memory for weights and for the vectors of tokens.

use crate::drive::Resources;
use crate::forward_pass::{PassRunner, Threaded};
use crate::io::source::Source;
use crate::options::ResourceOptions;
use crate::render::progress::PassProgress;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::schedule::Budget;

/// Default memory for each thread, in bytes.
pub(super) const MEMORY: u64 = 256 << 20;

/// How passes are run.
pub(super) struct PassResources {
    pub kernels: &'static dyn Kernels,
    /// All memory, and threads.
    budget: Budget,
    quiet: bool,
}

impl PassResources {
    /// Resources of a verb.
    ///
    /// # Errors
    ///
    /// Those of [`Resources::new`].
    pub(super) fn new(options: &ResourceOptions) -> Result<PassResources> {
        let resources = Resources::new(options)?;
        let workers = resources.budget.workers;
        let memory = options.memory.unwrap_or(MEMORY * u64::from(workers));
        let kernels = resources.engine.kernels();
        Ok(PassResources { kernels, budget: Budget { memory, workers }, quiet: !options.progress })
    }

    /// Worker threads.
    pub(super) fn threads(&self) -> u32 {
        self.budget.workers
    }

    /// Memory for windows of weights, and threads.
    pub(super) fn windows(&self) -> Budget {
        Budget { memory: self.budget.memory / 4, ..self.budget }
    }

    /// Bytes for everything but windows of weights.
    pub(super) fn room(&self) -> u64 {
        self.budget.memory - self.windows().memory
    }

    /// The arithmetic on all threads.
    pub(super) fn threaded<M>(&self, matmul: M) -> Threaded<M> {
        Threaded { matmul, kernels: self.kernels, threads: self.budget.workers as usize }
    }

    /// A progress bar; `verb` is a participle.
    pub(super) fn progress(&self, verb: &'static str) -> PassProgress {
        PassProgress::new(verb, self.quiet)
    }

    /// What runs a pass over the weights of a source.
    pub(super) fn runner<'r>(&self, source: &'r Source, add: &'r (dyn Fn(u64) + Sync)) -> PassRunner<'r> {
        PassRunner::new(source, self.kernels, self.windows(), add)
    }

    /// Items of `each` bytes that fit the memory together beside `fixed` bytes, at least one.
    ///
    /// # Errors
    ///
    /// `memory_budget` if not even one fits; `what` names it.
    pub(super) fn fitting(&self, each: u64, fixed: u64, what: &str) -> Result<usize> {
        let fitting = self.room().saturating_sub(fixed) / each.max(1);
        if fitting > 0 {
            return Ok(usize::try_from(fitting).unwrap_or(usize::MAX));
        }
        let need = each.saturating_add(fixed).saturating_mul(4) / 3;
        let message =
            format!("{what} need about {} MiB of --memory; a smaller --context needs less", (need >> 20) + 1);
        Err(Error::new(Code::MemoryBudget, message))
    }
}
