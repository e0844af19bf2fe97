//! Work in progress: hands out one window at a time, runs it on bytes that the worker put in place, keeps what it
//! measured.
//!
//! Bytes travel without copies between the two languages: the worker writes what a window reads into buffers of this
//! memory, and writes what came out straight from it.

use crate::device::Device;
use crate::problem::OrProblem;
use crate::view::to_js;
use js_sys::Promise;
use quantoscope_accel::Engine;
use quantoscope_accel::device::{Kernel, Offload, kernels};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::job::{Done, Job, Payload, Region, Workspace};
use quantoscope_core::plan::pair::Finding;
use quantoscope_core::plan::preview::Preview;
use quantoscope_core::plan::{Plan, Side};
use quantoscope_core::report::{self, CompareReport, CompareThreshold};
use quantoscope_core::run;
use quantoscope_core::schedule::{Budget, whole, windows_in};
use serde::Serialize;
use std::cell::RefCell;
use std::mem::take;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// What all windows of a run may hold: small, because a page is one of many.
const MEMORY: u64 = 16 << 20;

/// Bytes that a window of the processor reads and writes: each costs messages with the browser.
const WINDOW: u64 = 4 << 20;

/// Bins of a histogram: what a panel of the page can show.
const BINS: usize = 96;

/// What a run is for, and what its report needs.
pub enum Purpose {
    /// Everything about one tensor.
    Look,
    /// One tensor under rotations.
    Rotated(Box<Preview>),
    /// A conversion of this checkpoint.
    Convert(Rc<Checkpoint>),
    /// A comparison.
    Compare {
        /// Names of both sides.
        names: (String, String),
        /// What could not be paired.
        findings: Vec<Finding>,
        /// What trips the gate.
        gate: CompareThreshold,
    },
}

/// A plan on its way through.
#[wasm_bindgen]
pub struct Run {
    purpose: Purpose,
    /// Shared with the window that is being run: nothing is borrowed while a device is waited for.
    state: Rc<RefCell<PageRunState>>,
}

/// How far a run has come.
struct PageRunState {
    run: run::Run<Rc<Plan>>,
    engine: Engine,
    budget: Budget,
    /// Bytes that a window reads and writes.
    window: u64,
    current: Option<Job>,
    inputs: Vec<Vec<u8>>,
    scratch: Workspace,
    payload: Payload,
}

#[derive(Serialize)]
struct ReadView {
    side: Side,
    file: u32,
    region: Region,
}

#[derive(Serialize)]
struct WriteView {
    file: u32,
    region: Region,
}

#[derive(Serialize)]
struct JobView<'a> {
    label: &'a str,
    reads: Vec<ReadView>,
    write: Option<WriteView>,
}

/// The command line's report, and whether its gate holds.
#[derive(Serialize)]
struct CompareView {
    #[serde(flatten)]
    report: CompareReport,
    passes: bool,
}

/// Any report, and what it was made with, as the command line says it.
#[derive(Serialize)]
struct JobResult<T> {
    #[serde(flatten)]
    report: T,
    run: report::RunInfo,
}

impl Run {
    /// Prepares `plan` for the processor. Fails where a window of it does not fit the memory of a page.
    pub(crate) fn new(plan: Rc<Plan>, purpose: Purpose) -> Result<Run> {
        let engine = Engine::auto();
        let (budget, window) = affordable(&plan, engine)?;
        let state = PageRunState {
            run: run::Run::new(plan, budget, window)?,
            engine,
            budget,
            window,
            current: None,
            inputs: Vec::new(),
            scratch: Workspace::default(),
            payload: Payload::None,
        };
        Ok(Run { purpose, state: Rc::new(RefCell::new(state)) })
    }
}

impl PageRunState {
    fn advance(&mut self) -> Result<()> {
        self.current = self.run.next_job();
        let Some(job) = &self.current else { return Ok(()) };
        self.inputs.resize_with(job.reads.len(), Vec::new);
        for (buffer, read) in self.inputs.iter_mut().zip(&job.reads) {
            let len = usize::try_from(read.region.len());
            buffer.resize(len.map_err(|_| too_large())?, 0);
        }
        Ok(())
    }

    /// Takes the result of a window. Returns true where the run has to start again without its device.
    fn absorb(&mut self, job: &Job, done: Done) -> Result<bool> {
        self.payload = done.payload;
        if self.run.finish(job, done.measured, &done.made) {
            return Ok(false);
        }
        self.payload = Payload::None;
        self.run.restart(self.budget, self.window, Vec::new())?;
        Ok(true)
    }

    fn name(&self, job: &Job) -> &str {
        self.run.plan().outputs.get(job.output as usize).map_or("", |o| o.name.as_str())
    }

    fn payload(&self) -> &[u8] {
        match self.payload {
            Payload::None => &[],
            Payload::Input => self.inputs.first().map_or(&[], Vec::as_slice),
            Payload::Scratch => &self.scratch.out,
        }
    }

    fn info(&self) -> report::RunInfo {
        let checked = self.run.spot_check();
        let device = |o: &Offload| report::DeviceView::new(o.device().name(), checked, o.ended());
        report::RunInfo {
            version: concat!("quantoscope ", env!("CARGO_PKG_VERSION")),
            engine: self.engine.name(),
            threads: 1,
            seconds: None,
            resumed_windows: 0,
            device: self.engine.device().map(device),
        }
    }
}

/// Runs the window in hand; whether everything has to begin anew.
async fn work(state: &RefCell<PageRunState>) -> Result<bool> {
    let (engine, job, inputs, mut scratch) = {
        let mut state = state.borrow_mut();
        let job = state.current.take().ok_or_else(misuse)?;
        (state.engine, job, take(&mut state.inputs), take(&mut state.scratch))
    };
    let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let done = engine.run(&job, &slices, &mut scratch).await;
    let mut state = state.borrow_mut();
    (state.inputs, state.scratch) = (inputs, scratch);
    let done = done.map_err(|e| e.of_tensor(state.name(&job)))?;
    state.absorb(&job, done)
}

#[wasm_bindgen]
impl Run {
    /// Lets a device take part. Before the first window: it has windows of its own.
    pub fn on(&self, device: &Device) -> Result<(), JsValue> {
        let mut state = self.state.borrow_mut();
        let engine = Engine::Device(device.offload());
        let (budget, window) = affordable(state.run.plan(), engine).or_problem()?;
        state.run.restart(budget, window, Vec::new()).or_problem()?;
        (state.budget, state.window, state.engine) = (budget, window, engine);
        Ok(())
    }

    /// Numbers of the kernels that the run would ask `device` for.
    pub fn kernels(&self, device: &Device) -> Result<Vec<usize>, JsValue> {
        let state = self.state.borrow();
        let asked = asked(state.run.plan());
        let numbered = device.kernels().enumerate();
        Ok(numbered.filter(|(_, k)| asked.contains(k)).map(|(index, _)| index).collect())
    }

    /// Whether a device takes part, and has not been given up.
    pub fn on_device(&self) -> bool {
        self.state.borrow().engine.device().is_some_and(|o| o.ended().is_none())
    }

    /// Bytes that all windows read together.
    pub fn total(&self) -> f64 {
        let state = self.state.borrow();
        let spans = state.run.plan().outputs.iter().flat_map(|o| {
            let per_row = |d: quantoscope_core::DType, rows: u64| {
                rows.checked_mul(o.grid.cols).and_then(|n| d.bytes_for(n)).unwrap_or(0) as f64
            };
            o.segments.iter().flat_map(move |p| {
                let rows = p.rows.end - p.rows.start;
                std::iter::once(&p.from)
                    .chain(p.against.as_deref())
                    .map(move |operand| per_row(operand.dtype, rows))
            })
        });
        spans.sum()
    }

    /// The next window as `{label, reads: [{side, file, region}], write?: {file, region}}`, or nothing at the end.
    pub fn next_job(&self) -> Result<JsValue, JsValue> {
        let mut state = self.state.borrow_mut();
        state.advance().or_problem()?;
        let Some(job) = &state.current else { return Ok(JsValue::UNDEFINED) };
        to_js(&JobView {
            label: state.name(job),
            reads: job
                .reads
                .iter()
                .map(|r| ReadView { side: r.side, file: r.file, region: r.region })
                .collect(),
            write: job.write.map(|w| WriteView { file: w.file, region: w.region }),
        })
    }

    /// Where the bytes of the window's read number `index` belong in this memory.
    pub fn input(&self, index: usize) -> u32 {
        let mut state = self.state.borrow_mut();
        state.inputs.get_mut(index).map_or(0, |b| b.as_mut_ptr() as usize as u32)
    }

    /// Runs the window on the bytes that were put in place. Its promise says whether a device was caught at a wrong
    /// block: then nothing that was made is believed, and the next window is the first again, without the device.
    pub fn execute(&self) -> Promise {
        let state = Rc::clone(&self.state);
        future_to_promise(async move { work(&state).await.map(JsValue::from).or_problem() })
    }

    /// Where the bytes that came out lie in this memory.
    pub fn output(&self) -> u32 {
        self.state.borrow().payload().as_ptr() as usize as u32
    }

    /// How many bytes came out.
    pub fn output_len(&self) -> u32 {
        self.state.borrow().payload().len() as u32
    }

    /// What is known now: the report of the command line.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        let state = self.state.borrow();
        let (plan, collector, run) = (state.run.plan(), state.run.measurements(), state.info());
        match &self.purpose {
            Purpose::Look => to_js(&JobResult { report: report::stats(plan, collector, BINS), run }),
            Purpose::Rotated(preview) => {
                to_js(&JobResult { report: report::rotated(preview, collector, BINS), run })
            }
            Purpose::Convert(checkpoint) => {
                to_js(&JobResult { report: report::converted(checkpoint, plan, Some(collector)), run })
            }
            Purpose::Compare { names, findings, gate } => {
                let names = (names.0.as_str(), names.1.as_str());
                let report = report::compared(names, plan, findings.clone(), collector, *gate);
                to_js(&JobResult { report: CompareView { passes: report.passes(), report }, run })
            }
        }
    }
}

/// The budget and the windows of a run: the small budget where it suffices, else the usual one, which is also what a
/// device gets, because it wants as much at once as it can take.
fn affordable(plan: &Plan, engine: Engine) -> Result<(Budget, u64)> {
    let usual = Budget::default();
    if let Some(offload) = engine.device() {
        let window = offload.device().preferred_batch() as u64 * size_of::<f32>() as u64;
        windows_in(plan, &usual, window)?;
        return Ok((usual, window));
    }
    let small = Budget { memory: MEMORY, workers: 1 };
    match windows_in(plan, &small, WINDOW) {
        Ok(_) => Ok((small, WINDOW)),
        Err(e) if e.code() == Code::MemoryBudget => {
            windows_in(plan, &usual, WINDOW)?;
            Ok((usual, WINDOW))
        }
        Err(e) => Err(e),
    }
}

/// The kernels that a plan's windows can use.
fn asked(plan: &Plan) -> Vec<Kernel> {
    let mut all = Vec::new();
    for job in whole(plan) {
        for kernel in job.device_tasks().flat_map(|task| kernels(&task)) {
            if !all.contains(&kernel) {
                all.push(kernel);
            }
        }
    }
    all
}

fn too_large() -> Error {
    Error::new(Code::MemoryBudget, "a window of the work does not fit the memory of a page")
}

fn misuse() -> Error {
    Error::new(Code::Usage, "there is no window to run")
}
