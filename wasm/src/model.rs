//! An opened model: what the page shows of it, and the runs that it can start.

use crate::api_error::IntoApiResult;
use crate::driver::inputs::Inputs;
use crate::imatrix::Imatrix;
use crate::plan::Plan;
use crate::run::{Purpose, Run};
use crate::view::{self, to_js};
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::plan::{convert, measure, preview};
use quantoscope_core::quant::Encoding;
use quantoscope_core::recipe::rotation::{RotationOptions, SEED, parse_seed};
use quantoscope_core::recipe::{Recipe, TargetName, TensorNaming};
use quantoscope_core::{Code, Error};
use serde::Serialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::File;

/// Values that a plan depends on are read in pieces of at most so many bytes.
#[cfg(feature = "full")]
const PIECE: u64 = 1 << 20;

/// Files that a person picked, by name, relative to the folder of the model.
pub(crate) struct PickedFiles(pub(crate) BTreeMap<String, File>);

impl PickedFiles {
    /// The file `name`.
    ///
    /// # Errors
    /// `not_found` where it was not picked.
    pub(crate) fn file(&self, name: &str) -> quantoscope_core::error::Result<File> {
        let missing = || Error::new(Code::NotFound, "the file is not there").in_file(name);
        self.0.get(name).cloned().ok_or_else(missing)
    }
}

/// A checkpoint of which the headers were read.
#[wasm_bindgen]
pub struct Model {
    pub(crate) checkpoint: Rc<Checkpoint>,
    /// Its files, in the order of the core.
    pub(crate) files: Rc<[File]>,
    picked: Rc<PickedFiles>,
}

impl Model {
    /// Wraps a checkpoint, whose files are among those that were picked.
    ///
    /// # Errors
    /// `not_found` where one of them is not.
    pub(crate) fn new(
        checkpoint: Checkpoint,
        picked: Rc<PickedFiles>,
    ) -> quantoscope_core::error::Result<Model> {
        let files = checkpoint.files.iter().map(|f| picked.file(&f.name));
        Ok(Model { files: files.collect::<Result<_, Error>>()?, checkpoint: Rc::new(checkpoint), picked })
    }

    /// What a run of this model alone reads.
    pub(crate) fn inputs(&self) -> Inputs {
        Inputs { source: self.files.clone(), ..Inputs::default() }
    }

    /// A run that reports the statistics and errors that `plan` measures.
    pub(crate) fn details(&self, plan: Result<quantoscope_core::plan::Plan, Error>) -> Result<Run, JsValue> {
        plan.and_then(|plan| Run::new(plan.into(), Purpose::TensorDetails, self.inputs())).into_api_result()
    }

    /// The checkpoint with the values that a plan by `recipe` depends on: of a GGUF that becomes a Hugging Face folder.
    ///
    /// # Errors
    /// Those of files, and of the conversion's names.
    #[cfg(feature = "full")]
    pub(crate) fn prepared(&self, recipe: &Recipe) -> quantoscope_core::error::Result<Rc<Checkpoint>> {
        use crate::driver::sync_files::SyncFiles;
        use quantoscope_core::job::Region;
        use quantoscope_core::plan::hf_values;

        let mut checkpoint = self.checkpoint.clone();
        let reads = hf_values::computed_tensors(&checkpoint, recipe);
        let run = |offset: u64, len: u64| Region { offset, run: len, stride: len, count: 1 };
        let (mut bytes, mut files) = (Vec::new(), None);
        let mut read = |file: u32, offset: u64, len: u64, bytes: &mut Vec<u8>| {
            let files = match &mut files {
                Some(files) => files,
                none => none.insert(SyncFiles::new(self.files.clone())?),
            };
            files.read(file, &run(offset, len), bytes)
        };
        for tensor in reads {
            read(tensor.file, tensor.bytes.start, tensor.bytes.len(), &mut bytes)?;
            Rc::make_mut(&mut checkpoint).computed_tensors.insert(tensor.name, hf_values::f32_values(&bytes));
        }
        for mut scan in hf_values::exact_scans(&checkpoint, recipe)? {
            let (file, range) = (scan.read.file, scan.read.bytes);
            let mut at = range.start;
            while at < range.end {
                let len = PIECE.min(range.end - at);
                read(file, at, len, &mut bytes)?;
                if !scan.feed(&bytes) {
                    break;
                }
                at += len;
            }
            scan.finish(Rc::make_mut(&mut checkpoint));
        }
        Ok(checkpoint)
    }

    /// Without the feature `full`, no plan depends on values.
    #[cfg(not(feature = "full"))]
    #[allow(clippy::unnecessary_wraps)]
    fn prepared(&self, _: &Recipe) -> quantoscope_core::error::Result<Rc<Checkpoint>> {
        Ok(self.checkpoint.clone())
    }

    fn planned(&self, recipe: JsValue, matrix: Option<&Imatrix>, measure: bool) -> Result<Plan, JsValue> {
        let recipe = recipe_from(recipe)?;
        let checkpoint = self.prepared(&recipe).into_api_result()?;
        let plan = convert::plan(&checkpoint, &recipe, matrix.map(Imatrix::get), measure);
        let inputs = Inputs { importance: matrix.map(Imatrix::source), ..self.inputs() };
        Ok(Plan::new(checkpoint, self.picked.clone(), inputs, plan.into_api_result()?))
    }
}

/// An encoding that fits a tensor.
#[derive(Serialize)]
struct EncodingSize {
    encoding: Encoding,
    bits_per_weight: f64,
}

/// A recipe from the page.
///
/// # Errors
/// `usage` where the value is not a recipe.
pub(crate) fn recipe_from(recipe: JsValue) -> Result<Recipe, JsValue> {
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
        self.checkpoint.companion_files.get(name).map(Into::into)
    }

    /// Whether a conversion by `recipe` needs a build with the feature `full`: it converts between the names of Hugging Face
    /// and those of GGUF, or it rotates and is checked.
    ///
    /// # Errors
    /// `usage` where the value is not a recipe.
    pub fn needs_full(&self, recipe: JsValue) -> Result<bool, JsValue> {
        let recipe = recipe_from(recipe)?;
        let renames = matches!(
            (recipe.to, self.checkpoint.container),
            (TargetName::Gguf, Container::Safetensors) | (TargetName::HfFolder, Container::Gguf)
        );
        Ok(recipe.rotate.is_some() || (renames && recipe.names != TensorNaming::Source))
    }

    /// Whether the name of the pre-tokenizer depends on the token ids of the check text, which are not set: a tokenizer that
    /// llama.cpp does not split text for has none.
    ///
    /// # Errors
    /// `usage` where the value is not a recipe.
    pub fn needs_check_text(&self, recipe: JsValue) -> Result<bool, JsValue> {
        let recipe = recipe_from(recipe)?;
        Ok(match convert::plan(&self.checkpoint, &recipe, None, false) {
            Ok(plan) => plan.warnings.iter().any(|w| w.code == "no_encoder"),
            Err(e) => e.detail().file.as_deref() == Some("tokenizer.json"),
        })
    }

    /// Sets the token ids of the check text under the model's tokenizer.
    pub fn set_check_text_ids(&mut self, ids: Vec<u32>) {
        Rc::make_mut(&mut self.checkpoint).check_text_ids = Some(ids);
    }

    /// What the headers say, without the tensors: see `ModelSummary`.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
    pub fn summary(&self) -> Result<JsValue, JsValue> {
        to_js(&view::summary(&self.checkpoint))
    }

    /// Every tensor, in the order of the files: see `TensorRow`.
    ///
    /// # Errors
    /// That of the conversion to a JavaScript value.
    pub fn tensors(&self) -> Result<JsValue, JsValue> {
        to_js(&view::tensors(&self.checkpoint))
    }

    /// The encodings that fit tensor number `index`, in the groups that a page measures one after the other: see
    /// `EncodingSize`.
    ///
    /// # Errors
    /// `no_such_tensor`.
    pub fn tensor_encodings(&self, index: usize) -> Result<JsValue, JsValue> {
        let mut groups: Vec<Vec<EncodingSize>> = vec![Vec::new()];
        for encoding in measure::tensor_encodings(&self.checkpoint, index).into_api_result()? {
            let size = EncodingSize { encoding, bits_per_weight: encoding.dtype().bits_per_weight() };
            match groups.first_mut() {
                // Those with a scale search are worth waiting for one by one.
                Some(group) if !encoding.searches() => group.push(size),
                _ => groups.push(vec![size]),
            }
        }
        groups.retain(|group| !group.is_empty());
        to_js(&groups)
    }

    /// Statistics and histogram of tensor number `index`; of a sample of its rows if it is large, unless `all_rows` is set.
    ///
    /// # Errors
    /// `no_such_tensor`; `memory_budget` where a window does not fit a page.
    pub fn tensor_values(&self, index: usize, all_rows: bool) -> Result<Run, JsValue> {
        self.details(measure::tensor_values(&self.checkpoint, index, all_rows))
    }

    /// The error of `encodings`, by name, on the same rows.
    ///
    /// # Errors
    /// `usage` for an unknown encoding; else as [`Model::tensor_values`].
    pub fn tensor_errors(
        &self,
        index: usize,
        encodings: Vec<String>,
        all_rows: bool,
    ) -> Result<Run, JsValue> {
        let encodings: Result<Vec<_>, Error> = encodings.iter().map(|name| Encoding::parse(name)).collect();
        self.details(
            encodings.and_then(|all| measure::tensor_errors(&self.checkpoint, index, &all, all_rows)),
        )
    }

    /// The same encodings on tensor number `index` as stored and under rotations, each named as `sweep --rotate` names
    /// it. `seed` as in [`rotation_options`].
    ///
    /// # Errors
    /// `usage` where a rotation or the seed cannot be parsed; else as [`Model::tensor_values`].
    pub fn rotated(
        &self,
        index: usize,
        rotations: Vec<String>,
        seed: Option<String>,
    ) -> Result<Run, JsValue> {
        let options = seed_or_default(seed).and_then(|seed| preview::parse_rotations(&rotations, seed));
        let preview = options.and_then(|all| preview::tensor_details(&self.checkpoint, index, &all));
        let run = preview
            .and_then(|p| Run::new(p.plan.clone().into(), Purpose::Rotated(Box::new(p)), self.inputs()));
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
        let plan = measure::moments(&self.checkpoint, &|_| true);
        plan.and_then(|plan| Run::new(plan.into(), Purpose::Check { name }, self.inputs())).into_api_result()
    }
}
