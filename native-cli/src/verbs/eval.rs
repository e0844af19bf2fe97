//! `eval`: perplexity of a text, and the divergence of a model's outputs from those of a reference.

use crate::drive::Resources;
use crate::exit::no_thread;
use crate::forward_pass::{PassRunner, Threaded};
use crate::io::source::Source;
use crate::io::token_ids::{self, TokenIds};
use crate::options::{EvalOptions, EvalPrecision, EvalTokens, ModelPath};
use crate::render::progress::PassProgress;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::{
    EvalFigures, EvalReport, EvalWindow, HEAD_ROWS, PositionScores, PositionView, Score, WindowOptions,
    windows,
};
use quantoscope_core::kernels::Kernels;
use quantoscope_core::model::forward::{Batch, F32, F64, ForwardSpec, Logits, MatMul};
use quantoscope_core::model::stored_quantization::StoredQuantization;
use quantoscope_core::model_pass::{ModelPass, ModelTensors};
use quantoscope_core::plan::decoded;
use quantoscope_core::schedule::Budget;
use std::thread;
use std::time::Instant;

/// Tokens of a window where the user does not say.
const CONTEXT: usize = 512;
/// Memory for each thread where the user does not say.
const MEMORY: u64 = 256 << 20;

/// A model that is opened.
struct OpenedModel {
    source: Source,
    tensors: ModelTensors,
}

impl OpenedModel {
    fn open(path: &ModelPath) -> Result<OpenedModel> {
        let source = Source::open_for(path, &decoded::recipe())?;
        source.checkpoint.packing.check()?;
        StoredQuantization::of(&source.checkpoint).check_all()?;
        let tensors = ModelTensors::of(&source.checkpoint).map_err(|e| about(e, path))?;
        let config = &tensors.config;
        if ForwardSpec::of(config).is_none() {
            let message = format!(
                "{}: there is no forward pass for the architecture {:?}, so the model cannot be evaluated",
                path.display(),
                config.model_type
            );
            return Err(Error::new(Code::UnsupportedArchitecture, message));
        }
        config.check_exact().map_err(|e| about(e, path))?;
        Ok(OpenedModel { source, tensors })
    }
}

/// Codes of the check of rotations, in words of an evaluation.
fn about(error: Error, path: &ModelPath) -> Error {
    match error.code() {
        Code::UnsupportedRotation => {
            let message =
                format!("{}: the model cannot be evaluated: {}", path.display(), error.detail().message);
            error.explained(Code::UnsupportedArchitecture, message)
        }
        _ => error,
    }
}

/// Evaluates a model.
///
/// # Errors
///
/// Those of opening and reading the models; `unsupported_architecture` if there is no forward pass for one, `bad_value` for ids
/// that are not in the vocabulary, `usage` if the context is longer than the model allows or the vocabularies differ, `empty` if
/// there is nothing to predict, `memory_budget` if one window does not fit.
pub fn run(options: &EvalOptions) -> Result<EvalReport> {
    let started = Instant::now();
    let resources = Resources::new(&options.resources)?;
    let model = OpenedModel::open(&options.input)?;
    let reference = options.against.as_ref().map(OpenedModel::open).transpose()?;
    let config = &model.tensors.config;
    if let Some(reference) = &reference {
        check_vocabularies(options, &model, reference)?;
    }
    let TokenIds { ids, bos } = match &options.tokens {
        EvalTokens::Ids(path) => token_ids::ids(path, config.vocab)?,
        EvalTokens::Text(path) => token_ids::text(path, &model.source)?,
    };
    if let Some(id) = ids.iter().chain(&bos).find(|id| **id as usize >= config.vocab) {
        let message = format!("token id {id} is not in the vocabulary of {}", config.vocab);
        return Err(Error::new(Code::BadValue, message));
    }
    let limit = [Some(&model), reference.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|m| m.tensors.config.positions)
        .min();
    let context = context(options.context, limit)?;
    let cut = WindowOptions { context, tokens: options.most, bos, half: options.llama_windows };
    let windows = windows(&ids, &cut)?;
    let memory = options.resources.memory.unwrap_or(MEMORY * u64::from(resources.budget.workers));
    let work = Evaluation {
        kernels: resources.engine.kernels(),
        budget: Budget { memory, workers: resources.budget.workers },
        scored_from: cut.scored_from(),
        progress: PassProgress::new(!options.resources.progress),
    };
    let scores = match options.precision {
        EvalPrecision::F32 => {
            work.run(work.threaded(F32(work.kernels)), &model, reference.as_ref(), &windows)?
        }
        EvalPrecision::F64 => work.run(work.threaded(F64), &model, reference.as_ref(), &windows)?,
    };
    work.progress.finish();
    model.source.check_unchanged()?;
    reference.iter().try_for_each(|r| r.source.check_unchanged())?;
    let seconds = started.elapsed().as_secs_f64();
    let read: usize = windows.iter().map(|w| w.input.len()).sum();
    Ok(EvalReport {
        model: options.input.to_string_lossy().into_owned(),
        against: options.against.as_ref().map(|p| p.to_string_lossy().into_owned()),
        architecture: config.model_type.clone(),
        precision: options.precision.name(),
        context: context as u64,
        windows: windows.len() as u64,
        scored: if options.llama_windows { "half" } else { "whole" },
        bos,
        engine: work.kernels.name(),
        threads: work.budget.workers,
        seconds,
        tokens_per_second: read as f64 / seconds.max(f64::MIN_POSITIVE),
        figures: EvalFigures::of(&scores)?,
        positions: options.per_position.then(|| PositionView::all(&scores)),
    })
}

/// Refuses models whose logits are of different tokens.
fn check_vocabularies(options: &EvalOptions, ours: &OpenedModel, theirs: &OpenedModel) -> Result<()> {
    let (model, reference) = (ours.tensors.config.vocab, theirs.tensors.config.vocab);
    let tokens = |m: &OpenedModel| m.source.checkpoint.metadata.get("tokenizer.ggml.tokens").cloned();
    if model == reference {
        return match (tokens(ours), tokens(theirs)) {
            (Some(a), Some(b)) if a != b => {
                let message =
                    "the vocabularies differ: the tokenizers of the two GGUF files have other tokens";
                Err(Error::new(Code::Usage, message))
            }
            _ => Ok(()),
        };
    }
    let other = options.against.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let message = format!(
        "the vocabularies differ: {} has {model} entries, {other} has {reference}; their distributions cannot be compared",
        options.input.display()
    );
    Err(Error::new(Code::Usage, message))
}

/// Tokens of a window: as asked, or what the model allows up to a default.
fn context(asked: Option<usize>, limit: Option<usize>) -> Result<usize> {
    match (asked, limit) {
        (Some(n), Some(limit)) if n > limit => {
            let message =
                format!("--context {n} is longer than the {limit} positions that the model was made for");
            Err(Error::new(Code::Usage, message))
        }
        (Some(n), _) => Ok(n),
        (None, limit) => Ok(limit.unwrap_or(CONTEXT).min(CONTEXT)),
    }
}

/// How an evaluation is run.
struct Evaluation {
    kernels: &'static dyn Kernels,
    /// All memory, and threads.
    budget: Budget,
    scored_from: usize,
    progress: PassProgress,
}

impl Evaluation {
    fn threaded<M>(&self, matmul: M) -> Threaded<M> {
        Threaded { matmul, kernels: self.kernels, threads: self.budget.workers as usize }
    }

    /// The scores of each window.
    fn run<M: MatMul + Copy + Sync>(
        &self,
        matmul: M,
        model: &OpenedModel,
        reference: Option<&OpenedModel>,
        windows: &[EvalWindow],
    ) -> Result<Vec<Vec<Score>>> {
        let mut scores = Vec::with_capacity(windows.len());
        let rounds = self.rounds(model, reference, windows)?;
        let models = 1 + u64::from(reference.is_some());
        let weights: u64 = model.tensors.weights() * models * rounds.len() as u64;
        self.progress.start(weights);
        for round in rounds {
            scores.extend(self.round(matmul, model, reference, round)?);
        }
        Ok(scores)
    }

    /// Memory for windows of weights.
    fn window_memory(&self) -> u64 {
        self.budget.memory / 4
    }

    /// Windows that fit the memory together.
    fn rounds<'w>(
        &self,
        model: &OpenedModel,
        reference: Option<&OpenedModel>,
        windows: &'w [EvalWindow],
    ) -> Result<Vec<&'w [EvalWindow]>> {
        let each = |m: &OpenedModel| m.tensors.bytes_per_token(HEAD_ROWS);
        // The reference waits before its head while the other model runs.
        let token = each(model).max(reference.map_or(0, each))
            + reference.map_or(0, |r| r.tensors.config.hidden as u64 * 8);
        let longest = windows.iter().map(|w| w.input.len()).max().unwrap_or(1).max(1) as u64;
        let room = self.budget.memory - self.window_memory();
        let fitting = room / token.saturating_mul(longest).max(1);
        if fitting == 0 {
            let message = format!(
                "a window of {longest} tokens needs about {} MiB of --memory; a smaller --context needs less",
                ((token.saturating_mul(longest).saturating_mul(4) / 3) >> 20) + 1
            );
            return Err(Error::new(Code::MemoryBudget, message));
        }
        Ok(windows.chunks(usize::try_from(fitting).unwrap_or(usize::MAX)).collect())
    }

    /// Runs windows through both models together, and scores them part by part of the vocabulary.
    fn round<M: MatMul + Copy + Sync>(
        &self,
        matmul: M,
        model: &OpenedModel,
        reference: Option<&OpenedModel>,
        windows: &[EvalWindow],
    ) -> Result<Vec<Vec<Score>>> {
        let batch = Batch {
            sequences: windows.iter().map(|w| w.input.clone()).collect(),
            scored_from: self.scored_from,
            head_rows: HEAD_ROWS,
        };
        let budget = Budget { memory: self.window_memory(), ..self.budget };
        let add = |n| self.progress.add(n);
        let begin = |m: &OpenedModel| ModelPass::batch(&m.tensors, matmul, &batch);
        let mut pass = begin(model)?;
        let own = PassRunner::new(&model.source, self.kernels, budget, &add);
        let mut other = match reference {
            Some(r) => Some((begin(r)?, PassRunner::new(&r.source, self.kernels, budget, &add))),
            None => None,
        };
        let mut scores: Vec<PositionScores> =
            windows.iter().flat_map(|w| &w.targets).map(|t| PositionScores::new(*t)).collect();
        while let Some(logits) = own.logits(&mut pass)? {
            let against = match &mut other {
                Some((pass, runner)) => runner.logits(pass)?,
                None => None,
            };
            self.score(&mut scores, &logits, against.as_ref())?;
        }
        let mut finished = scores.iter().map(PositionScores::finish);
        let mut take =
            |w: &EvalWindow| finished.by_ref().take(w.targets.len()).collect::<Option<Vec<Score>>>();
        let infinite = || Error::new(Code::NonFinite, "the model's logits are NaN or infinite");
        windows.iter().map(|w| take(w).ok_or_else(infinite)).collect()
    }

    /// Adds logits to the scores, positions spread over the threads.
    fn score(&self, scores: &mut [PositionScores], logits: &Logits, against: Option<&Logits>) -> Result<()> {
        let width = logits.entries.len().max(1);
        if against.is_some_and(|a| a.entries != logits.entries) || logits.values.len() != scores.len() * width
        {
            return Err(Error::new(Code::Io, "the two models made logits of different entries"));
        }
        let each = scores.len().div_ceil(self.budget.workers.max(1) as usize).max(1);
        let add = |first: usize, scores: &mut [PositionScores]| {
            for (position, score) in (first..).zip(scores) {
                let range = position * width..(position + 1) * width;
                match against {
                    Some(a) => {
                        score.add_pair(&logits.entries, &logits.values[range.clone()], &a.values[range])
                    }
                    None => score.add(&logits.entries, &logits.values[range]),
                }
            }
        };
        thread::scope(|scope| {
            for (part, scores) in scores.chunks_mut(each).enumerate() {
                let add = &add;
                let started = thread::Builder::new().spawn_scoped(scope, move || add(part * each, scores));
                started.map_err(|e| no_thread(&e))?;
            }
            Ok(())
        })
    }
}
