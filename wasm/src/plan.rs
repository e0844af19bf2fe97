//! A planned conversion, for looking at and for carrying out.

use crate::problem::OrProblem;
use crate::run::{Purpose, Run};
use crate::view::to_js;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan;
use quantoscope_core::report::{self, ConvertReport};
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
    report: Option<ConvertReport<'a>>,
    files: Vec<OutFileView<'a>>,
}

#[derive(Serialize)]
struct OutFileView<'a> {
    name: &'a str,
    bytes: u64,
}

#[wasm_bindgen]
impl Plan {
    /// Everything the page shows of it.
    pub fn view(&self) -> Result<JsValue, JsValue> {
        to_js(&PlanView {
            report: report::converted(&self.checkpoint, &self.plan, None),
            files: self.plan.files.iter().map(|f| OutFileView { name: &f.name, bytes: f.len }).collect(),
        })
    }

    /// The first bytes of file number `index`.
    pub fn header(&self, index: usize) -> Vec<u8> {
        self.plan.files.get(index).map(|f| f.header.clone()).unwrap_or_default()
    }

    /// The work itself.
    pub fn run(&self) -> Result<Run, JsValue> {
        Run::new(self.plan.clone(), Purpose::Convert(self.checkpoint.clone())).or_problem()
    }
}
