//! An opened model: what the page shows of it, and the work that can be asked of it.

use crate::plan::Plan;
use crate::problem::OrProblem;
use crate::run::{Purpose, Run};
use crate::view;
use quantoscope_core::format::Checkpoint;
use quantoscope_core::plan::{convert, measure, pair, preview};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::SEED;
use quantoscope_core::report::{CompareThreshold, VerdictRule};
use quantoscope_core::{Code, Error};
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// Everything the headers said.
#[wasm_bindgen]
pub struct Model(Rc<Checkpoint>);

impl Model {
    /// Wraps what was opened.
    pub(crate) fn new(checkpoint: Checkpoint) -> Model {
        Model(Rc::new(checkpoint))
    }
}

#[wasm_bindgen]
impl Model {
    /// The model in one glance.
    pub fn summary(&self) -> Result<JsValue, JsValue> {
        view::to_js(&view::summary(&self.0))
    }

    /// The rows of the table.
    pub fn tensors(&self) -> Result<JsValue, JsValue> {
        view::to_js(&view::tensors(&self.0))
    }

    /// Statistics, histogram and the error of every encoding, of tensor number `index`.
    pub fn look(&self, index: usize) -> Result<Run, JsValue> {
        let plan = measure::tensor_details(&self.0, index);
        plan.and_then(|plan| Run::new(plan.into(), Purpose::Look)).or_problem()
    }

    /// The same encodings on tensor number `index` as it is and under rotations, each named as `sweep --rotate` names it.
    pub fn rotated(&self, index: usize, rotations: Vec<String>) -> Result<Run, JsValue> {
        let preview =
            preview::wishes(&rotations, SEED).and_then(|w| preview::tensor_details(&self.0, index, &w));
        preview.and_then(|p| Run::new(p.plan.clone().into(), Purpose::Rotated(Box::new(p)))).or_problem()
    }

    /// What a recipe (as the command line writes it into its reports) would make of it. With `measure`, the run
    /// reports the error of every tensor it encodes.
    pub fn plan(&self, recipe: JsValue, measure: bool) -> Result<Plan, JsValue> {
        let recipe: Recipe = serde_wasm_bindgen::from_value(recipe)?;
        let plan = convert::plan(&self.0, &recipe, None, measure).or_problem()?;
        Ok(Plan::new(self.0.clone(), plan))
    }

    /// The error of `candidate` against this model.
    pub fn compare(
        &self,
        candidate: &Model,
        name: String,
        candidate_name: String,
        threshold: Option<f64>,
    ) -> Result<Run, JsValue> {
        if threshold.is_some_and(|t| !(-1.0..=1.0).contains(&t)) {
            let error = Error::new(Code::Usage, "a threshold is a number from -1 to 1");
            return Err(error).or_problem();
        }
        let pairing = pair::compare(&self.0, &candidate.0);
        let names = (name, candidate_name);
        let gate = CompareThreshold { threshold, by: VerdictRule::Strict };
        let purpose = Purpose::Compare { names, findings: pairing.findings, gate };
        Run::new(pairing.plan.into(), purpose).or_problem()
    }
}
