//! Conversions as they run: text, one JSON document, or one JSON event per line.

use super::events::Event;
use super::quantized::{Document, write_text};
use crate::verbs::convert::{ConversionObserver, ConversionResult};
use quantoscope_accel::device::Offload;
use quantoscope_core::error::Result;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan::Plan;
use quantoscope_core::report::{ConvertReport, RunInfo};
use quantoscope_core::run::PlanMeasurements;
use std::path::{Path, PathBuf};

/// The form in which a conversion is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversionFormat {
    /// Text for people.
    Text,
    /// One JSON document at the end.
    Json,
    /// One JSON event per line.
    Events,
}

/// Prints what happens during a conversion, and its report at the end.
#[derive(Clone, Debug)]
pub struct ConversionPrinter {
    /// The form.
    pub format: ConversionFormat,
    /// The input's path.
    pub input: PathBuf,
    /// The output's path.
    pub output: PathBuf,
    /// Whether nothing is written.
    pub dry_run: bool,
}

impl ConversionPrinter {
    /// Prints the event that `make` returns, if events are wanted.
    fn emit(&self, make: impl FnOnce() -> Option<Event>) -> Result<()> {
        match (self.format == ConversionFormat::Events).then(make).flatten() {
            Some(event) => super::json_line(&event),
            None => Ok(()),
        }
    }

    /// Prints the report.
    ///
    /// # Errors
    ///
    /// `io` if standard output cannot be written to.
    pub fn finish(&self, result: &ConversionResult) -> Result<()> {
        let (report, run) = (result.report()?, result.run());
        match self.format {
            ConversionFormat::Text => {
                super::warn(report.warnings.get(result.plan().warnings.len()..).unwrap_or_default());
                super::stream(|out| write_text(out, &report, run, Some(&self.output)))
            }
            ConversionFormat::Json => super::json(&Document::new(&report, run, self.dry_run)),
            ConversionFormat::Events => super::json_line(&Event::done(&report, run, self.dry_run)),
        }
    }
}

impl ConversionObserver for ConversionPrinter {
    fn planned(&self, plan: &Plan) {
        if self.format == ConversionFormat::Text {
            super::warn(&plan.warnings);
        }
    }

    fn started(&self, plan: &Plan) -> Result<()> {
        let path = |p: &Path| p.to_string_lossy().into_owned();
        self.emit(|| Event::start(plan, path(&self.input), path(&self.output), self.dry_run))
    }

    fn tensor_finished(
        &self,
        source: &Checkpoint,
        plan: &Plan,
        index: usize,
        measured: Option<&PlanMeasurements>,
    ) -> Result<()> {
        self.emit(|| Event::tensor(source, plan, index, measured))
    }

    fn device_failed(&self, device: &Offload) {
        let _ = self.emit(|| Some(Event::device_ended(device)));
        if self.format == ConversionFormat::Text {
            let name = device.device().name();
            super::note(&format!("warning: {name} returned wrong bytes; the conversion restarts without it"));
        }
    }
}

/// Prints the report of a plan, as JSON or as text.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print_plan(report: &ConvertReport<'_>, json: bool) -> Result<()> {
    let run: Option<&RunInfo> = None;
    if json {
        return super::json(&Document::new(report, run, true));
    }
    super::warn(&report.warnings);
    super::stream(|out| write_text(out, report, run, None))
}
