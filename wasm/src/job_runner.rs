//! The windows of a plan, one at a time, on bytes that the driver puts into their buffers.

use quantoscope_accel::Engine;
use quantoscope_accel::device::Offload;
#[cfg(feature = "full")]
use quantoscope_accel::device::{Kernel, kernels};
use quantoscope_core::error::{Code, Error, Result};
#[cfg(feature = "full")]
use quantoscope_core::job::Window;
use quantoscope_core::job::{self, Done, Job, Payload, Read, Workspace, Write};
use quantoscope_core::plan::Plan;
use quantoscope_core::report::{DeviceView, RunInfo};
use quantoscope_core::run::{PlanMeasurements, Run};
#[cfg(feature = "full")]
use quantoscope_core::schedule::whole;
use quantoscope_core::schedule::{Budget, windows_in};
use std::mem::take;
use std::rc::Rc;

/// Bytes that the windows of a run hold, smallest first: a page is one of many, and only the windows of rotated tensors,
/// which are whole columns, need more.
const MEMORY: [u64; 3] = [16 << 20, 64 << 20, 256 << 20];

/// Bytes that a window of the processor reads and writes: each window costs messages with the browser.
const WINDOW: u64 = 4 << 20;

/// A plan in progress.
pub(crate) struct JobRunner {
    run: Run<Rc<Plan>>,
    engine: Engine,
    budget: Budget,
    /// Bytes that a window reads and writes.
    window: u64,
    /// Memory of the window before.
    inputs: Vec<Vec<u8>>,
    scratch: Workspace,
}

/// A window that is being run: taken out of its runner, so that nothing is borrowed while files or a device are waited for.
pub struct StartedJob {
    engine: Engine,
    job: Job,
    inputs: Vec<Vec<u8>>,
    scratch: Workspace,
    payload: Payload,
}

impl JobRunner {
    /// Prepares `plan` for the processor.
    ///
    /// # Errors
    /// `memory_budget` where a window does not fit the memory of a page.
    pub(crate) fn new(plan: Rc<Plan>) -> Result<JobRunner> {
        let engine = Engine::auto();
        let (budget, window) = affordable(&plan, engine)?;
        Ok(JobRunner {
            run: Run::new(plan, budget, window)?,
            engine,
            budget,
            window,
            inputs: Vec::new(),
            scratch: Workspace::default(),
        })
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.run.plan()
    }

    /// What was measured.
    pub(crate) fn measurements(&self) -> &PlanMeasurements {
        self.run.measurements()
    }

    /// Lets a device take part, before the first window.
    #[cfg(feature = "full")]
    pub(crate) fn attach_device(&mut self, offload: &'static Offload) -> Result<()> {
        let engine = Engine::Device(offload);
        let (budget, window) = affordable(self.plan(), engine)?;
        self.run.restart(budget, window, Vec::new())?;
        (self.budget, self.window, self.engine) = (budget, window, engine);
        Ok(())
    }

    /// True if a device takes part that has not been given up.
    pub(crate) fn on_device(&self) -> bool {
        self.engine.device().is_some_and(|o| o.ended().is_none())
    }

    /// The kernels that the windows of the plan can use.
    #[cfg(feature = "full")]
    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let mut all = Vec::new();
        for job in whole(self.plan()) {
            for kernel in job.device_tasks().flat_map(|task| kernels(&task)) {
                if !all.contains(&kernel) {
                    all.push(kernel);
                }
            }
        }
        all
    }

    /// The next window, with room for what it reads; `None` at the end.
    ///
    /// # Errors
    /// `memory_budget` where it does not fit.
    pub(crate) fn next_window(&mut self) -> Result<Option<StartedJob>> {
        let Some(job) = self.run.next_job() else { return Ok(None) };
        let (mut inputs, scratch) = (take(&mut self.inputs), take(&mut self.scratch));
        inputs.resize_with(job.reads.len(), Vec::new);
        for (buffer, read) in inputs.iter_mut().zip(&job.reads) {
            let len = usize::try_from(read.region.len());
            buffer.resize(len.map_err(|_| too_large())?, 0);
        }
        Ok(Some(StartedJob { engine: self.engine, job, inputs, scratch, payload: Payload::None }))
    }

    /// Takes the outcome of a window in. True after a device returned wrong bytes: then the run has been restarted without
    /// it, and the next window is the first.
    ///
    /// # Errors
    /// That of the window, with its tensor.
    pub(crate) fn finish(&mut self, started: &mut StartedJob, done: Result<Done>) -> Result<bool> {
        let done = done.map_err(|e| e.of_tensor(self.name(&started.job)))?;
        if self.run.finish(&started.job, done.measured, &done.made) {
            started.payload = done.payload;
            return Ok(false);
        }
        self.run.restart(self.budget, self.window, Vec::new())?;
        Ok(true)
    }

    /// Takes the memory of a window back.
    pub(crate) fn reuse(&mut self, started: StartedJob) {
        (self.inputs, self.scratch) = (started.inputs, started.scratch);
    }

    /// The tensor of a window.
    pub(crate) fn label(&self, started: &StartedJob) -> &str {
        self.name(&started.job)
    }

    fn name(&self, job: &Job) -> &str {
        self.plan().outputs.get(job.output as usize).map_or("", |o| o.name.as_str())
    }

    /// What a report says of the run itself.
    pub(crate) fn info(&self) -> RunInfo {
        let device = |o: &Offload| DeviceView::new(o.device().name(), self.run.spot_check(), o.ended());
        RunInfo {
            version: concat!("quantoscope ", env!("CARGO_PKG_VERSION")),
            engine: self.engine.name(),
            threads: 1,
            seconds: None,
            resumed_windows: 0,
            device: self.engine.device().map(device),
        }
    }
}

impl StartedJob {
    /// What the window reads, and where its bytes belong.
    pub fn reads(&mut self) -> impl Iterator<Item = (&Read, &mut [u8])> {
        self.job.reads.iter().zip(self.inputs.iter_mut().map(Vec::as_mut_slice))
    }

    /// Where the window writes its bytes, one write after the other.
    pub fn writes(&self) -> &[Write] {
        &self.job.writes
    }

    /// The bytes that it made, once it is finished.
    pub fn payload(&self) -> &[u8] {
        match self.payload {
            Payload::None => &[],
            Payload::Input => self.inputs.first().map_or(&[], Vec::as_slice),
            Payload::Scratch => &self.scratch.out,
        }
    }

    /// Runs the window.
    pub async fn run(&mut self) -> Result<Done> {
        let slices: Vec<&[u8]> = self.inputs.iter().map(Vec::as_slice).collect();
        // Only this build opens devices: links nothing of theirs otherwise.
        if cfg!(feature = "full") {
            return self.engine.run(&self.job, &slices, &mut self.scratch).await;
        }
        job::run(self.engine.kernels(), &self.job, &slices, &mut self.scratch)
    }

    /// The window.
    #[cfg(feature = "full")]
    pub fn window(&self) -> &Window {
        &self.job.window
    }
}

/// The budget and the windows of a run: the smallest budget that suffices. A device gets the second, because it wants as
/// much at once as it can take.
fn affordable(plan: &Plan, engine: Engine) -> Result<(Budget, u64)> {
    let (window, least) = match engine.device() {
        Some(offload) => (offload.device().preferred_batch() as u64 * size_of::<f32>() as u64, 1),
        None => (WINDOW, 0),
    };
    let mut refused = too_large();
    for memory in MEMORY.into_iter().skip(least) {
        let budget = Budget { memory, workers: 1 };
        match windows_in(plan, &budget, window) {
            Ok(_) => return Ok((budget, window)),
            Err(e) if e.code() == Code::MemoryBudget => refused = e,
            Err(e) => return Err(e),
        }
    }
    Err(refused)
}

fn too_large() -> Error {
    Error::new(Code::MemoryBudget, "a window of the work does not fit the memory of a page")
}
