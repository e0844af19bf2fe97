//! The command line's driver of a [`Run`]: threads take windows in order, read, compute and write them. Results never
//! depend on the number of threads.

use crate::engine_select;
use crate::exit::no_thread;
use crate::io::journal::Journal;
use crate::io::output::OutputFiles;
use crate::io::source::Source;
use crate::render::progress::Progress;
use crate::signals;
use crate::system_limits;
use quantoscope_accel::Engine;
use quantoscope_accel::device::Offload;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{Done, Job, Payload, SpotCheckStats, Workspace};
use quantoscope_core::plan::{Plan, Side};
use quantoscope_core::report::{DeviceView, RunInfo};
use quantoscope_core::run::{PlanMeasurements, Run};
use quantoscope_core::schedule::{Budget, whole, windows_in};
use quantoscope_core::wire::{JobKey, Record};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Finished windows are brought to disk and noted at least this often, so that a killed run loses little.
const SYNC_EVERY: Duration = Duration::from_millis(100);

/// Bytes that a window reads and writes: with its values they stay in a processor's second-level cache from the read to
/// the write.
pub(crate) const WINDOW: u64 = 512 << 10;

/// Bytes that a window of this driver reads and writes. A device wants as much at once as it can take.
fn window(resources: &Resources) -> u64 {
    let stretch = |offload: &Offload| offload.device().preferred_batch() as u64 * size_of::<f32>() as u64;
    resources.engine.device().map_or(WINDOW, stretch)
}

/// How the work is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resources {
    pub engine: Engine,
    /// Whether the engine was left to the program.
    auto: bool,
    pub budget: Budget,
}

impl Resources {
    /// From what was typed, or from the machine.
    pub(crate) fn new(work: &crate::options::ResourceOptions) -> Result<Resources> {
        let engine = pollster::block_on(Engine::open(&work.engine))?;
        let workers = match work.threads {
            Some(n) => n,
            None => thread::available_parallelism().map_or(1, |n| n.get() as u32),
        };
        let memory = work.memory.unwrap_or(u64::from(workers) * (32 << 20));
        let budget = system_limits::fitting(Budget { memory, workers });
        Ok(Resources { engine, auto: work.engine == "auto", budget })
    }

    /// Ready for a plan: with the engine that is best for it, where none was named, a device's kernels probed, and as many
    /// workers as have room for the plan's windows.
    pub(crate) fn with_selected_engine(mut self, plan: &Plan) -> Result<Resources> {
        if self.auto {
            self.engine = engine_select::engine(whole(plan), self.budget.workers);
        } else if let Some(device) = self.engine.device() {
            pollster::block_on(device.ready(whole(plan)))?;
        }
        let too_small = |budget: &Budget| {
            windows_in(plan, budget, window(&self)).is_err_and(|e| e.code() == Code::MemoryBudget)
        };
        let mut budget = self.budget;
        while budget.workers > 1 && too_small(&budget) {
            budget.workers -= 1;
        }
        self.budget = budget;
        Ok(self)
    }

    /// What a report says of the run.
    pub(crate) fn run(&self, started: Instant, driven: &RunOutcome) -> RunInfo {
        let device = |o: &Offload| DeviceView::new(o.device().name(), driven.made, o.ended());
        RunInfo {
            version: concat!("quantoscope ", env!("CARGO_PKG_VERSION")),
            engine: self.engine.name(),
            threads: self.budget.workers,
            seconds: Some(started.elapsed().as_secs_f64()),
            resumed_windows: driven.resumed,
            device: self.engine.device().map(device),
        }
    }
}

/// Where the results of windows go.
pub(crate) struct Sink<'a> {
    /// The files of a conversion; `None` where the plan writes nothing.
    pub files: Option<&'a OutputFiles>,
    pub journal: Journal,
    /// Windows of an earlier run.
    pub records: Vec<Record>,
}

/// Result of a run.
pub(crate) struct RunOutcome {
    /// What was measured.
    pub collected: PlanMeasurements,
    /// Windows that an earlier run had done.
    pub resumed: u64,
    /// Blocks that a device computed, and the result of the spot check.
    pub made: SpotCheckStats,
}

/// Called with an output's index when its last window is done, in order of outputs.
pub(crate) type OnOutput<'a> = &'a (dyn Fn(usize, &PlanMeasurements) + Sync);

/// A run: the plan, what it reads, and the receivers of its progress.
pub(crate) struct RunRequest<'a> {
    pub plan: &'a Plan,
    pub sources: &'a [&'a Source],
    pub resources: Resources,
    pub progress: &'a Progress,
    pub on_output: OnOutput<'a>,
    /// Called where a device computed wrong bytes, before the run starts again without it; outputs are announced again.
    pub on_device_fault: &'a (dyn Fn() + Sync),
}

/// What the workers of a run share.
struct Workers<'a> {
    state: Mutex<RunState<'a>>,
    /// True once no more windows are handed out: something failed, or a device computed wrong bytes.
    stopped: AtomicBool,
    request: &'a RunRequest<'a>,
    files: Option<&'a OutputFiles>,
    /// Whether finished windows are recorded in a journal.
    journals: bool,
}

struct RunState<'a> {
    run: Run<&'a Plan>,
    /// Number of windows handed out.
    started: usize,
    /// The failure of the earliest window, and its number.
    failure: Option<(usize, Error)>,
    /// Finished windows that the journal does not have yet.
    unnoted: Vec<Record>,
}

/// Holds workers back until all of them are there.
#[derive(Default)]
struct Start {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Start {
    fn wait(&self) {
        let closed = |open: &mut bool| !*open;
        drop(self.opened.wait_while(lock(&self.open), closed));
    }

    fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }
}

/// Tells the keeper of the journal that a worker has ended, however it ended.
struct WorkerGuard<'a> {
    working: &'a AtomicUsize,
    keeper: Thread,
}

impl Drop for WorkerGuard<'_> {
    fn drop(&mut self) {
        self.working.fetch_sub(1, Ordering::Release);
        self.keeper.unpark();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs every window of the plan. Where a device computed a wrong block, nothing of its output is kept: the run starts
/// again without it.
///
/// # Errors
///
/// That of the earliest window that failed, or `interrupted`.
pub(crate) fn drive<'a>(request: &'a RunRequest<'a>, sink: Option<Sink<'a>>) -> Result<RunOutcome> {
    let (records, files, mut journal) = match sink {
        Some(sink) => (sink.records, sink.files, Some(sink.journal)),
        None => (Vec::new(), None, None),
    };
    let resources = &request.resources;
    let mut run = Run::new(request.plan, resources.budget, window(resources))?;
    run.resume(records.clone());
    let run = attempt(request, files, journal.as_mut(), run)?;
    let run = match run.device_differed() {
        false => run,
        true => {
            (request.on_device_fault)();
            request.progress.restart();
            let mut run = run;
            run.restart(resources.budget, window(resources), records)?;
            attempt(request, files, journal.as_mut(), run)?
        }
    };
    Ok(RunOutcome { resumed: run.resumed(), made: run.spot_check(), collected: run.into_measurements() })
}

fn note_failed(e: std::io::Error) -> Error {
    crate::exit::io_error(&e, "cannot write the journal")
}

/// Runs the windows that are left, until they are finished or a device computed wrong bytes.
fn attempt<'a>(
    request: &'a RunRequest<'a>,
    files: Option<&'a OutputFiles>,
    mut journal: Option<&mut Journal>,
    run: Run<&'a Plan>,
) -> Result<Run<&'a Plan>> {
    let state = RunState { run, started: 0, failure: None, unnoted: Vec::new() };
    let journals = journal.is_some();
    let stopped = AtomicBool::new(false);
    let shared = Workers { state: Mutex::new(state), stopped, request, files, journals };
    shared.announce(&mut lock(&shared.state));
    let working = &AtomicUsize::new(0);
    // No worker begins before all were started: a failure to start one has nothing to undo.
    let start = &Start::default();
    thread::scope(|scope| {
        for _ in 0..request.resources.budget.workers {
            working.fetch_add(1, Ordering::Relaxed);
            let guard = WorkerGuard { working, keeper: thread::current() };
            let shared = &shared;
            let worker = move || {
                let _guard = guard;
                start.wait();
                shared.worker();
            };
            if let Err(e) = thread::Builder::new().spawn_scoped(scope, worker) {
                shared.fail(usize::MAX, no_thread(&e));
                break;
            }
        }
        start.open();
        if let Some(journal) = journal.as_deref_mut()
            && let Err(e) = shared.keep_journal(journal, working)
        {
            shared.fail(usize::MAX, e);
        }
    });
    let state = shared.state.into_inner().unwrap_or_else(|e| e.into_inner());
    let differed = state.run.device_differed();
    if let (Some(journal), true) = (journal, differed) {
        // However this ends, a later `--resume` must not keep what the device computed.
        journal.doubt().map_err(note_failed)?;
    }
    match state.failure {
        // Wrong bytes of a device may be why something failed.
        Some((_, e)) if !differed || e.code() == Code::Interrupted => Err(e),
        _ => Ok(state.run),
    }
}

impl Workers<'_> {
    fn fail(&self, index: usize, error: Error) {
        let mut state = lock(&self.state);
        if state.failure.as_ref().is_none_or(|(i, _)| index < *i) {
            state.failure = Some((index, error));
        }
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Syncs what was written, then notes it, again and again until every worker has ended.
    fn keep_journal(&self, journal: &mut Journal, working: &AtomicUsize) -> Result<()> {
        loop {
            let ended = working.load(Ordering::Acquire) == 0;
            let records = std::mem::take(&mut lock(&self.state).unnoted);
            if !records.is_empty() {
                self.files.map_or(Ok(()), OutputFiles::sync)?;
                journal.append(&records)?;
            }
            if ended {
                return Ok(());
            }
            thread::park_timeout(SYNC_EVERY);
        }
    }

    /// Windows are handed out in order, so every window before a failed one has been started, and is finished.
    fn next(&self) -> Option<(usize, Job)> {
        let mut state = lock(&self.state);
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        if signals::interrupted() {
            drop(state);
            self.fail(usize::MAX, Error::new(Code::Interrupted, "interrupted"));
            return None;
        }
        let resumed = state.run.resumed();
        let job = state.run.next_job();
        if state.run.resumed() > resumed {
            self.announce(&mut state);
        }
        state.started += 1;
        Some((state.started, job?))
    }

    fn worker(&self) {
        let mut scratch = Workspace::default();
        let mut inputs: Vec<Vec<u8>> = Vec::new();
        while let Some((index, job)) = self.next() {
            match self.compute(&job, &mut inputs, &mut scratch) {
                Ok(done) => self.finished(&job, done),
                Err(e) => self.fail(index, self.place(&job, e)),
            }
        }
    }

    fn compute(&self, job: &Job, inputs: &mut Vec<Vec<u8>>, scratch: &mut Workspace) -> Result<Done> {
        inputs.resize_with(job.reads.len().max(inputs.len()), Vec::new);
        for (read, buffer) in job.reads.iter().zip(inputs.iter_mut()) {
            let side = usize::from(read.side == Side::Candidate);
            let missing = || Error::new(Code::Io, "a job reads a checkpoint that was not opened");
            let source = self.request.sources.get(side).ok_or_else(missing)?;
            match read.side {
                Side::Importance => source.read_weights(&read.region, buffer)?,
                Side::Source | Side::Candidate => source.read(read.file, &read.region, buffer)?,
            }
        }
        let slices: Vec<&[u8]> = inputs.iter().take(job.reads.len()).map(Vec::as_slice).collect();
        let done = pollster::block_on(self.request.resources.engine.run(job, &slices, scratch))?;
        if let Some(files) = self.files {
            let mut bytes = match done.payload {
                Payload::None => &[],
                Payload::Input => slices.first().copied().unwrap_or_default(),
                Payload::Scratch => scratch.out.as_slice(),
            };
            for write in job.writes.iter().filter(|_| done.payload != Payload::None) {
                let (of_write, rest) = bytes.split_at(write.region.len() as usize);
                files.write(write, of_write)?;
                bytes = rest;
            }
        }
        Ok(done)
    }

    fn place(&self, job: &Job, error: Error) -> Error {
        let Some(output) = self.request.plan.outputs.get(job.output as usize) else { return error };
        let tensor = error.code() != Code::Io && error.code() != Code::NoSpace;
        if tensor { error.of_tensor(&output.name) } else { error }
    }

    fn finished(&self, job: &Job, done: Done) {
        let Done { measured, made, .. } = done;
        let record = self.journals.then(|| Record {
            key: JobKey::of(job),
            device: made.blocks > 0,
            measurements: measured.clone(),
        });
        let mut state = lock(&self.state);
        state.unnoted.extend(record);
        if !state.run.finish(job, measured, &made) {
            self.stopped.store(true, Ordering::Relaxed);
        }
        self.announce(&mut state);
    }

    /// Shows the progress, and announces finished outputs in order.
    fn announce(&self, state: &mut RunState<'_>) {
        self.request.progress.show(state.run.finished_elements());
        for index in state.run.take_finished_outputs() {
            (self.request.on_output)(index, state.run.measurements());
        }
    }
}
