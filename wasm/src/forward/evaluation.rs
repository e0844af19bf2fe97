//! `eval`: perplexity of token ids, and the divergence of a model's outputs from those of a reference.

use crate::api_error::IntoApiResult;
use crate::driver::browser::{Watcher, now};
use crate::driver::watch::Watch;
use crate::forward::PassModel;
use crate::forward::pass_runner::{PassBreaks, VECTORS, WorkerPass, WorkerPasses};
use crate::forward::tokens::TokenRequest;
use crate::model::Model;
use crate::view::to_js;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::vocabulary::{self, ModelVocabulary};
use quantoscope_core::eval::{
    EvalFigures, EvalReport, EvalWindow, HEAD_ROWS, PositionScores, PositionView, Score, WindowOptions,
    windows,
};
use quantoscope_core::model::forward::{Batch, Logits};
use quantoscope_core::model_pass::{ModelPass, of_model};
use quantoscope_core::plan::Warning;
use quantoscope_core::report::SCHEMA_VERSION;
use serde::Deserialize;
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

/// Default number of tokens of a window.
const CONTEXT: usize = 512;

/// Options of `eval`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EvaluationRequest {
    /// `--context`
    context: Option<usize>,
    /// `--tokens`
    tokens: Option<usize>,
    /// `--per-position`
    #[serde(default)]
    per_position: bool,
}

/// An evaluation of a model, alone or against a reference.
#[wasm_bindgen]
pub struct EvaluationRun {
    model: PassModel,
    reference: Option<PassModel>,
    windows: Vec<EvalWindow>,
    context: usize,
    bos: Option<u32>,
    per_position: bool,
    /// Tokens that the two models do not share.
    other_tokens: Option<Warning>,
    report: RefCell<Option<EvalReport>>,
}

#[wasm_bindgen]
impl Model {
    /// Evaluates this model on token ids, as `eval` does. `tokens` is a `TokenRequest`, `options` an `EvaluationRequest`.
    ///
    /// # Errors
    /// As `eval` on the command line.
    pub fn evaluate(
        &self,
        name: String,
        reference: Option<ReferenceModel>,
        tokens: JsValue,
        options: JsValue,
    ) -> Result<EvaluationRun, JsValue> {
        EvaluationRun::new(PassModel::new(self, name), reference, tokens, options).into_api_result()
    }

    /// This model as the reference of [`Model::evaluate`].
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    pub fn as_reference(&self, name: String) -> Result<ReferenceModel, JsValue> {
        Ok(ReferenceModel(PassModel::new(self, name).into_api_result()?))
    }
}

/// The reference of an evaluation.
#[wasm_bindgen]
pub struct ReferenceModel(PassModel);

impl EvaluationRun {
    fn new(
        model: Result<PassModel>,
        reference: Option<ReferenceModel>,
        tokens: JsValue,
        options: JsValue,
    ) -> Result<EvaluationRun> {
        let (model, reference) = (model?, reference.map(|r| r.0));
        let options: EvaluationRequest = serde_wasm_bindgen::from_value(options)
            .map_err(|e| Error::new(Code::Usage, format!("not options of an evaluation: {e}")))?;
        let other_tokens = reference.as_ref().map(|other| check_tokens(&model, other)).transpose()?.flatten();
        let limits = [Some(&model), reference.as_ref()].into_iter().flatten();
        let limit = limits.filter_map(|m| m.tensors.config.positions).min();
        let context = match (options.context, limit) {
            (Some(n), Some(limit)) if n > limit => {
                let message = format!(
                    "a context of {n} is longer than the {limit} positions that the model was made for"
                );
                return Err(Error::new(Code::Usage, message));
            }
            (Some(n), _) => n,
            (None, limit) => limit.unwrap_or(CONTEXT).min(CONTEXT),
        };
        let count = options.tokens.unwrap_or(context).saturating_add(1);
        let found = TokenRequest::parse(tokens)?.ids(&model, count)?;
        let cut = WindowOptions { context, tokens: options.tokens, bos: found.bos, half: false };
        Ok(EvaluationRun {
            windows: windows(&found.ids, &cut)?,
            context,
            bos: found.bos,
            per_position: options.per_position,
            other_tokens,
            model,
            reference,
            report: RefCell::default(),
        })
    }

    /// Windows that fit the memory together.
    fn rounds(&self) -> Result<Vec<&[EvalWindow]>> {
        let each = |m: &PassModel| m.tensors.bytes_per_token(HEAD_ROWS);
        // The reference waits before its head while the other model runs.
        let waiting = self.reference.as_ref().map_or(0, |r| r.tensors.config.hidden as u64 * 8);
        let token = each(&self.model).max(self.reference.as_ref().map_or(0, each)).saturating_add(waiting);
        let longest = self.windows.iter().map(|w| w.input.len()).max().unwrap_or(1).max(1) as u64;
        let fitting = VECTORS / token.saturating_mul(longest).max(1);
        if fitting == 0 {
            let message = format!(
                "a window of {longest} tokens does not fit the memory of a page; a smaller context does"
            );
            return Err(Error::new(Code::MemoryBudget, message));
        }
        Ok(self.windows.chunks(usize::try_from(fitting).unwrap_or(usize::MAX)).collect())
    }

    async fn scores(&self, watch: &Watch, watcher: &Watcher) -> Result<Vec<Vec<Score>>> {
        let rounds = self.rounds()?;
        let each = |m: &PassModel| m.tensors.weights();
        let models = each(&self.model).saturating_add(self.reference.as_ref().map_or(0, each));
        let total = models.saturating_mul(rounds.len() as u64) as f64;
        let report = |weights: u64| watcher.report(weights as f64, total, "Evaluating", false, false);
        let (runner, mut turns) = (WorkerPasses::new(), PassBreaks::new(watch, &report)?);
        let mut scores = Vec::with_capacity(self.windows.len());
        for round in rounds {
            scores.extend(self.round(round, &runner, &mut turns).await?);
        }
        Ok(scores)
    }

    /// Runs windows through both models together, and scores them part by part of the vocabulary.
    async fn round(
        &self,
        windows: &[EvalWindow],
        runner: &WorkerPasses,
        turns: &mut PassBreaks<'_>,
    ) -> Result<Vec<Vec<Score>>> {
        let batch = Batch {
            sequences: windows.iter().map(|w| w.input.clone()).collect(),
            scored_from: 0,
            head_rows: HEAD_ROWS,
        };
        let begin = |m: &PassModel| -> Result<WorkerPass> {
            ModelPass::batch(&m.tensors, runner.matmul(), &batch).map_err(|e| of_model(e, &m.name))
        };
        let mut pass = begin(&self.model)?;
        let mut other = self.reference.as_ref().map(|r| Ok::<_, Error>((begin(r)?, r))).transpose()?;
        let mut scores: Vec<PositionScores> =
            windows.iter().flat_map(|w| &w.targets).map(|t| PositionScores::new(*t)).collect();
        let own = &self.model;
        loop {
            let logits = runner.logits_in_turns(&own.files, &mut pass, turns).await;
            let Some(logits) = logits.map_err(|e| of_model(e, &own.name))? else { break };
            let against = match &mut other {
                Some((pass, model)) => {
                    let logits = runner.logits_in_turns(&model.files, pass, turns).await;
                    logits.map_err(|e| of_model(e, &model.name))?
                }
                None => None,
            };
            add(&mut scores, &logits, against.as_ref())?;
        }
        let mut finished = scores.iter().map(PositionScores::finish);
        let mut take =
            |w: &EvalWindow| finished.by_ref().take(w.targets.len()).collect::<Option<Vec<Score>>>();
        let infinite = || Error::new(Code::NonFinite, "the model's logits are NaN or infinite");
        windows.iter().map(|w| take(w).ok_or_else(infinite)).collect()
    }

    async fn driven(&self, watcher: &Watcher) -> Result<()> {
        let begun = now();
        let scores = self.scores(&Watch::of(watcher), watcher).await?;
        let seconds = (now() - begun) / 1000.0;
        let models = 1 + usize::from(self.reference.is_some());
        let read = models * self.windows.iter().map(|w| w.input.len()).sum::<usize>();
        let mut warnings = self.model.checkpoint.warnings.clone();
        warnings.extend(self.reference.iter().flat_map(|r| r.checkpoint.warnings.iter().cloned()));
        warnings.extend(self.other_tokens.clone());
        *self.report.borrow_mut() = Some(EvalReport {
            schema_version: SCHEMA_VERSION,
            model: self.model.name.clone(),
            against: self.reference.as_ref().map(|r| r.name.clone()),
            architecture: self.model.tensors.config.model_type.clone(),
            precision: "f32",
            context: self.context as u64,
            windows: self.windows.len() as u64,
            scored: "whole",
            bos: self.bos,
            engine: WorkerPasses::new().engine(),
            threads: 1,
            seconds,
            tokens_per_second: read as f64 / seconds.max(f64::MIN_POSITIVE),
            warnings,
            figures: EvalFigures::of(&scores)?,
            positions: self.per_position.then(|| PositionView::all(&scores)),
        });
        Ok(())
    }
}

/// Checks that the models have logits of the same tokens. A warning if few differ.
fn check_tokens(model: &PassModel, reference: &PassModel) -> Result<Option<Warning>> {
    let same = model.tensors.config.vocab == reference.tensors.config.vocab;
    let of = |m: &PassModel| {
        let json = m.checkpoint.companion_files.get("tokenizer.json");
        if same { vocabulary::tokens(&m.checkpoint, json) } else { Ok(None) }
    };
    let (ours, theirs) = (of(model)?, of(reference)?);
    let model = ModelVocabulary { name: &model.name, entries: model.tensors.config.vocab, tokens: ours };
    let other =
        ModelVocabulary { name: &reference.name, entries: reference.tensors.config.vocab, tokens: theirs };
    vocabulary::check_vocabularies(&model, &other)
}

/// Adds the logits of each position.
fn add(scores: &mut [PositionScores], logits: &Logits, against: Option<&Logits>) -> Result<()> {
    let width = logits.entries.len().max(1);
    if against.is_some_and(|a| a.entries != logits.entries) || logits.values.len() != scores.len() * width {
        return Err(Error::new(Code::Io, "the two models made logits of different entries"));
    }
    for (position, (score, own)) in scores.iter_mut().zip(logits.values.chunks_exact(width)).enumerate() {
        match against.and_then(|a| a.values.chunks_exact(width).nth(position)) {
            Some(other) => score.add_pair(&logits.entries, own, other),
            None => score.add(&logits.entries, own),
        }
    }
    Ok(())
}

#[wasm_bindgen]
impl EvaluationRun {
    /// Runs the model, and the reference beside it.
    ///
    /// # Errors
    /// Those of files and of the pass, and `interrupted`.
    pub async fn drive(&self, watcher: Watcher) -> Result<(), JsValue> {
        self.driven(&watcher).await.into_api_result()
    }

    /// The report of `eval`.
    ///
    /// # Errors
    /// `usage` before the evaluation is complete.
    pub fn report(&self) -> Result<JsValue, JsValue> {
        let report = self.report.borrow();
        let none = || Error::new(Code::Usage, "the evaluation is not complete");
        to_js(report.as_ref().ok_or_else(none).into_api_result()?)
    }
}
