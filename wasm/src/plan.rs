//! A planned conversion, to be shown and to be run.

use crate::api_error::IntoApiResult;
use crate::driver::inputs::Inputs;
use crate::model::PickedFiles;
use crate::run::{Purpose, Run};
use crate::view::to_js;
use quantoscope_core::format::Checkpoint;
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
    picked: Rc<PickedFiles>,
    inputs: Inputs,
    plan: Rc<plan::Plan>,
}

impl Plan {
    /// Wraps a plan of `checkpoint`, which is among the files `picked`; its run reads `inputs`.
    pub(crate) fn new(
        checkpoint: Rc<Checkpoint>,
        picked: Rc<PickedFiles>,
        inputs: Inputs,
        plan: plan::Plan,
    ) -> Plan {
        Plan { checkpoint, picked, inputs, plan: Rc::new(plan) }
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
    /// True if the file is a copy of the source's file of the same name.
    copied: bool,
}

#[wasm_bindgen]
impl Plan {
    /// Everything the page shows of it.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
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

    /// The run of the conversion.
    ///
    /// # Errors
    /// `memory_budget` where a window does not fit the memory of a page.
    pub fn run(&self) -> Result<Run, JsValue> {
        let (checkpoint, picked) = (self.checkpoint.clone(), self.picked.clone());
        let purpose = Purpose::Convert { checkpoint, picked };
        Run::new(self.plan.clone(), purpose, self.inputs.clone()).into_api_result()
    }
}
