//! The events of `--events`, one JSON object per line. `event` is the first key; byte counts are integers;
//! unknown values are absent.

use quantoscope_accel::device::Offload;
use quantoscope_core::DType;
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::metric::Tally;
use quantoscope_core::plan::{Plan, Totals, Warning};
use quantoscope_core::report::{
    ConvertReport, ErrorView, RunInfo, SCHEMA_VERSION, action, bytes_in, nonfinite,
};
use quantoscope_core::run::PlanMeasurements;
use serde::Serialize;

/// An event of `quantize`.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
pub(super) enum Event {
    /// The plan is complete.
    #[serde(rename = "quant_start")]
    Start {
        schema_version: u32,
        dry_run: bool,
        input: String,
        output: String,
        container: Container,
        tensors: usize,
        planned_quantized: u64,
        kept: u64,
        total_bytes_in: u64,
        source_file_bytes: u64,
        warnings: Vec<Warning>,
    },
    /// A tensor is written (or planned, in a dry run).
    #[serde(rename = "quant_tensor")]
    Tensor {
        index: usize,
        count: usize,
        tensor: String,
        action: &'static str,
        dtype_in: DType,
        dtype_out: DType,
        tensor_bytes_in: u64,
        tensor_bytes_out: u64,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorView>,
        /// NaN and infinities that were written, if they are allowed.
        #[serde(skip_serializing_if = "Option::is_none")]
        non_finite: Option<Tally>,
    },
    /// A device returned wrong bytes. The run restarts on the processor, and `quant_tensor` events are
    /// repeated.
    #[serde(rename = "quant_device_ended")]
    DeviceEnded { device: String, reason: String },
    /// The output has its final name (or would have, in a dry run).
    #[serde(rename = "quant_done")]
    Done {
        dry_run: bool,
        #[serde(flatten)]
        totals: Totals,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        engine: Option<&'static str>,
    },
}

impl Event {
    /// The first event.
    pub(super) fn start(plan: &Plan, input: String, output: String, dry_run: bool) -> Option<Event> {
        let c = plan.conversion.as_ref()?;
        Some(Event::Start {
            schema_version: SCHEMA_VERSION,
            dry_run,
            input,
            output,
            container: c.container,
            tensors: plan.outputs.len(),
            planned_quantized: c.totals.planned_quantized,
            kept: c.totals.kept,
            total_bytes_in: c.totals.total_bytes_in,
            source_file_bytes: c.totals.source_file_bytes,
            warnings: plan.warnings.clone(),
        })
    }

    /// Output `index` of the plan is written; in a dry run `measured` is absent.
    pub(super) fn tensor(
        source: &Checkpoint,
        plan: &Plan,
        index: usize,
        measured: Option<&PlanMeasurements>,
    ) -> Option<Event> {
        let output = plan.outputs.get(index)?;
        let tensor = source.tensors.get(output.segments.first()?.from.tensor as usize)?;
        let error = measured.filter(|_| output.metrics.error).and_then(|m| m.output(index)?.error());
        Some(Event::Tensor {
            index,
            count: plan.outputs.len(),
            tensor: output.name.to_string(),
            action: action(output),
            dtype_in: tensor.dtype,
            dtype_out: output.dtype,
            tensor_bytes_in: bytes_in(source, output),
            tensor_bytes_out: output.bytes_out()?,
            error: error.map(ErrorView::from),
            non_finite: measured.and_then(|m| nonfinite(m.output(index)?, output)),
        })
    }

    /// A device returned wrong bytes.
    pub(super) fn device_ended(device: &Offload) -> Event {
        let reason = device.ended().unwrap_or_default();
        Event::DeviceEnded { device: device.device().name().into(), reason }
    }

    /// The last event.
    pub(super) fn done(report: &ConvertReport<'_>, run: Option<&RunInfo>, dry_run: bool) -> Event {
        Event::Done {
            dry_run,
            totals: report.conversion.totals,
            seconds: run.and_then(|r| r.seconds),
            engine: run.map(|r| r.engine),
        }
    }
}
