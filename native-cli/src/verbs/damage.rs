//! What quantization does to the output of a model: passes of the model and of its variants, on a few tokens.

use super::convert::fingerprint;
use super::eval::OpenedModel;
use super::measure::{MeasureOptions, measure};
use super::passes::{MEMORY, PassResources};
use crate::forward_pass::Threaded;
use crate::io::source::Source;
use crate::io::stream_journal::StreamJournal;
use crate::io::token_ids::{self, TokenIds, Wanted};
use crate::options::{
    CalibrationOptions, CalibrationTokens, EvalTokens, MeasureGrouping, ModelPath, ResourceOptions,
};
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::eval::{EvalWindow, WindowOptions, windows};
use quantoscope_core::model::forward::F32;
use quantoscope_core::model_pass::{ModelPass, ModelTensors};
use quantoscope_core::sensitivity::divergence::divergence;
use quantoscope_core::sensitivity::groups::{self, UnitGroup};
use quantoscope_core::sensitivity::report::{SensitivityRow, rank};
use quantoscope_core::sensitivity::tokens;
use quantoscope_core::sensitivity::units::FreeTypes;
use quantoscope_core::sensitivity::variants::{Variant, VariantPass};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A pass in binary32 by the engine's kernels.
type Pass = ModelPass<Threaded<F32<'static>>>;

/// Opens a model whose output is measured with its tensors quantized.
pub(super) fn open(path: &ModelPath) -> Result<OpenedModel> {
    let model = OpenedModel::open(path)?;
    model.tensors.check_sensitivity(&path.to_string_lossy())?;
    Ok(model)
}

/// The tokens of a measurement.
pub(super) struct CalibrationWindow {
    pub window: EvalWindow,
    /// `text`, `ids` or `seeded`.
    pub from: &'static str,
}

/// The tokens that options name: one window without any context.
pub(super) fn calibration(options: &CalibrationOptions, model: &OpenedModel) -> Result<CalibrationWindow> {
    let config = &model.tensors.config;
    let count = config.positions.map_or(options.count, |limit| options.count.min(limit));
    let wanted = Wanted { vocabulary: config.vocab, most: Some(count.saturating_add(1)), bos_of_ids: false };
    let read = |tokens| token_ids::read(&tokens, &model.source, wanted);
    let (TokenIds { ids, bos }, from) = match &options.tokens {
        CalibrationTokens::Text(path) => (read(EvalTokens::Text(path.clone()))?, "text"),
        CalibrationTokens::Ids(path) => (read(EvalTokens::Ids(path.clone()))?, "ids"),
        CalibrationTokens::Seeded(seed) => {
            let (bos, special) = token_ids::special(&model.source);
            let ids = tokens::draw(count.saturating_add(1), config.vocab, &special, *seed);
            (TokenIds { ids, bos }, "seeded")
        }
    };
    let cut = WindowOptions { context: count, tokens: Some(count), bos, half: false };
    let window = windows(&ids, &cut)?.into_iter().next();
    let window = window.ok_or_else(|| Error::new(Code::Empty, "there is no token to predict"))?;
    Ok(CalibrationWindow { window, from })
}

impl PassResources {
    fn matmul(&self) -> Threaded<F32<'static>> {
        self.threaded(F32(self.kernels))
    }

    /// The mean divergence of `model` from `reference`, in nats a token.
    pub(super) fn divergence(
        &self,
        model: (&Source, &ModelTensors),
        reference: (&Source, &ModelTensors),
        window: &EvalWindow,
    ) -> Result<f64> {
        let progress = self.progress("Measuring");
        progress.start(model.1.weights().saturating_mul(2));
        let add = |n| progress.add(n);
        let own = self.runner(model.0, &add);
        let other = self.runner(reference.0, &add);
        let mean = divergence(
            (model.1, &mut |pass: &mut Pass| own.logits(pass)),
            (reference.1, &mut |pass: &mut Pass| other.logits(pass)),
            self.matmul(),
            window,
        );
        progress.finish();
        mean
    }

    /// The mean divergence of each variant. With a journal, a run that was stopped goes on.
    fn divergences(
        &self,
        source: &Source,
        model: &ModelTensors,
        variants: &[Variant],
        window: &EvalWindow,
        mut journal: Option<&mut StreamJournal>,
    ) -> Result<Vec<Option<f64>>> {
        let progress = self.progress("Measuring");
        let memory = self.room();
        let pass = VariantPass { model, matmul: self.matmul(), variants, window, memory };
        progress.start(pass.weights_read()?);
        let add = |n| progress.add(n);
        let runner = self.runner(source, &add);
        let earlier = journal.as_mut().and_then(|j| j.take_state());
        let results = pass.divergences(&mut |pass: &mut Pass| runner.logits(pass), earlier, &mut |state| {
            journal.as_mut().map_or(Ok(()), |j| j.save(state))
        });
        progress.finish();
        results
    }
}

/// What a measurement is made of.
pub(super) struct SensitivityWork<'a> {
    /// The source of the plan of `free`.
    pub source: &'a Source,
    pub free: &'a FreeTypes,
    pub journal: Option<&'a Path>,
    pub resources: &'a ResourceOptions,
}

impl SensitivityWork<'_> {
    /// The errors of all types, without divergences.
    pub(super) fn errors(&self) -> Result<Vec<SensitivityRow>> {
        let plan = self.free.errors(&self.source.checkpoint);
        let mut resources = self.resources.clone();
        if self.free.plan.conversion.as_ref().is_some_and(|c| c.rotation.is_some()) {
            // Windows of rotated tensors hold whole columns.
            resources.memory.get_or_insert(MEMORY);
        }
        let options =
            MeasureOptions { resources: &resources, journal: self.journal, verb: "Measuring errors" };
        Ok(self.free.rows(&measure(&plan, &[self.source], &options)?))
    }

    /// Measures the divergence of each unit or group of units of a model, which is read from `source`, then the errors of all
    /// types. True if divergences were measured in groups.
    pub(super) fn measure(
        &self,
        source: &Source,
        model: &ModelTensors,
        window: &EvalWindow,
        grouping: MeasureGrouping,
    ) -> Result<(Vec<SensitivityRow>, bool)> {
        let named = self.free.unmeasured();
        let grouped = match grouping {
            MeasureGrouping::Auto => groups::is_costly(model.weights(), named.len(), window.input.len()),
            MeasureGrouping::Tensor => false,
            MeasureGrouping::Group => true,
        };
        let all: Vec<UnitGroup> = groups::of(&named, model.config.layers, grouped);
        let tensors = self.free.tensors(model);
        let variants: Vec<Variant> = all.iter().map(|g| g.variant(&tensors, &named)).collect();
        let passes = PassResources::new(self.resources)?;
        let mut journal = match self.journal {
            Some(path) => Some(StreamJournal::open(path, &self.digest(&variants, window)?)?),
            None => None,
        };
        let measured = passes.divergences(source, model, &variants, window, journal.as_mut())?;
        let mut rows = self.errors()?;
        for (group, kl) in all.iter().zip(measured) {
            group.share(kl, &mut rows);
        }
        rank(&mut rows);
        journal.map_or(Ok(()), StreamJournal::remove)?;
        Ok((rows, grouped))
    }

    /// A digest of everything that divergences depend on.
    fn digest(&self, variants: &[Variant], window: &EvalWindow) -> Result<[u8; 32]> {
        let plan = self.free.errors(&self.source.checkpoint);
        let mut hash = Sha256::new();
        hash.update(fingerprint(&[self.source], &plan)?);
        hash.update(format!("{variants:?} {window:?}"));
        Ok(hash.finalize().into())
    }
}
