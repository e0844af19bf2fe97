//! `eval`: perplexity of a text, and the divergence of a model's outputs from those of a reference.

use super::passes::PassResources;
use crate::exit::no_thread;
use crate::io::source::Source;
use crate::io::token_ids::{self, TokenIds, Wanted};
use crate::options::{EvalOptions, EvalPrecision, ModelPath};
use crate::render::progress::PassProgress;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::vocabulary::{self, ModelVocabulary};
use quantoscope_core::eval::{
    EvalFigures, EvalReport, EvalWindow, HEAD_ROWS, PositionScores, PositionView, Score, WindowOptions,
    windows,
};
use quantoscope_core::model::forward::{Batch, F32, F64, Logits, MatMul};
use quantoscope_core::model::stored_quantization::StoredQuantization;
use quantoscope_core::model_pass::{ModelPass, ModelTensors, of_model};
use quantoscope_core::plan::{Warning, decoded};
use quantoscope_core::report::SCHEMA_VERSION;
use std::thread;
use std::time::Instant;

/// Default number of tokens of a window.
const CONTEXT: usize = 512;

/// A model that is opened.
pub(crate) struct OpenedModel {
    pub source: Source,
    pub tensors: ModelTensors,
}

impl OpenedModel {
    pub(crate) fn open(path: &ModelPath) -> Result<OpenedModel> {
        let source = Source::open_for(path, &decoded::recipe())?;
        source.checkpoint.packing.check()?;
        StoredQuantization::of(&source.checkpoint).check_all()?;
        let tensors = ModelTensors::of(&source.checkpoint).map_err(|e| about(e, path))?;
        tensors.check_runs(&path.to_string_lossy())?;
        Ok(OpenedModel { source, tensors })
    }
}

/// Adds the path of the model to an error: see [`of_model`].
pub(super) fn about(error: Error, path: &ModelPath) -> Error {
    of_model(error, &path.to_string_lossy())
}

/// Evaluates a model.
///
/// # Errors
///
/// Those of opening and reading the models; `unsupported_architecture` if there is no forward pass for one, `unsupported_forward`
/// if its tensors or configuration do not fit the pass, `bad_value` for ids that are not in the vocabulary, `usage` if the
/// context is longer than the model allows or the vocabularies differ, `empty` if there is nothing to predict, `memory_budget` if
/// one window does not fit.
pub fn run(options: &EvalOptions) -> Result<EvalReport> {
    let started = Instant::now();
    let passes = PassResources::new(&options.resources)?;
    let model = OpenedModel::open(&options.input)?;
    let reference = options.against.as_ref().map(OpenedModel::open).transpose()?;
    let config = &model.tensors.config;
    let mut warnings = model.source.checkpoint.warnings.clone();
    if let Some(reference) = &reference {
        warnings.extend(reference.source.checkpoint.warnings.iter().cloned());
        warnings.extend(check_vocabularies(options, &model, reference)?);
    }
    let limit = [Some(&model), reference.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|m| m.tensors.config.positions)
        .min();
    let context = context(options.context, limit)?;
    let wanted = Wanted {
        vocabulary: config.vocab,
        most: options.most.map(|n| needed(n, context, options.llama_windows)),
        bos_of_ids: options.llama_windows,
    };
    let TokenIds { ids, bos } = token_ids::read(&options.tokens, &model.source, wanted)?;
    let cut = WindowOptions { context, tokens: options.most, bos, half: options.llama_windows };
    let windows = windows(&ids, &cut)?;
    let work = Evaluation {
        paths: [Some(&options.input), options.against.as_ref()],
        scored_from: cut.scored_from(),
        progress: passes.progress("Evaluating"),
        passes,
    };
    let scores = match options.precision {
        EvalPrecision::F32 => {
            let matmul = work.passes.threaded(F32(work.passes.kernels));
            work.run(matmul, &model, reference.as_ref(), &windows)?
        }
        EvalPrecision::F64 => work.run(work.passes.threaded(F64), &model, reference.as_ref(), &windows)?,
    };
    work.progress.finish();
    model.source.check_unchanged()?;
    reference.iter().try_for_each(|r| r.source.check_unchanged())?;
    let seconds = started.elapsed().as_secs_f64();
    let models = 1 + usize::from(reference.is_some());
    let read: usize = windows.iter().map(|w| w.input.len() * models).sum();
    Ok(EvalReport {
        schema_version: SCHEMA_VERSION,
        model: options.input.to_string_lossy().into_owned(),
        against: options.against.as_ref().map(|p| p.to_string_lossy().into_owned()),
        architecture: config.model_type.clone(),
        precision: options.precision.name(),
        context: context as u64,
        windows: windows.len() as u64,
        scored: if options.llama_windows { "half" } else { "whole" },
        bos,
        engine: work.passes.kernels.name(),
        threads: work.passes.threads(),
        seconds,
        tokens_per_second: read as f64 / seconds.max(f64::MIN_POSITIVE),
        warnings,
        figures: EvalFigures::of(&scores)?,
        positions: options.per_position.then(|| PositionView::all(&scores)),
    })
}

/// Token ids that `tokens` predicted ones need.
fn needed(tokens: usize, context: usize, half: bool) -> usize {
    if !half {
        return tokens.saturating_add(1);
    }
    let scored = (context - context / 2).saturating_sub(1).max(1);
    (tokens / scored).saturating_mul(context)
}

/// Checks that the models have logits of the same tokens.
fn check_vocabularies(
    options: &EvalOptions,
    ours: &OpenedModel,
    theirs: &OpenedModel,
) -> Result<Option<Warning>> {
    let other = options.against.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let own = options.input.display().to_string();
    let of = |model: &OpenedModel| {
        let json = model.source.read_beside("tokenizer.json")?;
        vocabulary::tokens(&model.source.checkpoint, json.as_deref())
    };
    let same = ours.tensors.config.vocab == theirs.tensors.config.vocab;
    let (a, b) = if same { (of(ours)?, of(theirs)?) } else { (None, None) };
    let model = ModelVocabulary { name: &own, entries: ours.tensors.config.vocab, tokens: a };
    vocabulary::check_vocabularies(
        &model,
        &ModelVocabulary { name: &other, entries: theirs.tensors.config.vocab, tokens: b },
    )
}

/// Tokens of a window: as asked, or what the model allows up to a default.
pub(super) fn context(asked: Option<usize>, limit: Option<usize>) -> Result<usize> {
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
struct Evaluation<'p> {
    /// The paths of the model and of the reference.
    paths: [Option<&'p ModelPath>; 2],
    passes: PassResources,
    scored_from: usize,
    progress: PassProgress,
}

impl Evaluation<'_> {
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
        let what = format!("the vectors of a window of {longest} tokens");
        Ok(windows.chunks(self.passes.fitting(token.saturating_mul(longest), 0, &what)?).collect())
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
        let add = |n| self.progress.add(n);
        let of = |which: usize| {
            let path = self.paths.get(which).copied().flatten();
            move |e: Error| path.map_or(e.clone(), |path| about(e, path))
        };
        let begin = |m: &OpenedModel| ModelPass::batch(&m.tensors, matmul, &batch);
        let mut pass = begin(model).map_err(of(0))?;
        let own = self.passes.runner(&model.source, &add);
        let mut other = match reference {
            Some(r) => Some((begin(r).map_err(of(1))?, self.passes.runner(&r.source, &add))),
            None => None,
        };
        let mut scores: Vec<PositionScores> =
            windows.iter().flat_map(|w| &w.targets).map(|t| PositionScores::new(*t)).collect();
        while let Some(logits) = own.logits(&mut pass).map_err(of(0))? {
            let against = match &mut other {
                Some((pass, runner)) => runner.logits(pass).map_err(of(1))?,
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
        let each = scores.len().div_ceil(self.passes.threads().max(1) as usize).max(1);
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
