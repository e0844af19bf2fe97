//! Runs of two models: comparison by value, and verification by byte.

use crate::api_error::IntoApiResult;
use crate::driver::inputs::Inputs;
use crate::imatrix::Imatrix;
use crate::model::Model;
use crate::run::{Purpose, Run};
use quantoscope_core::plan::{pair, replay};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::report::{CompareThreshold, VerdictRule};
use quantoscope_core::{Code, Error};
use wasm_bindgen::prelude::*;

impl Model {
    /// The comparison of this model with its source, which is converted again where this model records how it was made.
    fn verified(
        &self,
        source: &Model,
        name: String,
        source_name: String,
        matrix: Option<&Imatrix>,
    ) -> Result<Run, JsValue> {
        let importance = matrix.map(Imatrix::source);
        let matrix = matrix.map(Imatrix::get);
        let rotated = replay::recorded(&self.checkpoint);
        let is_folder = source.checkpoint.companion_files.iter().next().is_some();
        let recipe = rotated.clone().or_else(|| replay::recorded_conversion(&self.checkpoint));
        let again = |r: &Recipe| rotated.is_some() || is_folder || replay::is_mlx(&self.checkpoint, r);
        let pairing = match recipe.filter(again) {
            Some(recipe) => {
                let source = source.prepared(&recipe).into_api_result()?;
                replay::verify(&source, &self.checkpoint, &recipe, matrix)
            }
            None => pair::verify(&source.checkpoint, &self.checkpoint, matrix),
        };
        let pairing = pairing.into_api_result()?;
        let purpose = Purpose::Verify { names: (name, source_name), findings: pairing.findings };
        let inputs = Inputs { candidate: self.files.clone(), importance, ..source.inputs() };
        Run::new(pairing.plan.into(), purpose, inputs).into_api_result()
    }
}

#[wasm_bindgen]
impl Model {
    /// Whether verifying this model against its source needs the files beside the source's weights.
    pub fn verify_reads_companions(&self) -> bool {
        let recipe =
            replay::recorded(&self.checkpoint).or_else(|| replay::recorded_conversion(&self.checkpoint));
        recipe.is_some_and(|recipe| recipe.reads_companions())
    }

    /// Encodes `source` again and compares the bytes with this model's: `verify --against`.
    ///
    /// # Errors
    /// Those of a plan, where this model records a rotation.
    pub fn verify_against(&self, source: &Model, name: String, source_name: String) -> Result<Run, JsValue> {
        self.verified(source, name, source_name, None)
    }

    /// The same with the importance matrix that this model was quantized with.
    ///
    /// # Errors
    /// As [`Model::verify_against`].
    pub fn weighted_verify_against(
        &self,
        source: &Model,
        matrix: &Imatrix,
        name: String,
        source_name: String,
    ) -> Result<Run, JsValue> {
        self.verified(source, name, source_name, Some(matrix))
    }

    /// The error of `candidate` against this model. `threshold` is the least figure of a tensor that passes, from -1 to 1.
    ///
    /// # Errors
    /// `usage` where the threshold is out of range.
    pub fn compare(
        &self,
        candidate: &Model,
        name: String,
        candidate_name: String,
        threshold: Option<f64>,
    ) -> Result<Run, JsValue> {
        if threshold.is_some_and(|t| !(-1.0..=1.0).contains(&t)) {
            let error = Error::new(Code::Usage, "a threshold is a number from -1 to 1");
            return Err(error).into_api_result();
        }
        let pairing = pair::compare(&self.checkpoint, &candidate.checkpoint, &TensorFilter::default())
            .into_api_result()?;
        let names = (name, candidate_name);
        let gate = CompareThreshold { threshold, by: VerdictRule::Strict };
        let purpose = Purpose::Compare { names, findings: pairing.findings, gate };
        let inputs = Inputs { candidate: candidate.files.clone(), ..self.inputs() };
        Run::new(pairing.plan.into(), purpose, inputs).into_api_result()
    }
}
