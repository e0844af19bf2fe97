//! A run of the page: a plan, driven to its end, and the report of the command line.

use crate::api_error::{IntoApiResult, api_error, object};
#[cfg(feature = "full")]
use crate::device::Device;
use crate::driver::browser::{SaveOptions, SavedFiles, Watcher};
use crate::driver::inputs::Inputs;
use crate::driver::run_loop::{DriveProgress, Windows, drive};
use crate::driver::sink::{OutFiles, OutputSink, Written};
use crate::driver::watch::{Unanswered, Watch, interrupted};
#[cfg(feature = "full")]
use crate::equivalence::{CheckOptions, EquivalenceCheck};
use crate::job_runner::{JobRunner, StartedJob};
use crate::model::PickedFiles;
use crate::view::to_js;
use js_sys::Array;
use quantoscope_accel::Engine;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::job::Done;
#[cfg(feature = "full")]
use quantoscope_core::model_equivalence::{TOKENS, TOLERANCE};
use quantoscope_core::plan::Plan;
#[cfg(feature = "full")]
use quantoscope_core::plan::pair::Finding;
use quantoscope_core::plan::preview::Preview;
use quantoscope_core::report::{self, EquivalenceView};
#[cfg(feature = "full")]
use quantoscope_core::report::{CompareReport, CompareThreshold};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// Bins of a histogram: what a panel of the page can show.
const BINS: usize = 96;

/// What a run is for, and what its report needs.
pub(crate) enum Purpose {
    /// Everything about one tensor.
    TensorDetails,
    /// One tensor under rotations.
    Rotated(Box<Preview>),
    /// A conversion of this checkpoint.
    Convert {
        /// The checkpoint.
        checkpoint: Rc<Checkpoint>,
        /// Its files and those beside them.
        picked: Rc<PickedFiles>,
    },
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
    plan: Rc<Plan>,
    purpose: Purpose,
    inputs: Inputs,
    /// What a rotation was checked with before this run.
    equivalence: RefCell<Option<EquivalenceView>>,
    runner: RefCell<JobRunner>,
    /// True once it was driven.
    driven: Cell<bool>,
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
    /// Prepares `plan` of `inputs` for the processor.
    ///
    /// # Errors
    /// `memory_budget` where a window does not fit the memory of a page.
    pub(crate) fn new(plan: Rc<Plan>, purpose: Purpose, inputs: Inputs) -> Result<Run> {
        let runner = RefCell::new(JobRunner::new(plan.clone())?);
        Ok(Run { plan, purpose, inputs, equivalence: RefCell::default(), runner, driven: Cell::new(false) })
    }

    /// What it reads.
    #[cfg(feature = "full")]
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The windows, and what they measured.
    #[cfg(feature = "full")]
    pub(crate) fn runner(&self) -> std::cell::Ref<'_, JobRunner> {
        self.runner.borrow()
    }

    /// Drives the windows. What they write goes to `sink`.
    async fn driven(&self, sink: Option<&mut OutputSink>, watch: &Watch, watcher: &Watcher) -> Result<()> {
        if self.driven.replace(true) {
            return Err(Error::new(Code::Usage, "a run is driven once"));
        }
        let total = self.total();
        let progress = |p: DriveProgress<'_>| watcher.report(p.done, total, p.label, p.device, p.restarted);
        drive(self, total, &self.inputs, sink, watch, &progress).await
    }

    /// Runs source and plan of a rotation on a few tokens. Nothing is written where their logits differ.
    #[cfg(feature = "full")]
    async fn check(
        &self,
        checkpoint: &Checkpoint,
        options: &SaveOptions,
        watch: &Watch,
        watcher: &Watcher,
    ) -> Result<()> {
        let options = CheckOptions {
            tokens: options.tokens().unwrap_or(TOKENS),
            tolerance: options.tolerance().unwrap_or(TOLERANCE),
            allow_unprobed: options.allow_unprobed().unwrap_or(false),
        };
        let Some(check) = EquivalenceCheck::new(checkpoint, &self.plan, options)? else { return Ok(()) };
        let total = self.total();
        // How much the two passes read is not known beforehand.
        let report =
            || watcher.report(0.0, total, "Checking the rotated model on a few tokens", false, false);
        report();
        drive(&check, total, &self.inputs, None, watch, &|_| report()).await?;
        *self.equivalence.borrow_mut() = Some(check.outcome()?);
        Ok(())
    }

    /// Writes the files into `sink`, once a rotation has been checked.
    async fn write(
        &self,
        sink: &mut OutputSink,
        options: &SaveOptions,
        watch: &Watch,
        watcher: &Watcher,
    ) -> Result<(JsValue, Written), JsValue> {
        sink.open(&self.inputs, watch).await.into_api_result()?;
        #[cfg(feature = "full")]
        if let Purpose::Convert { checkpoint, .. } = &self.purpose {
            self.check(checkpoint, options, watch, watcher).await.into_api_result()?;
        }
        let mut prepared = JsFuture::from(options.prepare());
        watch.answer(&mut prepared, None).await.map_err(|reason| match reason {
            Unanswered::Threw(reason) => reason,
            Unanswered::Interrupted | Unanswered::Stalled => api_error(&interrupted()),
        })?;
        self.driven(Some(&mut *sink), watch, watcher).await.into_api_result()?;
        watch.check().into_api_result()?;
        let report = self.report()?;
        let total = self.total();
        watcher.report(total, total, "Putting the file in place", false, false);
        Ok((report, sink.finish(watch).await.into_api_result()?))
    }
}

impl Windows for Run {
    fn next_window(&self) -> Result<Option<StartedJob>> {
        self.runner.borrow_mut().next_window()
    }

    fn finish(&self, started: &mut StartedJob, done: Result<Done>) -> Result<bool> {
        self.runner.borrow_mut().finish(started, done)
    }

    fn reuse(&self, started: StartedJob) {
        self.runner.borrow_mut().reuse(started);
    }

    fn label(&self, started: &StartedJob) -> String {
        self.runner.borrow().label(started).into()
    }

    fn on_device(&self) -> bool {
        self.runner.borrow().on_device()
    }
}

/// What was saved, for the page.
fn saved(report: JsValue, written: &Written) -> JsValue {
    let files = Array::new();
    for (path, file) in &written.files {
        files.push(&object(&[("path", path.as_str().into()), ("file", file.into())]));
    }
    let (file, key) = written
        .stored
        .as_ref()
        .map_or((JsValue::NULL, JsValue::NULL), |(file, key)| (file.into(), key.as_str().into()));
    object(&[("report", report), ("file", file), ("key", key), ("written", files.into())])
}

#[wasm_bindgen]
impl Run {
    /// True if a device takes part that has not been given up.
    pub fn on_device(&self) -> bool {
        self.runner.borrow().on_device()
    }

    /// Bytes that all windows read together, those of an importance matrix excepted.
    pub fn total(&self) -> f64 {
        let spans = self.plan.outputs.iter().flat_map(|o| {
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

    /// Drives a run that writes nothing to its end.
    ///
    /// # Errors
    /// Those of the core, of files, and `interrupted`.
    pub async fn drive(&self, watcher: Watcher) -> Result<(), JsValue> {
        self.driven(None, &Watch::of(&watcher), &watcher).await.into_api_result()
    }

    /// Saves what a conversion writes: see `SaveOptions`. After a failure nothing is left behind.
    ///
    /// # Errors
    /// Those of the core, of files, and `interrupted`, which says what is left; `rotation_off` where a rotated model does
    /// not compute what its source does.
    pub async fn save(&self, options: SaveOptions, watcher: Watcher) -> Result<SavedFiles, JsValue> {
        let Purpose::Convert { picked, .. } = &self.purpose else {
            return Err(Error::new(Code::Usage, "the plan is not one of a conversion")).into_api_result();
        };
        let files = OutFiles::new(self.plan.clone(), &|name| picked.file(name)).into_api_result()?;
        let watch = Watch::of(&watcher);
        let mut sink = OutputSink::new(&options, files);
        match self.write(&mut sink, &options, &watch, &watcher).await {
            Ok((report, written)) => Ok(saved(report, &written).unchecked_into()),
            Err(reason) => {
                let left = sink.abort().await;
                // The first reason is the one to show.
                Err(if watch.is_stopped() { api_error(&left.stopped()) } else { reason })
            }
        }
    }

    /// The command line's report of what has been measured so far.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        let runner = self.runner.borrow();
        let (plan, measured, run) = (&*self.plan, runner.measurements(), runner.info());
        match &self.purpose {
            Purpose::TensorDetails => to_js(&JobResult { report: report::stats(plan, measured, BINS), run }),
            Purpose::Rotated(preview) => {
                to_js(&JobResult { report: report::rotated(preview, measured, BINS), run })
            }
            Purpose::Convert { checkpoint, .. } => {
                let mut report = report::converted(checkpoint, plan, Some(measured));
                if let Some(report) = &mut report {
                    report.gate.clone_from(&self.equivalence.borrow());
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
}
