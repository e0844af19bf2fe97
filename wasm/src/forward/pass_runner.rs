//! Runs a forward pass on one thread: reads and decodes the weights that it asks for, window by window.

use crate::driver::run_loop::Breath;
use crate::driver::sync_files::SyncFiles;
use crate::driver::watch::Watch;
use quantoscope_accel::Engine;
use quantoscope_core::error::{Error, Result};
use quantoscope_core::job::{self, Job, Workspace};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::model::forward::{F32, Logits};
use quantoscope_core::model_pass::{ModelPass, TensorRequest};
use quantoscope_core::run::Run;
use quantoscope_core::schedule::{Budget, USUAL_WINDOW};
use std::cell::{Cell, RefCell};

/// A pass in binary32 by the processor's engine.
pub(super) type WorkerPass = ModelPass<F32<'static>>;

/// Bytes for windows of weights: a quarter of what a pass holds, as on the command line.
const WINDOWS: u64 = 64 << 20;

/// Bytes for the vectors of tokens.
pub(super) const VECTORS: u64 = 192 << 20;

/// Runs passes over the tensors of models, and counts the weights that they multiply.
pub(super) struct WorkerPasses {
    kernels: &'static dyn Kernels,
    buffers: RefCell<(Workspace, Vec<Vec<u8>>)>,
    weights: Cell<u64>,
}

impl WorkerPasses {
    /// Nothing is counted yet.
    pub(super) fn new() -> WorkerPasses {
        WorkerPasses { kernels: Engine::auto().kernels(), buffers: RefCell::default(), weights: Cell::new(0) }
    }

    /// The arithmetic of products.
    pub(super) fn matmul(&self) -> F32<'static> {
        F32(self.kernels)
    }

    /// The name of the engine.
    pub(super) fn engine(&self) -> &'static str {
        self.kernels.name()
    }

    /// Weights that were multiplied so far.
    pub(super) fn weights(&self) -> u64 {
        self.weights.get()
    }

    /// Runs a pass to its next logits without a turn of the event loop; `None` at its end.
    ///
    /// # Errors
    /// Those of files and of the pass.
    pub(super) fn logits(&self, files: &SyncFiles, pass: &mut WorkerPass) -> Result<Option<Logits>> {
        loop {
            if let Some(logits) = pass.take_logits() {
                return Ok(Some(logits));
            }
            match pass.request()? {
                None => return Ok(None),
                Some(request) => self.answer(files, pass, &request)?,
            }
        }
    }

    /// The same with a turn of the event loop after each tensor, where the last one is long enough ago.
    ///
    /// # Errors
    /// Those of files and of the pass, and `interrupted`.
    pub(super) async fn logits_in_turns(
        &self,
        files: &SyncFiles,
        pass: &mut WorkerPass,
        turns: &mut PassBreaks<'_>,
    ) -> Result<Option<Logits>> {
        loop {
            if let Some(logits) = pass.take_logits() {
                return Ok(Some(logits));
            }
            match pass.request()? {
                None => return Ok(None),
                Some(request) => self.answer(files, pass, &request)?,
            }
            turns.take(self.weights()).await?;
        }
    }

    /// Hands over all windows of a request.
    fn answer(&self, files: &SyncFiles, pass: &mut WorkerPass, request: &TensorRequest) -> Result<()> {
        let mut run = Run::new(&request.plan, Budget { memory: WINDOWS, workers: 1 }, USUAL_WINDOW)?;
        let cols = request.plan.outputs.first().map_or(0, |o| o.grid.cols);
        let tiles = pass.takes_tiles(request);
        let (scratch, inputs) = &mut *self.buffers.borrow_mut();
        while let Some(job) = run.next_job() {
            self.decode(files, request, &job, scratch, inputs)?;
            if tiles && job.window.cols == (0..cols) {
                if let Some(tile) = pass.tile(request, &job.window, &scratch.out)? {
                    pass.put(tile)?;
                }
            } else {
                pass.feed(request, &job.window, &scratch.out)?;
            }
            let rows = job.window.rows.end - job.window.rows.start;
            self.weights.set(self.weights.get().saturating_add(rows.saturating_mul(job.window.width())));
        }
        Ok(())
    }

    /// Reads and decodes a window.
    fn decode(
        &self,
        files: &SyncFiles,
        request: &TensorRequest,
        job: &Job,
        scratch: &mut Workspace,
        inputs: &mut Vec<Vec<u8>>,
    ) -> Result<()> {
        inputs.resize_with(job.reads.len(), Vec::new);
        for (read, buffer) in job.reads.iter().zip(inputs.iter_mut()) {
            files.read(read.file, &read.region, buffer)?;
        }
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let output = request.plan.outputs.first();
        let named = |e: Error| match output {
            Some(o) => e.map_element(|at| o.element(at)).of_tensor(&o.name),
            None => e,
        };
        job::run(self.kernels, job, &slices, scratch).map(drop).map_err(named)
    }
}

/// Turns of the event loop, each with a report of the progress.
pub(super) struct PassBreaks<'a> {
    breath: Breath,
    watch: &'a Watch,
    /// Called with the weights that were multiplied.
    report: &'a dyn Fn(u64),
}

impl<'a> PassBreaks<'a> {
    /// # Errors
    /// `io` where the browser has no message channels.
    pub(super) fn new(watch: &'a Watch, report: &'a dyn Fn(u64)) -> Result<PassBreaks<'a>> {
        Ok(PassBreaks { breath: Breath::new()?, watch, report })
    }

    /// Takes a turn, where the last one is long enough ago.
    ///
    /// # Errors
    /// `interrupted` once the call was cancelled.
    pub(super) async fn take(&mut self, weights: u64) -> Result<()> {
        if self.breath.take().await {
            (self.report)(weights);
        }
        self.watch.turn().await
    }

    /// Whether the last turn is long enough ago.
    pub(super) fn is_due(&self) -> bool {
        self.breath.is_due()
    }
}
