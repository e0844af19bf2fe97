//! The sampled sweep of the page: batches of tensors, each measured as `sweep --sample` of the command line measures it.

use crate::api_error::IntoApiResult;
use crate::model::Model;
use crate::run::Run;
use crate::view::to_js;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Warning;
use quantoscope_core::plan::measure::sweep;
use quantoscope_core::plan::{Plan, sample};
use quantoscope_core::quant::Encoding;
use quantoscope_core::tensor::TensorInfo;
use serde::Serialize;
use std::collections::BTreeSet;
use wasm_bindgen::prelude::*;

/// What a sweep of a model measures.
#[derive(Serialize)]
struct SweepOutline {
    /// Indices of the tensors that are measured: matrices that can be decoded.
    tensors: Vec<u32>,
    /// Rows of each that are measured.
    rows: Vec<u64>,
    warnings: Vec<Warning>,
}

impl Model {
    fn sweep_plan(
        &self,
        encodings: &[String],
        rows: u64,
        wanted: &dyn Fn(&TensorInfo) -> bool,
    ) -> Result<Plan> {
        if rows == 0 {
            return Err(Error::new(Code::Usage, "a sample has at least one row"));
        }
        let encodings: Vec<Encoding> =
            encodings.iter().map(|name| Encoding::parse(name)).collect::<Result<_>>()?;
        let mut plan = sweep(&self.checkpoint, &encodings, None, wanted)?;
        sample(&mut plan, rows);
        Ok(plan)
    }
}

#[wasm_bindgen]
impl Model {
    /// The tensors that a sweep of `encodings` measures, and its warnings: see `SweepOutline`.
    ///
    /// # Errors
    /// `usage` for an unknown encoding or no rows; `unsupported_dtype` for an encoding that cannot be written and for a tensor
    /// in a quantized form that is not decoded yet.
    pub fn sweep_outline(&self, encodings: Vec<String>, rows: u32) -> std::result::Result<JsValue, JsValue> {
        let matrices = |t: &TensorInfo| t.shape.axes().len() >= 2;
        let plan = self.sweep_plan(&encodings, rows.into(), &matrices).into_api_result()?;
        let tensors = plan.outputs.iter().filter_map(|o| Some(o.segments.first()?.from.tensor)).collect();
        let rows = plan.outputs.iter().map(|o| o.grid.rows).collect();
        to_js(&SweepOutline { tensors, rows, warnings: plan.warnings })
    }

    /// Measures the error of `encodings`, with the moments, on about `rows` rows of each of `tensors`, which are indices.
    ///
    /// # Errors
    /// As [`Model::sweep_outline`].
    pub fn sampled_sweep(
        &self,
        tensors: Vec<u32>,
        encodings: Vec<String>,
        rows: u32,
    ) -> std::result::Result<Run, JsValue> {
        let all = &self.checkpoint.tensors;
        let chosen = tensors.iter().filter_map(|&at| all.get(at as usize));
        let chosen: BTreeSet<*const TensorInfo> = chosen.map(std::ptr::from_ref).collect();
        let wanted = |t: &TensorInfo| chosen.contains(&std::ptr::from_ref(t));
        self.details(self.sweep_plan(&encodings, rows.into(), &wanted))
    }
}
