//! `sensitivity`: what quantizing each tensor alone does to the output of a model.

use crate::api_error::IntoApiResult;
use crate::driver::browser::Watcher;
use crate::driver::run_loop::{DriveProgress, drive};
use crate::driver::watch::Watch;
use crate::forward::PassModel;
use crate::forward::pass_runner::{PassBreaks, VECTORS, WorkerPass, WorkerPasses};
use crate::forward::tokens::TokenRequest;
use crate::model::Model;
use crate::run::{Purpose, Run};
use crate::view::to_js;
use quantoscope_core::DType;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::{EvalWindow, WindowOptions, windows};
use quantoscope_core::model_pass::of_model;
use quantoscope_core::recipe::{Recipe, TargetName};
use quantoscope_core::sensitivity::groups::{self, UnitGroup};
use quantoscope_core::sensitivity::report::{SensitivityReport, SensitivityRow, VERSION, rank};
use quantoscope_core::sensitivity::units::{BASE, FreeTypes, free_types};
use quantoscope_core::sensitivity::variants::{PassState, Variant, VariantPass};
use serde::Deserialize;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// Default number of tokens.
const TOKENS: usize = 64;

/// Options of `sensitivity`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SensitivityRequest {
    /// `--tokens`
    tokens: Option<usize>,
    /// `--types`
    #[serde(default)]
    types: Vec<DType>,
    /// `--base`
    base: Option<DType>,
    /// `--per`: true for groups, false for tensors; by the cost where it is absent.
    grouped: Option<bool>,
    /// `--allow-requantize`
    #[serde(default)]
    allow_requantize: bool,
}

/// A measurement of sensitivities.
#[wasm_bindgen]
pub struct Sensitivity {
    model: PassModel,
    free: FreeTypes,
    errors: Run,
    window: EvalWindow,
    from: &'static str,
    base: DType,
    grouped: Option<bool>,
    report: RefCell<Option<SensitivityReport>>,
}

#[wasm_bindgen]
impl Model {
    /// Measures the sensitivity of this model to each tensor, as `sensitivity` does. `tokens` is a `TokenRequest`, `options` a
    /// `SensitivityRequest`.
    ///
    /// # Errors
    /// As `sensitivity` on the command line.
    pub fn sensitivity(
        &self,
        name: String,
        tokens: JsValue,
        options: JsValue,
    ) -> Result<Sensitivity, JsValue> {
        Sensitivity::new(self, name, tokens, options).into_api_result()
    }
}

impl Sensitivity {
    fn new(model: &Model, name: String, tokens: JsValue, options: JsValue) -> Result<Sensitivity> {
        let options: SensitivityRequest = serde_wasm_bindgen::from_value(options)
            .map_err(|e| Error::new(Code::Usage, format!("not options of a sensitivity: {e}")))?;
        let recipe =
            Recipe { allow_requantize: options.allow_requantize, ..Recipe::new(TargetName::Gguf, None) };
        let base = options.base.unwrap_or(BASE);
        let free = free_types(&model.checkpoint, &recipe, None, &options.types, base)?;
        let errors = Run::new(free.errors(&model.checkpoint).into(), Purpose::TensorDetails, model.inputs())?;
        let model = PassModel::new(model, name)?;
        model.tensors.check_sensitivity(&model.name)?;
        let asked = options.tokens.unwrap_or(TOKENS);
        let count = model.tensors.config.positions.map_or(asked, |limit| asked.min(limit));
        let found = TokenRequest::parse(tokens)?.ids(&model, count.saturating_add(1))?;
        let cut = WindowOptions { context: count, tokens: Some(count), bos: found.bos, half: false };
        let window = windows(&found.ids, &cut)?.into_iter().next();
        let window = window.ok_or_else(|| Error::new(Code::Empty, "there is no token to predict"))?;
        let report = RefCell::default();
        Ok(Sensitivity {
            model,
            free,
            errors,
            window,
            from: found.from,
            base,
            grouped: options.grouped,
            report,
        })
    }

    async fn driven(&self, watcher: &Watcher) -> Result<()> {
        let watch = Watch::of(watcher);
        let named = self.free.unmeasured();
        let config = &self.model.tensors.config;
        let grouped = self.grouped.unwrap_or_else(|| {
            groups::is_costly(self.model.tensors.weights(), named.len(), self.window.input.len())
        });
        let all: Vec<UnitGroup> = groups::of(&named, config.layers, grouped);
        let tensors = self.free.tensors(&self.model.tensors);
        let variants: Vec<Variant> = all.iter().map(|g| g.variant(&tensors, &named)).collect();
        let measured = self.divergences(&variants, &watch, watcher).await;
        let measured = measured.map_err(|e| of_model(e, &self.model.name))?;
        let mut rows = errors(&self.errors, &self.free, &watch, watcher).await?;
        for (group, kl) in all.iter().zip(measured) {
            group.share(kl, &mut rows);
        }
        rank(&mut rows);
        *self.report.borrow_mut() = Some(SensitivityReport {
            sensitivity_version: VERSION,
            model: self.model.name.clone(),
            architecture: config.model_type.clone(),
            base: self.base,
            tokens: self.window.targets.len() as u64,
            tokens_from: self.from.into(),
            grouped,
            precision: "f32".into(),
            tensors: rows,
        });
        Ok(())
    }

    /// The mean divergence of each variant. After a layer, the worker takes its messages where the last ones are long enough
    /// ago: the state is kept, the pass is left, and then goes on from the state.
    async fn divergences(
        &self,
        variants: &[Variant],
        watch: &Watch,
        watcher: &Watcher,
    ) -> Result<Vec<Option<f64>>> {
        let runner = WorkerPasses::new();
        let (model, window) = (&self.model.tensors, &self.window);
        let pass = VariantPass { model, matmul: runner.matmul(), variants, window, memory: VECTORS };
        let total = pass.weights_read()? as f64;
        let report = |weights: u64| {
            watcher.report((weights as f64).min(total), total, "Measuring sensitivities", false, false);
        };
        let mut turns = PassBreaks::new(watch, &report)?;
        let mut state: Option<PassState> = None;
        loop {
            let mut kept = None;
            let outcome = pass.divergences(
                &mut |pass: &mut WorkerPass| runner.logits(&self.model.files, pass),
                state.take(),
                &mut |state| {
                    if !turns.is_due() || state.is_complete() {
                        return Ok(());
                    }
                    kept = Some(state.clone());
                    Err(Error::new(Code::Interrupted, "a turn of the event loop"))
                },
            );
            match kept {
                Some(kept) => state = Some(kept),
                None => return outcome,
            }
            turns.take(runner.weights()).await?;
        }
    }
}

/// Measures the errors of all types, and returns them without divergences.
pub(super) async fn errors(
    run: &Run,
    free: &FreeTypes,
    watch: &Watch,
    watcher: &Watcher,
) -> Result<Vec<SensitivityRow>> {
    let total = run.total();
    let progress = |p: DriveProgress<'_>| watcher.report(p.done, total, p.label, p.device, p.restarted);
    drive(run, total, run.inputs(), None, watch, &progress).await?;
    Ok(free.rows(run.runner().measurements()))
}

#[wasm_bindgen]
impl Sensitivity {
    /// Measures the divergences of the model's outputs, then the errors of all types.
    ///
    /// # Errors
    /// Those of files and of the pass, `memory_budget` where the tokens do not fit, and `interrupted`.
    pub async fn drive(&self, watcher: Watcher) -> Result<(), JsValue> {
        self.driven(&watcher).await.into_api_result()
    }

    /// The report of `sensitivity`.
    ///
    /// # Errors
    /// `usage` before the measurement is complete.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        let report = self.report.borrow();
        let none = || Error::new(Code::Usage, "the measurement is not complete");
        to_js(report.as_ref().ok_or_else(none).into_api_result()?)
    }
}
