//! The loop: read regions, run the job, write regions. Threads take jobs in order; results never depend on them.

use crate::engine_select;
use crate::exit::no_thread;
use crate::io::journal::{Journal, Record};
use crate::io::output::OutputFiles;
use crate::io::source::Source;
use crate::render::progress::Progress;
use crate::signals;
use crate::system_limits;
use quantoscope_accel::Engine;
use quantoscope_accel::device::Offload;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::job::{Done, Job, Measurements, Payload, SpotCheckStats, Workspace};
use quantoscope_core::plan::{Plan, Side};
use quantoscope_core::report::{DeviceView, ReportBuilder, RunInfo};
use quantoscope_core::schedule::{Budget, schedule_in, whole, windows_in};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Finished windows are brought to disk and noted at least this often, so that a killed run loses little.
const SYNC_EVERY: Duration = Duration::from_millis(100);

/// Bytes that a window reads and writes: with its values they stay in a processor's second-level cache from the read to
/// the write.
const WINDOW: u64 = 512 << 10;

/// The jobs of this driver's windows.
fn jobs<'a>(plan: &'a Plan, resources: &Resources) -> Result<impl Iterator<Item = Job> + use<'a>> {
    schedule_in(plan, &resources.budget, window(resources))
}

/// Bytes that a window of this driver reads and writes. A device wants as much at once as it can take.
fn window(resources: &Resources) -> u64 {
    let stretch = |offload: &Offload| offload.device().preferred_batch() as u64 * size_of::<f32>() as u64;
    resources.engine.device().map_or(WINDOW, stretch)
}

/// How the work is done.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    pub engine: Engine,
    /// Whether nobody named the engine.
    auto: bool,
    pub budget: Budget,
}

impl Resources {
    /// From what was typed, or from the machine.
    pub fn new(work: &crate::options::ResourceOptions) -> Result<Resources> {
        let engine = pollster::block_on(Engine::open(&work.engine))?;
        let workers = match work.threads {
            Some(n) => n,
            None => thread::available_parallelism().map_or(1, |n| n.get() as u32),
        };
        let memory = work.memory.unwrap_or(u64::from(workers) * (32 << 20));
        let budget = system_limits::fitting(Budget { memory, workers });
        Ok(Resources { engine, auto: work.engine == "auto", budget })
    }

    /// Ready for a plan: with the engine that is best for it, where nobody named one, and a device's kernels probed.
    pub fn with_selected_engine(mut self, plan: &Plan) -> Result<Resources> {
        if self.auto {
            self.engine = engine_select::engine(whole(plan), self.budget.workers);
        } else if let Some(device) = self.engine.device() {
            pollster::block_on(device.ready(whole(plan)))?;
        }
        Ok(self)
    }

    /// What a report says of the run.
    pub fn run(&self, started: Instant, driven: &RunOutcome) -> RunInfo {
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

/// Where the bytes of a conversion go.
pub struct Sink<'a> {
    pub artefact: &'a OutputFiles,
    pub journal: Journal,
    pub records: Vec<Record>,
}

/// What came of a run.
pub struct RunOutcome {
    /// What was measured.
    pub collected: ReportBuilder,
    /// Windows that an earlier run had done.
    pub resumed: u64,
    /// What a device made, and what came of making that again.
    pub made: SpotCheckStats,
}

/// Called with an output's index when its last window is done, in order of outputs.
pub type OnOutput<'a> = &'a (dyn Fn(usize, &ReportBuilder) + Sync);

/// All that a run works on.
pub struct RunRequest<'a> {
    pub plan: &'a Plan,
    pub sources: &'a [&'a Source],
    pub resources: Resources,
    pub progress: &'a Progress,
    pub on_output: OnOutput<'a>,
    /// Called where a device made wrong bytes, before everything begins anew; outputs are announced again.
    pub on_device_fault: &'a (dyn Fn() + Sync),
}

/// Shared by the workers.
struct Workers<'a, I> {
    jobs: Mutex<I>,
    state: Mutex<RunState>,
    /// Whether no more windows are handed out: something failed, or a device is in doubt.
    stopped: AtomicBool,
    work: &'a RunRequest<'a>,
    artefact: Option<&'a OutputFiles>,
}

struct RunState {
    collector: ReportBuilder,
    failure: Option<(usize, Error)>,
    made: SpotCheckStats,
    /// Windows left of each output.
    left: Vec<u64>,
    /// Outputs that were announced.
    announced: usize,
    /// Written windows that the journal does not have yet.
    unnoted: Vec<Record>,
    /// Windows that an earlier run finished and this one has not come to.
    done: HashMap<Key, Record>,
    /// Windows that were taken over from an earlier run.
    resumed: u64,
}

/// An output and the place of a window in it.
type Key = (u32, [u64; 4]);

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

fn key(output: u32, w: &quantoscope_core::job::Window) -> Key {
    (output, [w.rows.start, w.rows.end, w.cols.start, w.cols.end])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Runs every job of the plan. Fails with the error of the earliest window that failed.
///
/// Where a device is caught at a wrong block, nothing that it made is believed: everything begins anew without it.
pub fn drive(work: &RunRequest<'_>, sink: Option<Sink<'_>>) -> Result<RunOutcome> {
    let (mut records, artefact, mut journal) = match sink {
        Some(sink) => (sink.records, Some(sink.artefact), Some(sink.journal)),
        None => (Vec::new(), None, None),
    };
    let first = attempt(work, artefact, journal.as_mut(), records.clone())?;
    if first.made.differing == 0 {
        return Ok(first);
    }
    (work.on_device_fault)();
    work.progress.restart();
    records.retain(|r| !r.device);
    let second = attempt(work, artefact, journal.as_mut(), records)?;
    Ok(RunOutcome { made: first.made, ..second })
}

fn note_failed(e: std::io::Error) -> Error {
    crate::exit::io_error(&e, "cannot write the journal")
}

/// Runs the jobs that `records` do not speak of, as long as no device is in doubt.
fn attempt(
    work: &RunRequest<'_>,
    artefact: Option<&OutputFiles>,
    mut journal: Option<&mut Journal>,
    records: Vec<Record>,
) -> Result<RunOutcome> {
    let resources = &work.resources;
    let left = windows_in(work.plan, &resources.budget, window(resources))?;
    let done = records.into_iter().map(|r| (key(r.output, &r.window), r)).collect();
    let collector = ReportBuilder::new(work.plan);
    let made = SpotCheckStats::default();
    let shared = Workers {
        jobs: Mutex::new(jobs(work.plan, resources)?.enumerate()),
        state: Mutex::new(RunState {
            collector,
            failure: None,
            made,
            left,
            announced: 0,
            unnoted: Vec::new(),
            done,
            resumed: 0,
        }),
        stopped: AtomicBool::new(false),
        work,
        artefact,
    };
    shared.announce(&mut lock(&shared.state));
    let workers = resources.budget.workers;
    let working = &AtomicUsize::new(0);
    // No worker begins before all were started: a failure to start one has nothing to undo.
    let start = &Start::default();
    thread::scope(|scope| {
        for _ in 0..workers {
            working.fetch_add(1, Ordering::Relaxed);
            let leaving = WorkerGuard { working, keeper: thread::current() };
            let shared = &shared;
            let worker = move || {
                let _leaving = leaving;
                start.wait();
                shared.worker();
            };
            if let Err(e) = thread::Builder::new().spawn_scoped(scope, worker) {
                shared.fail(usize::MAX, no_thread(&e));
                break;
            }
        }
        start.open();
        if let (Some(journal), Some(artefact)) = (journal.as_deref_mut(), artefact)
            && let Err(e) = shared.keep_journal(journal, artefact, working)
        {
            shared.fail(usize::MAX, e);
        }
    });
    let state = shared.state.into_inner().unwrap_or_else(|e| e.into_inner());
    if let (Some(journal), true) = (journal, state.made.differing > 0) {
        // However this ends, nobody who resumes it may believe the device.
        journal.doubt().map_err(note_failed)?;
    }
    match state.failure {
        // What a device in doubt made may be why something failed.
        Some((_, e)) if state.made.differing == 0 || e.code() == Code::Interrupted => Err(e),
        _ => Ok(RunOutcome { collected: state.collector, resumed: state.resumed, made: state.made }),
    }
}

impl<I: Iterator<Item = (usize, Job)>> Workers<'_, I> {
    fn fail(&self, index: usize, error: Error) {
        let mut state = lock(&self.state);
        if state.failure.as_ref().is_none_or(|(i, _)| index < *i) {
            state.failure = Some((index, error));
        }
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Syncs what was written, then notes it, again and again until every worker has ended.
    fn keep_journal(
        &self,
        journal: &mut Journal,
        artefact: &OutputFiles,
        working: &AtomicUsize,
    ) -> Result<()> {
        loop {
            let ended = working.load(Ordering::Acquire) == 0;
            let records = std::mem::take(&mut lock(&self.state).unnoted);
            if !records.is_empty() {
                artefact.sync()?;
                journal.append(&records).map_err(note_failed)?;
            }
            if ended {
                return Ok(());
            }
            thread::park_timeout(SYNC_EVERY);
        }
    }

    /// Jobs are handed out in order, so every window before a failed one has been taken, and is finished.
    fn next(&self) -> Option<(usize, Job)> {
        let mut jobs = lock(&self.jobs);
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        if signals::interrupted() {
            drop(jobs);
            self.fail(usize::MAX, Error::new(Code::Interrupted, "interrupted"));
            return None;
        }
        jobs.next()
    }

    fn worker(&self) {
        let mut scratch = Workspace::default();
        let mut inputs: [Vec<u8>; 4] = Default::default();
        while let Some((index, job)) = self.next() {
            if self.take_over(&job) {
                continue;
            }
            match self.one(&job, &mut inputs, &mut scratch) {
                Ok(done) => self.finished(&job, Some(done)),
                Err(e) => self.fail(index, self.place(&job, e)),
            }
        }
    }

    /// Takes in what an earlier run measured in this window, if it finished it.
    fn take_over(&self, job: &Job) -> bool {
        let mut state = lock(&self.state);
        let Some(record) = state.done.remove(&key(job.output, &job.window)) else { return false };
        let Record { error, nonfinite, .. } = record;
        let measured = Measurements { error, nonfinite, ..Measurements::default() };
        state.collector.absorb(job, measured);
        state.resumed += 1;
        drop(state);
        self.finished(job, None);
        true
    }

    fn one(&self, job: &Job, inputs: &mut [Vec<u8>; 4], scratch: &mut Workspace) -> Result<Done> {
        for (read, buffer) in job.reads.iter().zip(inputs.iter_mut()) {
            let side = usize::from(read.side == Side::Candidate);
            let missing = || Error::new(Code::Io, "a job reads a checkpoint that was not opened");
            let source = self.work.sources.get(side).ok_or_else(missing)?;
            match read.side {
                Side::Importance => source.read_weights(&read.region, buffer)?,
                Side::Source | Side::Candidate => source.read(read.file, &read.region, buffer)?,
            }
        }
        let [first, second, third, fourth] = inputs;
        let slices = [first.as_slice(), second.as_slice(), third.as_slice(), fourth.as_slice()];
        let slices = slices.get(..job.reads.len()).unwrap_or(&slices);
        let done = pollster::block_on(self.work.resources.engine.run(job, slices, scratch))?;
        if let (Some(artefact), Some(write)) = (self.artefact, &job.write) {
            match done.payload {
                Payload::None => {}
                Payload::Input => artefact.write(write, first)?,
                Payload::Scratch => artefact.write(write, &scratch.out)?,
            }
        }
        Ok(done)
    }

    fn place(&self, job: &Job, error: Error) -> Error {
        let Some(output) = self.work.plan.outputs.get(job.output as usize) else { return error };
        let tensor = error.code() != Code::Io && error.code() != Code::NoSpace;
        if tensor { error.of_tensor(&output.name) } else { error }
    }

    fn finished(&self, job: &Job, done: Option<Done>) {
        let cells = (job.window.height() * job.window.width()) as f64;
        let all = (job.grid.rows * job.grid.cols).max(1) as f64;
        self.work.progress.advance(job.output, cells / all);
        let mut state = lock(&self.state);
        if let Some(Done { measured, made, .. }) = done {
            state.made.merge(&made);
            if made.differing > 0 {
                self.stopped.store(true, Ordering::Relaxed);
            }
            if self.artefact.is_some() {
                let (output, window, device) = (job.output, job.window.clone(), made.blocks > 0);
                let (error, nonfinite) = (measured.error.clone(), measured.nonfinite);
                state.unnoted.push(Record { output, window, device, error, nonfinite });
            }
            state.collector.absorb(job, measured);
        }
        if let Some(left) = state.left.get_mut(job.output as usize) {
            *left -= 1;
        }
        self.announce(&mut state);
    }

    /// Announces finished outputs, in order.
    fn announce(&self, state: &mut RunState) {
        while state.left.get(state.announced) == Some(&0) {
            (self.work.on_output)(state.announced, &state.collector);
            state.announced += 1;
        }
    }
}
