//! Types for a size: what `quantize --target-size` chooses with measured sensitivities.

use crate::api_error::IntoApiResult;
use crate::driver::browser::Watcher;
use crate::driver::watch::Watch;
use crate::forward::sensitivity::errors;
use crate::model::{Model, recipe_from};
use crate::run::{Purpose, Run};
use crate::view::to_js;
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::Checkpoint;
use quantoscope_core::model_pass::ModelTensors;
use quantoscope_core::plan::decoded;
use quantoscope_core::recipe::Recipe;
use quantoscope_core::sensitivity::fit::{SizeLimit, fit};
use quantoscope_core::sensitivity::report::SensitivityReport;
use quantoscope_core::sensitivity::units::{BASE, FreeTypes, free_types};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// A limit of the size.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SizeRequest {
    /// `--target-size`
    Bytes(u64),
    /// `--target-bpw`
    BitsPerWeight(f64),
}

/// Options of a choice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SizedTypesRequest {
    /// The limit.
    size: SizeRequest,
    /// `--types`
    #[serde(default)]
    types: Vec<DType>,
    /// The report of `sensitivity`; without one, damage is guessed by weight errors alone.
    sensitivity: Option<SensitivityReport>,
}

/// The chosen types as a recipe.
#[derive(Serialize)]
struct ChosenTypes {
    /// The recipe: the given one with a type for each free tensor.
    recipe: Recipe,
    /// Bytes of all files together.
    bytes: u64,
    /// The sum of predicted divergences; absent without sensitivities.
    predicted_kl: Option<f64>,
}

/// A choice of types in progress.
#[wasm_bindgen]
pub struct SizedTypes {
    checkpoint: Rc<Checkpoint>,
    recipe: Recipe,
    free: FreeTypes,
    errors: Run,
    limit: SizeLimit,
    sensitivity: Option<SensitivityReport>,
    chosen: RefCell<Option<ChosenTypes>>,
}

#[wasm_bindgen]
impl Model {
    /// Chooses types for a size, as `quantize --target-size --sensitivity` does. `options` is a `SizedTypesRequest`.
    ///
    /// # Errors
    /// As `quantize --target-size` on the command line.
    pub fn types_for_size(&self, recipe: JsValue, options: JsValue) -> Result<SizedTypes, JsValue> {
        SizedTypes::new(self, recipe_from(recipe)?, options).into_api_result()
    }
}

impl SizedTypes {
    fn new(model: &Model, recipe: Recipe, options: JsValue) -> Result<SizedTypes> {
        let options: SizedTypesRequest = serde_wasm_bindgen::from_value(options)
            .map_err(|e| Error::new(Code::Usage, format!("not options of a target size: {e}")))?;
        let limit = match options.size {
            SizeRequest::Bytes(bytes) => SizeLimit::Bytes(bytes),
            SizeRequest::BitsPerWeight(bits) if bits.is_finite() && bits > 0.0 => {
                SizeLimit::BitsPerWeight(bits)
            }
            SizeRequest::BitsPerWeight(_) => {
                return Err(Error::new(Code::Usage, "bits per weight are a positive number"));
            }
        };
        if recipe.dtype.is_some() || recipe.preset.is_some() {
            let message = "a target size chooses the types: the recipe takes neither a type nor a preset";
            return Err(Error::new(Code::Usage, message));
        }
        if options.sensitivity.is_some() && recipe.rotate.is_some() {
            let message = "sensitivities are of the model without a rotation";
            return Err(Error::new(Code::Usage, message));
        }
        if let Some(report) = &options.sensitivity {
            report.check()?;
            let architecture = ModelTensors::of(&*model.prepared(&decoded::recipe())?)?.config.model_type;
            report.check_architecture(&architecture)?;
        }
        let base = options.sensitivity.as_ref().map(|s| s.base);
        let base = base.unwrap_or(BASE);
        let free = free_types(&model.checkpoint, &recipe, None, &options.types, base)?;
        let errors = Run::new(free.errors(&model.checkpoint).into(), Purpose::TensorDetails, model.inputs())?;
        Ok(SizedTypes {
            checkpoint: model.checkpoint.clone(),
            recipe,
            free,
            errors,
            limit,
            sensitivity: options.sensitivity,
            chosen: RefCell::default(),
        })
    }

    async fn driven(&self, watcher: &Watcher) -> Result<()> {
        let mut rows = errors(&self.errors, &self.free, &Watch::of(watcher), watcher).await?;
        if let Some(report) = &self.sensitivity {
            report.apply(&mut rows)?;
        }
        let fitted = fit(&self.checkpoint, &self.recipe, None, &self.free, &rows, self.limit)?;
        let measured = rows.iter().any(|r| r.sensitivity.is_some()) && fitted.damage.is_finite();
        *self.chosen.borrow_mut() = Some(ChosenTypes {
            recipe: fitted.recipe,
            bytes: fitted.bytes,
            predicted_kl: measured.then_some(fitted.damage),
        });
        Ok(())
    }
}

#[wasm_bindgen]
impl SizedTypes {
    /// Measures the errors of all types, and chooses.
    ///
    /// # Errors
    /// `usage` where the size is too small or the sensitivities are of another model; those of files, and `interrupted`.
    pub async fn drive(&self, watcher: Watcher) -> Result<(), JsValue> {
        self.driven(&watcher).await.into_api_result()
    }

    /// The chosen types: see `ChosenTypes`.
    ///
    /// # Errors
    /// `usage` before they are chosen.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        let chosen = self.chosen.borrow();
        let none = || Error::new(Code::Usage, "the types are not chosen yet");
        to_js(chosen.as_ref().ok_or_else(none).into_api_result()?)
    }
}
