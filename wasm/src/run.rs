//! Work in progress: hands out one window at a time, runs it on bytes that the worker put in place, keeps what it
//! measured.
//!
//! Bytes travel without copies between the two languages: the worker writes what a window reads into buffers of this
//! memory, and writes what came out straight from it.

use crate::problem::OrProblem;
use crate::view::to_js;
use quantoscope_accel::Engine;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::job::{self, Job, Payload, Region, Scratch};
use quantoscope_core::plan::pair::Finding;
use quantoscope_core::plan::preview::Preview;
use quantoscope_core::plan::{Plan, Side};
use quantoscope_core::report::{self, Collector, CompareReport};
use quantoscope_core::schedule::{Budget, schedule};
use serde::Serialize;
use std::collections::VecDeque;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// What all windows of a run may hold: small, because a page is one of many.
const MEMORY: u64 = 16 << 20;

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
        /// The gate, if there is one.
        threshold: Option<f64>,
    },
}

/// A plan on its way through.
#[wasm_bindgen]
pub struct Run {
    plan: Rc<Plan>,
    purpose: Purpose,
    budget: Budget,
    engine: Engine,
    /// Outputs that are not cut into windows yet.
    next_output: usize,
    queue: VecDeque<Job>,
    current: Option<Job>,
    inputs: Vec<Vec<u8>>,
    scratch: Scratch,
    payload: Payload,
    collector: Collector,
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

impl Run {
    /// Prepares `plan`. Fails where a window of it does not fit the memory of a page.
    pub(crate) fn new(plan: Rc<Plan>, purpose: Purpose) -> Result<Run> {
        let budget = affordable(&plan)?;
        Ok(Run {
            collector: Collector::new(&plan),
            plan,
            purpose,
            budget,
            engine: Engine::auto(),
            next_output: 0,
            queue: VecDeque::new(),
            current: None,
            inputs: Vec::new(),
            scratch: Scratch::default(),
            payload: Payload::None,
        })
    }

    /// Cuts outputs into windows one after the other: all windows of a large model would be a large list.
    fn refill(&mut self) -> Result<()> {
        while self.queue.is_empty() {
            let index = self.next_output;
            let Some(output) = self.plan.outputs.get(index) else { return Ok(()) };
            self.next_output += 1;
            let one = Plan {
                outputs: vec![output.clone()],
                files: Vec::new(),
                conversion: None,
                warnings: Vec::new(),
            };
            let jobs = schedule(&one, &self.budget)?.map(|job| Job { output: index as u32, ..job });
            self.queue.extend(jobs);
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        self.refill()?;
        self.current = self.queue.pop_front();
        let Some(job) = &self.current else { return Ok(()) };
        self.inputs.resize_with(job.reads.len(), Vec::new);
        for (buffer, read) in self.inputs.iter_mut().zip(&job.reads) {
            let len = usize::try_from(read.region.len());
            buffer.resize(len.map_err(|_| too_large())?, 0);
        }
        Ok(())
    }

    fn work(&mut self) -> Result<()> {
        let job = self.current.as_ref().ok_or_else(misuse)?;
        let inputs: Vec<&[u8]> = self.inputs.iter().map(Vec::as_slice).collect();
        let done = job::run(self.engine.kernels(), job, &inputs, &mut self.scratch);
        let name = self.plan.outputs.get(job.output as usize).map_or("", |o| o.name.as_str());
        let done = done.map_err(|e| e.of_tensor(name))?;
        self.payload = done.payload;
        self.collector.absorb(job, done.measured);
        Ok(())
    }

    fn payload(&self) -> &[u8] {
        match self.payload {
            Payload::None => &[],
            Payload::Input => self.inputs.first().map_or(&[], Vec::as_slice),
            Payload::Scratch => &self.scratch.out,
        }
    }
}

#[wasm_bindgen]
impl Run {
    /// Bytes that all windows read together.
    pub fn total(&self) -> f64 {
        let spans = self.plan.outputs.iter().flat_map(|o| {
            let per_row = |d: quantoscope_core::DType, rows: u64| {
                rows.checked_mul(o.grid.cols).and_then(|n| d.bytes_for(n)).unwrap_or(0) as f64
            };
            o.pieces.iter().flat_map(move |p| {
                let rows = p.rows.end - p.rows.start;
                std::iter::once(&p.from).chain(&p.against).map(move |operand| per_row(operand.dtype, rows))
            })
        });
        spans.sum()
    }

    /// The next window as `{label, reads: [{side, file, region}], write?: {file, region}}`, or nothing at the end.
    pub fn next_job(&mut self) -> Result<JsValue, JsValue> {
        self.advance().or_problem()?;
        let Some(job) = &self.current else { return Ok(JsValue::UNDEFINED) };
        to_js(&JobView {
            label: self.plan.outputs.get(job.output as usize).map_or("", |o| o.name.as_str()),
            reads: job
                .reads
                .iter()
                .map(|r| ReadView { side: r.side, file: r.file, region: r.region })
                .collect(),
            write: job.write.map(|w| WriteView { file: w.file, region: w.region }),
        })
    }

    /// Where the bytes of the window's read number `index` belong in this memory.
    pub fn input(&mut self, index: usize) -> u32 {
        self.inputs.get_mut(index).map_or(0, |b| b.as_mut_ptr() as usize as u32)
    }

    /// Runs the window on the bytes that were put in place.
    pub fn execute(&mut self) -> Result<(), JsValue> {
        self.work().or_problem()
    }

    /// Where the bytes that came out lie in this memory.
    pub fn output(&self) -> u32 {
        self.payload().as_ptr() as usize as u32
    }

    /// How many bytes came out.
    pub fn output_len(&self) -> u32 {
        self.payload().len() as u32
    }

    /// What is known now: the report of the command line.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        match &self.purpose {
            Purpose::Look => to_js(&report::stats(&self.plan, &self.collector, BINS)),
            Purpose::Rotated(preview) => to_js(&report::rotated(preview, &self.collector, BINS)),
            Purpose::Convert(checkpoint) => {
                to_js(&report::converted(checkpoint, &self.plan, Some(&self.collector)))
            }
            Purpose::Compare { names, findings, threshold } => {
                let names = (names.0.as_str(), names.1.as_str());
                let report =
                    report::compared(names, &self.plan, findings.clone(), &self.collector, *threshold);
                to_js(&CompareView { passes: report.passes(), report })
            }
        }
    }
}

/// The small budget where it suffices, else the usual one.
fn affordable(plan: &Plan) -> Result<Budget> {
    let small = Budget { memory: MEMORY, workers: 1 };
    match schedule(plan, &small).map(drop) {
        Ok(()) => Ok(small),
        Err(e) if e.code() == Code::MemoryBudget => {
            let usual = Budget::default();
            schedule(plan, &usual).map(drop)?;
            Ok(usual)
        }
        Err(e) => Err(e),
    }
}

fn too_large() -> Error {
    Error::new(Code::MemoryBudget, "a window of the work does not fit the memory of a page")
}

fn misuse() -> Error {
    Error::new(Code::Usage, "there is no window to run")
}
