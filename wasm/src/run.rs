//! A run of the page: a plan in progress, driven window by window, and the report of the command line at its end.

use crate::api_error::IntoApiResult;
#[cfg(feature = "full")]
use crate::device::Device;
#[cfg(feature = "full")]
use crate::equivalence::EquivalenceCheck;
use crate::job_runner::JobRunner;
use crate::view::to_js;
use js_sys::Promise;
use quantoscope_accel::Engine;
use quantoscope_core::error::Result;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan::Plan;
#[cfg(feature = "full")]
use quantoscope_core::plan::pair::Finding;
use quantoscope_core::plan::preview::Preview;
use quantoscope_core::report::{self, EquivalenceView};
#[cfg(feature = "full")]
use quantoscope_core::report::{CompareReport, CompareThreshold};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// Bins of a histogram: what a panel of the page can show.
const BINS: usize = 96;

/// What a run is for, and what its report needs.
pub enum Purpose {
    /// Everything about one tensor.
    TensorDetails,
    /// One tensor under rotations.
    Rotated(Box<Preview>),
    /// A conversion of this checkpoint.
    Convert(Rc<Checkpoint>),
    /// A comparison.
    #[cfg(feature = "full")]
    Compare {
        /// Names of both sides.
        names: (String, String),
        /// What could not be paired.
        findings: Vec<Finding>,
        /// The least figure that passes.
        gate: CompareThreshold,
    },
    /// `verify` without a source.
    Check {
        /// The model's name.
        name: String,
    },
    /// `verify --against`.
    #[cfg(feature = "full")]
    Verify {
        /// Names of the output and of its source.
        names: (String, String),
        /// What could not be paired.
        findings: Vec<Finding>,
    },
}

/// A plan in progress.
#[wasm_bindgen]
pub struct Run {
    purpose: Purpose,
    /// What a rotation was checked with before this run.
    equivalence: Option<EquivalenceView>,
    /// Shared with the window that is being run: nothing is borrowed while a device is waited for.
    runner: Rc<RefCell<JobRunner>>,
}

/// The command line's report, and whether its gate holds.
#[cfg(feature = "full")]
#[derive(Serialize)]
struct CompareView {
    #[serde(flatten)]
    report: CompareReport,
    /// True if no tensor is below the threshold and there is no finding, or if no threshold was set.
    passes: bool,
    /// The least figures of the verdicts `green` and `yellow`.
    least: [f64; 2],
}

/// The command line's report, and what it was made with.
#[derive(Serialize)]
struct JobResult<T> {
    #[serde(flatten)]
    report: T,
    run: report::RunInfo,
}

/// The name of the processor's engine, which works alone or beside a device.
#[wasm_bindgen]
pub fn processor() -> String {
    Engine::auto().name().into()
}

impl Run {
    /// Prepares `plan` for the processor.
    ///
    /// # Errors
    /// `memory_budget` where a window does not fit the memory of a page.
    pub(crate) fn new(plan: Rc<Plan>, purpose: Purpose) -> Result<Run> {
        Ok(Run { purpose, equivalence: None, runner: Rc::new(RefCell::new(JobRunner::new(plan)?)) })
    }
}

/// Runs the current window. True after a device returned wrong bytes.
async fn execute(runner: &RefCell<JobRunner>) -> Result<bool> {
    let mut started = runner.borrow_mut().start()?;
    let done = started.run().await;
    runner.borrow_mut().finish(started, done)
}

#[wasm_bindgen]
impl Run {
    /// True if a device takes part that has not been given up.
    pub fn on_device(&self) -> bool {
        self.runner.borrow().on_device()
    }

    /// Bytes that all windows read together, those of an importance matrix excepted.
    pub fn total(&self) -> f64 {
        let runner = self.runner.borrow();
        let spans = runner.plan().outputs.iter().flat_map(|o| {
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

    /// The next window: see `JobView`; nothing at the end.
    pub fn next_job(&self) -> Result<JsValue, JsValue> {
        let mut runner = self.runner.borrow_mut();
        runner.advance().into_api_result()?;
        runner.view()
    }

    /// Where the bytes of the window's read number `index` belong in this memory.
    pub fn input(&self, index: usize) -> u32 {
        self.runner.borrow_mut().input(index)
    }

    /// Runs the window on the bytes that were put in place. Its promise holds true after a device returned wrong bytes:
    /// then the run has been restarted without the device, and the next window is the first.
    pub fn execute(&self) -> Promise {
        let runner = Rc::clone(&self.runner);
        future_to_promise(async move { execute(&runner).await.map(JsValue::from).into_api_result() })
    }

    /// Where the bytes that the window made lie in this memory.
    pub fn output(&self) -> u32 {
        self.runner.borrow().payload().as_ptr() as usize as u32
    }

    /// How many bytes the window made.
    pub fn output_len(&self) -> u32 {
        self.runner.borrow().payload().len() as u32
    }

    /// The command line's report of what has been measured so far.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        let runner = self.runner.borrow();
        let (plan, measured, run) = (runner.plan(), runner.measurements(), runner.info());
        match &self.purpose {
            Purpose::TensorDetails => to_js(&JobResult { report: report::stats(plan, measured, BINS), run }),
            Purpose::Rotated(preview) => {
                to_js(&JobResult { report: report::rotated(preview, measured, BINS), run })
            }
            Purpose::Convert(checkpoint) => {
                let mut report = report::converted(checkpoint, plan, Some(measured));
                if let Some(report) = &mut report {
                    report.gate.clone_from(&self.equivalence);
                }
                to_js(&JobResult { report, run })
            }
            #[cfg(feature = "full")]
            Purpose::Compare { names, findings, gate } => {
                let names = (names.0.as_str(), names.1.as_str());
                let report = report::compared(names, plan, findings.clone(), measured, *gate);
                let passes = report.passes();
                to_js(&JobResult {
                    report: CompareView { passes, report, least: [report::GOOD, report::FAIR] },
                    run,
                })
            }
            Purpose::Check { name } => {
                to_js(&JobResult { report: report::checked(name, plan, measured), run })
            }
            #[cfg(feature = "full")]
            Purpose::Verify { names, findings } => {
                let names = (names.0.as_str(), names.1.as_str());
                to_js(&JobResult { report: report::verified(names, plan, findings.clone(), measured), run })
            }
        }
    }
}

#[cfg(feature = "full")]
#[wasm_bindgen]
impl Run {
    /// Attaches a device. Must be called before the first window: a device has windows of its own.
    ///
    /// # Errors
    /// `memory_budget` where a window of the device does not fit the memory of a page.
    pub fn attach_device(&self, device: &Device) -> Result<(), JsValue> {
        self.runner.borrow_mut().attach_device(device.offload()).into_api_result()
    }

    /// Numbers of the kernels of `device` that the run can use.
    pub fn kernels(&self, device: &Device) -> Vec<usize> {
        let used = self.runner.borrow().kernels();
        let numbered = device.kernels().enumerate();
        numbered.filter(|(_, k)| used.contains(k)).map(|(index, _)| index).collect()
    }

    /// Puts the outcome of a finished check into the report of this conversion.
    ///
    /// # Errors
    /// `rotation_off` where the rotated model does not compute what its source does.
    pub fn attach_equivalence(&mut self, check: &EquivalenceCheck) -> Result<(), JsValue> {
        self.equivalence = Some(check.outcome().into_api_result()?);
        Ok(())
    }
}
