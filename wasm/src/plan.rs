//! A planned conversion, to be shown and to be run.

use crate::api_error::IntoApiResult;
#[cfg(feature = "full")]
use crate::equivalence::{CheckOptions, EquivalenceCheck};
use crate::run::{Purpose, Run};
use crate::view::to_js;
use quantoscope_core::format::Checkpoint;
#[cfg(feature = "full")]
use quantoscope_core::model_equivalence::{TOKENS, TOLERANCE};
use quantoscope_core::plan;
use quantoscope_core::report::{self, ConvertReport};
use quantoscope_core::{Code, Error};
use serde::Serialize;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// What would be written, to the byte.
#[wasm_bindgen]
pub struct Plan {
    checkpoint: Rc<Checkpoint>,
    plan: Rc<plan::Plan>,
}

impl Plan {
    /// Wraps a plan of `checkpoint`.
    pub(crate) fn new(checkpoint: Rc<Checkpoint>, plan: plan::Plan) -> Plan {
        Plan { checkpoint, plan: Rc::new(plan) }
    }
}

/// The command line's report of a dry run, and the files.
#[derive(Serialize)]
struct PlanView<'a> {
    #[serde(flatten)]
    report: ConvertReport<'a>,
    files: Vec<OutFileView<'a>>,
}

#[derive(Serialize)]
struct OutFileView<'a> {
    name: &'a str,
    bytes: u64,
    /// True if the file is a copy of the source's file of the same name: the driver supplies its bytes.
    copied: bool,
}

#[wasm_bindgen]
impl Plan {
    /// Everything the page shows of it.
    pub fn view(&self) -> Result<JsValue, JsValue> {
        let none = || Error::new(Code::Usage, "the plan is not one of a conversion");
        to_js(&PlanView {
            report: report::converted(&self.checkpoint, &self.plan, None)
                .ok_or_else(none)
                .into_api_result()?,
            files: self
                .plan
                .files
                .iter()
                .map(|f| OutFileView { name: &f.name, bytes: f.len, copied: f.copied })
                .collect(),
        })
    }

    /// The first bytes of file number `index`.
    pub fn header(&self, index: usize) -> Vec<u8> {
        self.plan.files.get(index).map(|f| f.header.clone()).unwrap_or_default()
    }

    /// The run of the conversion.
    ///
    /// # Errors
    /// `memory_budget` where a window does not fit the memory of a page.
    pub fn run(&self) -> Result<Run, JsValue> {
        Run::new(self.plan.clone(), Purpose::Convert(self.checkpoint.clone())).into_api_result()
    }
}

#[cfg(feature = "full")]
#[wasm_bindgen]
impl Plan {
    /// The check that must hold before a rotated model is written: see [`EquivalenceCheck`]; nothing where the plan rotates
    /// nothing.
    ///
    /// `tokens` and `tolerance` are those of the command line, its defaults where absent.
    ///
    /// # Errors
    /// `unsupported_rotation` where the model cannot be run, unless `allow_unprobed` is set.
    pub fn equivalence_check(
        &self,
        tokens: Option<u32>,
        tolerance: Option<f64>,
        allow_unprobed: bool,
    ) -> Result<Option<EquivalenceCheck>, JsValue> {
        let options = CheckOptions {
            tokens: tokens.unwrap_or(TOKENS),
            tolerance: tolerance.unwrap_or(TOLERANCE),
            allow_unprobed,
        };
        EquivalenceCheck::new(&self.checkpoint, &self.plan, options).into_api_result()
    }
}
