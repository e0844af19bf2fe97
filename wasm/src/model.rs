//! An opened model: what the page shows of it, and the runs that it can start.

use crate::api_error::IntoApiResult;
use crate::imatrix::Imatrix;
use crate::plan::Plan;
use crate::run::{Purpose, Run};
use crate::view::{self, to_js};
use quantoscope_core::format::{Checkpoint, imatrix};
use quantoscope_core::plan::{convert, measure, pair, preview, replay};
use quantoscope_core::recipe::Recipe;
use quantoscope_core::recipe::rotation::{RotationOptions, SEED, parse_seed};
use quantoscope_core::recipe::tensor_filter::TensorFilter;
use quantoscope_core::report::{CompareThreshold, VerdictRule};
use quantoscope_core::{Code, Error};
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// A checkpoint of which the headers were read.
#[wasm_bindgen]
pub struct Model(Rc<Checkpoint>);

impl Model {
    /// Wraps a checkpoint.
    pub(crate) fn new(checkpoint: Checkpoint) -> Model {
        Model(Rc::new(checkpoint))
    }

    fn planned(&self, recipe: JsValue, matrix: Option<&Imatrix>, measure: bool) -> Result<Plan, JsValue> {
        let recipe = recipe_from(recipe)?;
        let plan = convert::plan(&self.0, &recipe, matrix.map(Imatrix::get), measure);
        Ok(Plan::new(self.0.clone(), plan.into_api_result()?))
    }

    /// The comparison of this model with its source, which is converted again where this model records how it was made.
    fn verified(
        &self,
        source: &Model,
        name: String,
        source_name: String,
        matrix: Option<&imatrix::Imatrix>,
    ) -> Result<Run, JsValue> {
        let rotated = replay::recorded(&self.0);
        let is_folder = source.0.companion_files.iter().next().is_some();
        let recipe = rotated.clone().or_else(|| replay::recorded_conversion(&self.0));
        let pairing = match recipe.filter(|_| rotated.is_some() || is_folder) {
            Some(recipe) => replay::verify(&source.0, &self.0, &recipe, matrix),
            None => pair::verify(&source.0, &self.0, matrix),
        };
        let pairing = pairing.into_api_result()?;
        let purpose = Purpose::Verify { names: (name, source_name), findings: pairing.findings };
        Run::new(pairing.plan.into(), purpose).into_api_result()
    }
}

/// A recipe from the page.
///
/// # Errors
/// `usage` where the value is not a recipe.
fn recipe_from(recipe: JsValue) -> Result<Recipe, JsValue> {
    let parsed = serde_wasm_bindgen::from_value(recipe);
    parsed.map_err(|e| Error::new(Code::Usage, format!("not a recipe: {e}"))).into_api_result()
}

/// The rotation options of a recipe from `what`, as `--rotate` takes it (`quarot`, `block:N`, `fold`, `r2`, or two of
/// them), and a seed, decimal or hexadecimal; the fixed seed where that is absent.
///
/// # Errors
/// `usage` where either cannot be parsed.
#[wasm_bindgen]
pub fn rotation_options(what: &str, seed: Option<String>) -> Result<JsValue, JsValue> {
    let options = seed_or_default(seed).and_then(|seed| RotationOptions::parse(what, seed));
    to_js(&options.into_api_result()?)
}

fn seed_or_default(seed: Option<String>) -> quantoscope_core::error::Result<u64> {
    seed.map_or(Ok(SEED), |text| parse_seed(&text))
}

/// Whether a conversion by `recipe` needs the files beside the weights: then its source is opened with them.
///
/// # Errors
/// `usage` where the value is not a recipe.
#[wasm_bindgen]
pub fn reads_companions(recipe: JsValue) -> Result<bool, JsValue> {
    Ok(recipe_from(recipe)?.reads_companions())
}

#[wasm_bindgen]
impl Model {
    /// A file that was read beside the weights.
    pub fn companion_file(&self, name: &str) -> Option<Vec<u8>> {
        self.0.companion_files.get(name).map(Into::into)
    }

    /// Whether the name of the pre-tokenizer depends on the token ids of the check text, which are not set: a tokenizer that
    /// llama.cpp does not split text for has none.
    ///
    /// # Errors
    /// `usage` where the value is not a recipe.
    pub fn needs_check_text(&self, recipe: JsValue) -> Result<bool, JsValue> {
        let recipe = recipe_from(recipe)?;
        Ok(match convert::plan(&self.0, &recipe, None, false) {
            Ok(plan) => plan.warnings.iter().any(|w| w.code == "no_encoder"),
            Err(e) => e.detail().file.as_deref() == Some("tokenizer.json"),
        })
    }

    /// Sets the token ids of the check text under the model's tokenizer.
    pub fn set_check_text_ids(&mut self, ids: Vec<u32>) {
        Rc::make_mut(&mut self.0).check_text_ids = Some(ids);
    }

    /// Whether verifying this model against its source needs the files beside the source's weights.
    pub fn verify_reads_companions(&self) -> bool {
        let recipe = replay::recorded(&self.0).or_else(|| replay::recorded_conversion(&self.0));
        recipe.is_some_and(|recipe| recipe.reads_companions())
    }

    /// What the headers say, without the tensors: see `ModelSummary`.
    pub fn summary(&self) -> Result<JsValue, JsValue> {
        to_js(&view::summary(&self.0))
    }

    /// Every tensor, in the order of the files: see `TensorRow`.
    pub fn tensors(&self) -> Result<JsValue, JsValue> {
        to_js(&view::tensors(&self.0))
    }

    /// Statistics, histogram and the error of every encoding, of tensor number `index`.
    ///
    /// # Errors
    /// `no_such_tensor`; `memory_budget` where a window does not fit a page.
    pub fn tensor_details(&self, index: usize) -> Result<Run, JsValue> {
        let plan = measure::tensor_details(&self.0, index);
        plan.and_then(|plan| Run::new(plan.into(), Purpose::TensorDetails)).into_api_result()
    }

    /// The same encodings on tensor number `index` as stored and under rotations, each named as `sweep --rotate` names
    /// it. `seed` as in [`rotation_options`].
    ///
    /// # Errors
    /// `usage` where a rotation or the seed cannot be parsed; else as [`Model::tensor_details`].
    pub fn rotated(
        &self,
        index: usize,
        rotations: Vec<String>,
        seed: Option<String>,
    ) -> Result<Run, JsValue> {
        let options = seed_or_default(seed).and_then(|seed| preview::parse_rotations(&rotations, seed));
        let preview = options.and_then(|all| preview::tensor_details(&self.0, index, &all));
        let run = preview.and_then(|p| Run::new(p.plan.clone().into(), Purpose::Rotated(Box::new(p))));
        run.into_api_result()
    }

    /// Plans a conversion by `recipe`. With `measure`, the run reports the error of every tensor that it encodes.
    ///
    /// # Errors
    /// `usage` where the recipe makes no sense; those of the plan, by tensor.
    pub fn plan(&self, recipe: JsValue, measure: bool) -> Result<Plan, JsValue> {
        self.planned(recipe, None, measure)
    }

    /// Plans a conversion by `recipe`, with an importance matrix.
    ///
    /// # Errors
    /// As [`Model::plan`]; `size_mismatch` where the matrix is another model's.
    pub fn weighted_plan(&self, recipe: JsValue, matrix: &Imatrix, measure: bool) -> Result<Plan, JsValue> {
        self.planned(recipe, Some(matrix), measure)
    }

    /// Checks that every tensor can be decoded to finite values: `verify` without a source. `name` is this model's.
    ///
    /// # Errors
    /// `memory_budget` where a window does not fit a page.
    pub fn verify(&self, name: String) -> Result<Run, JsValue> {
        let plan = measure::moments(&self.0, &|_| true);
        plan.and_then(|plan| Run::new(plan.into(), Purpose::Check { name })).into_api_result()
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
        self.verified(source, name, source_name, Some(matrix.get()))
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
        let pairing = pair::compare(&self.0, &candidate.0, &TensorFilter::default()).into_api_result()?;
        let names = (name, candidate_name);
        let gate = CompareThreshold { threshold, by: VerdictRule::Strict };
        let purpose = Purpose::Compare { names, findings: pairing.findings, gate };
        Run::new(pairing.plan.into(), purpose).into_api_result()
    }
}
