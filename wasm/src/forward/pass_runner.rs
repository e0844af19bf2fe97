//! Runs a forward pass on one thread: reads and decodes the weights that it asks for, window by window.

use crate::driver::browser::words;
use crate::driver::run_loop::Breath;
use crate::driver::watch::Watch;
use js_sys::Uint8Array;
use quantoscope_accel::Engine;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{self, Job, Region, Workspace};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::model::forward::{F32, Logits};
use quantoscope_core::model_pass::{ModelPass, TensorRequest};
use quantoscope_core::run::Run;
use quantoscope_core::schedule::{Budget, USUAL_WINDOW};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use web_sys::{File, FileReaderSync};

/// A pass in binary32 by the processor's engine.
pub type Pass = ModelPass<F32<'static>>;

/// Bytes for windows of weights: a quarter of what a pass holds, as on the command line.
const WINDOWS: u64 = 64 << 20;

/// Bytes for the vectors of tokens.
pub const VECTORS: u64 = 192 << 20;

/// Picked files that are read at once, not in turns of the event loop.
pub struct PassFiles {
    files: Rc<[File]>,
    reader: FileReaderSync,
}

impl PassFiles {
    /// # Errors
    /// `io` where the browser does not read synchronously: outside a worker.
    pub fn new(files: Rc<[File]>) -> Result<PassFiles> {
        let none = |_| Error::new(Code::Io, "the browser reads files synchronously in workers only");
        Ok(PassFiles { files, reader: FileReaderSync::new().map_err(none)? })
    }

    /// Reads all runs of a region.
    fn read(&self, file: u32, region: &Region, into: &mut Vec<u8>) -> Result<()> {
        let missing = || Error::new(Code::Usage, "the file of a window is not there");
        let file = self.files.get(file as usize).ok_or_else(missing)?;
        let too_large =
            |_| Error::new(Code::MemoryBudget, "a window of the work does not fit the memory of a page");
        into.resize(usize::try_from(region.len()).map_err(too_large)?, 0);
        let mut rest = into.as_mut_slice();
        for (at, len) in region.runs() {
            let (run, after) = rest.split_at_mut(rest.len().min(len as usize));
            self.read_run(file, at, run)?;
            rest = after;
        }
        Ok(())
    }

    fn read_run(&self, file: &File, at: u64, into: &mut [u8]) -> Result<()> {
        let end = at as f64 + into.len() as f64;
        let failed = |code, message: &str| Error::new(code, message).in_file(&file.name()).at(at);
        let slice = file.slice_with_f64_and_f64(at as f64, end);
        let bytes = slice.and_then(|slice| self.reader.read_as_array_buffer(&slice));
        let bytes = bytes
            .map_err(|e| failed(Code::Io, &format!("the browser cannot read the file: {}", words(&e))))?;
        let bytes = Uint8Array::new(&bytes);
        if bytes.length() as usize != into.len() {
            let message = "the file ends before its length: it was changed while it was read";
            return Err(failed(Code::Truncated, message));
        }
        bytes.copy_to(into);
        Ok(())
    }
}

/// Runs passes over the tensors of models, and counts the weights that they multiply.
pub struct PassRunner {
    kernels: &'static dyn Kernels,
    buffers: RefCell<(Workspace, Vec<Vec<u8>>)>,
    weights: Cell<u64>,
}

impl PassRunner {
    /// Nothing is counted yet.
    pub fn new() -> PassRunner {
        PassRunner { kernels: Engine::auto().kernels(), buffers: RefCell::default(), weights: Cell::new(0) }
    }

    /// The arithmetic of products.
    pub fn matmul(&self) -> F32<'static> {
        F32(self.kernels)
    }

    /// The name of the engine.
    pub fn engine(&self) -> &'static str {
        self.kernels.name()
    }

    /// Weights that were multiplied so far.
    pub fn weights(&self) -> u64 {
        self.weights.get()
    }

    /// Runs a pass to its next logits without a turn of the event loop; `None` at its end.
    ///
    /// # Errors
    /// Those of files and of the pass.
    pub fn logits(&self, files: &PassFiles, pass: &mut Pass) -> Result<Option<Logits>> {
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
    pub async fn logits_in_turns(
        &self,
        files: &PassFiles,
        pass: &mut Pass,
        turns: &mut PassTurns<'_>,
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
    fn answer(&self, files: &PassFiles, pass: &mut Pass, request: &TensorRequest) -> Result<()> {
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
        files: &PassFiles,
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
pub struct PassTurns<'a> {
    breath: Breath,
    watch: &'a Watch,
    /// Called with the weights that were multiplied.
    report: &'a dyn Fn(u64),
}

impl<'a> PassTurns<'a> {
    /// # Errors
    /// `io` where the browser has no message channels.
    pub fn new(watch: &'a Watch, report: &'a dyn Fn(u64)) -> Result<PassTurns<'a>> {
        Ok(PassTurns { breath: Breath::new()?, watch, report })
    }

    /// Takes a turn, where the last one is long enough ago.
    ///
    /// # Errors
    /// `interrupted` once the call was cancelled.
    pub async fn take(&mut self, weights: u64) -> Result<()> {
        if self.breath.take().await {
            (self.report)(weights);
        }
        self.watch.check()
    }

    /// Whether the last turn is long enough ago.
    pub fn is_due(&self) -> bool {
        self.breath.is_due()
    }
}
