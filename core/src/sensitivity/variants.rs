//! The divergence of many variants of a model from the model, in one pass over its layers.
//!
//! A variant is the model with the values of some tensors as another type holds them. Its hidden states begin to differ from
//! those of the model at the first layer with such a tensor: until then there is nothing to compute. From there on the streams
//! of all variants advance layer by layer, as sequences of one batch. Results do not depend on how many of them run together.

use crate::error::{Code, Error, Result};
use crate::eval::scores::PositionScores;
use crate::eval::{EvalWindow, HEAD_ROWS};
use crate::model::forward::{Batch, Logits, MatMul, Section};
use crate::model_pass::{ModelPass, ModelTensors};
use crate::quant::Encoding;
use crate::wire;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A model with some of its tensors encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// The tensors, by the names of [`ModelTensors`], and what they are encoded as.
    pub encodings: BTreeMap<String, Encoding>,
}

/// The variants of a model, and the tokens that run through them.
#[derive(Debug)]
pub struct VariantPass<'a, M> {
    /// The model.
    pub model: &'a ModelTensors,
    /// The arithmetic of products.
    pub matmul: M,
    /// The variants.
    pub variants: &'a [Variant],
    /// The tokens.
    pub window: &'a EvalWindow,
    /// Bytes for streams and the vectors of tokens that run through a layer together.
    pub memory: u64,
}

/// Runs a pass to its next logits; `None` at its end.
pub type RunPass<'r, M> = &'r mut dyn FnMut(&mut ModelPass<M>) -> Result<Option<Logits>>;

/// Saves the state after each layer.
pub type SaveState<'s> = &'s mut dyn FnMut(&PassState) -> Result<()>;

/// A variant whose stream differs from that of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lane {
    /// Index of the variant.
    variant: usize,
    stream: Vec<f64>,
}

/// Progress of a measurement: finished divergences, and the streams before the next layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PassState {
    /// Divergences so far.
    results: Vec<Option<f64>>,
    /// Variants of later rounds.
    waiting: Vec<usize>,
    /// Variants of this round.
    variants: Vec<usize>,
    /// The layer that comes next.
    layer: usize,
    /// The stream of the model before that layer.
    stream: Vec<f64>,
    /// The streams of variants that differ.
    lanes: Vec<Lane>,
}

impl PassState {
    /// The state as bytes.
    ///
    /// # Errors
    ///
    /// Those of [`wire::encode`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        wire::encode(self)
    }

    /// Whether all divergences are known.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.variants.is_empty()
    }

    /// The state of bytes of [`PassState::to_bytes`]; `None` for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<PassState> {
        let state: PassState = wire::decode(bytes).ok()?;
        let count = state.results.len();
        let known = |v: &usize| *v < count;
        let sound = state.waiting.iter().chain(&state.variants).all(known)
            && state.lanes.iter().all(|l| known(&l.variant) && l.stream.len() == state.stream.len());
        sound.then_some(state)
    }
}

/// How many variants are held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Streams that are held between layers.
    pub held: usize,
    /// Streams that run through a layer together.
    pub together: usize,
}

impl<M: MatMul + Copy> VariantPass<'_, M> {
    /// What fits the memory: a quarter of it is for streams, the rest for what runs through a layer.
    ///
    /// # Errors
    ///
    /// `memory_budget` if a stream beside that of the model does not fit.
    pub fn capacity(&self) -> Result<Capacity> {
        let tokens = self.window.input.len() as u64;
        let stream = tokens.saturating_mul(self.model.config.hidden as u64).saturating_mul(8).max(1);
        let running = tokens.saturating_mul(self.model.bytes_per_token(HEAD_ROWS)).max(1);
        let (held, together) = (self.memory / 4 / stream, self.memory / 4 * 3 / running);
        if held < 3 || together < 2 {
            let least = stream.saturating_mul(12).max(running.saturating_mul(8) / 3);
            let message = format!(
                "{tokens} tokens need about {} MiB of --memory; fewer --tokens need less",
                ((least.saturating_mul(4) / 3) >> 20) + 1
            );
            return Err(Error::new(Code::MemoryBudget, message));
        }
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        // Two streams of the model: before a layer and after it.
        Ok(Capacity { held: count(held - 2), together: count(together) })
    }

    /// Mean divergence of each variant from the model, in nats a token; `None` if no pass reads any of its tensors.
    ///
    /// With a state of an earlier run of the same variants and tokens, it goes on from there, whatever memory that run had.
    /// `save` is called with the state after each layer.
    ///
    /// # Errors
    ///
    /// `memory_budget` if the memory is too small, `non_finite` if logits are not finite, and those of the passes.
    pub fn divergences(
        &self,
        run: RunPass<'_, M>,
        earlier: Option<PassState>,
        save: SaveState<'_>,
    ) -> Result<Vec<Option<f64>>> {
        let capacity = self.capacity()?;
        let begin = || PassState {
            results: vec![None; self.variants.len()],
            waiting: (0..self.variants.len()).collect(),
            ..PassState::default()
        };
        let mut state = earlier.filter(|s| s.results.len() == self.variants.len()).unwrap_or_else(begin);
        loop {
            if state.variants.is_empty() {
                let count = capacity.held.max(1).min(state.waiting.len());
                state.variants = state.waiting.drain(..count).collect();
                if state.variants.is_empty() {
                    return Ok(state.results);
                }
            }
            self.round(&mut state, capacity.together, run, save)?;
        }
    }

    /// About the weights that all passes read, if variants are spread evenly over the layers.
    ///
    /// # Errors
    ///
    /// `memory_budget` if the memory is too small.
    pub fn weights_read(&self) -> Result<u64> {
        let Capacity { held, together } = self.capacity()?;
        let (all, layers) = (self.variants.len(), self.model.config.layers.max(1));
        let (rounds, each) = (all.div_ceil(held.max(1)), all.min(held));
        let chunks: usize = (0..layers).map(|l| (each * l / layers).div_ceil(together.max(1))).sum();
        let passes = (rounds * (layers + chunks) + all) as u64;
        Ok((self.model.weights() / layers as u64).saturating_mul(passes))
    }

    fn batch(&self, sequences: usize) -> Batch {
        Batch { sequences: vec![self.window.input.clone(); sequences], scored_from: 0, head_rows: HEAD_ROWS }
    }

    /// Runs a section on the streams of `sequences` sequences; the streams behind it, and the tensors that were read.
    fn section(
        &self,
        model: &ModelTensors,
        sequences: usize,
        section: Section,
        run: RunPass<'_, M>,
    ) -> Result<(Vec<f64>, BTreeSet<String>)> {
        let mut pass = ModelPass::section(model, self.matmul, &self.batch(sequences), section)?;
        while run(&mut pass)?.is_some() {}
        let read = pass.taken().clone();
        Ok((pass.take_stream(), read))
    }

    fn variant(&self, index: usize) -> Result<&Variant> {
        self.variants.get(index).ok_or_else(|| Error::new(Code::Io, "there is no such variant"))
    }

    /// The model with the tensors of a variant encoded.
    fn encoded(&self, index: usize) -> Result<ModelTensors> {
        Ok(self.model.encoded(self.variant(index)?.encodings.clone()))
    }

    /// Whether a variant encodes one of these tensors.
    fn encodes(&self, index: usize, read: &BTreeSet<String>) -> bool {
        self.variants.get(index).is_some_and(|v| v.encodings.keys().any(|name| read.contains(name)))
    }

    /// The variants of a round, from the layer where they are to their divergences.
    fn round(
        &self,
        state: &mut PassState,
        together: usize,
        run: RunPass<'_, M>,
        save: SaveState<'_>,
    ) -> Result<()> {
        if state.stream.is_empty() {
            self.embed(state, run)?;
        }
        while state.layer < self.model.config.layers {
            self.layer(state, together, run)?;
            state.layer += 1;
            save(state)?;
        }
        self.heads(state, together, run)?;
        *state = PassState {
            results: core::mem::take(&mut state.results),
            waiting: core::mem::take(&mut state.waiting),
            ..PassState::default()
        };
        save(state)
    }

    /// Begins the streams of the model and of variants of its embeddings.
    fn embed(&self, state: &mut PassState, run: RunPass<'_, M>) -> Result<()> {
        let (stream, read) = self.section(self.model, 1, Section::Embedding, run)?;
        state.stream = stream;
        for &variant in state.variants.iter().filter(|v| self.encodes(**v, &read)) {
            let (stream, _) = self.section(&self.encoded(variant)?, 1, Section::Embedding, run)?;
            state.lanes.push(Lane { variant, stream });
        }
        Ok(())
    }

    /// Advances all streams by one layer, and begins those of variants of its tensors.
    fn layer(&self, state: &mut PassState, together: usize, run: RunPass<'_, M>) -> Result<()> {
        let layer = state.layer;
        let before = core::mem::take(&mut state.stream);
        let (after, read) = self.section(self.model, 1, Section::Layer(layer, before.clone()), run)?;
        state.stream = after;
        let all = core::mem::take(&mut state.lanes).into_iter();
        let (own, shared): (Vec<Lane>, Vec<Lane>) = all.partition(|lane| self.encodes(lane.variant, &read));
        let known: BTreeSet<usize> = own.iter().chain(&shared).map(|lane| lane.variant).collect();
        state.lanes = self.advance(shared, layer, together, run)?;
        let begins = |v: &&usize| !known.contains(v) && self.encodes(**v, &read);
        let begun = state.variants.iter().filter(begins);
        let begun = begun.map(|&variant| Lane { variant, stream: before.clone() });
        for lane in own.into_iter().chain(begun) {
            let section = Section::Layer(layer, lane.stream);
            let (stream, _) = self.section(&self.encoded(lane.variant)?, 1, section, run)?;
            state.lanes.push(Lane { variant: lane.variant, stream });
        }
        Ok(())
    }

    /// Streams behind a layer in which nothing of their variants is encoded.
    fn advance(
        &self,
        lanes: Vec<Lane>,
        layer: usize,
        together: usize,
        run: RunPass<'_, M>,
    ) -> Result<Vec<Lane>> {
        let mut advanced = Vec::with_capacity(lanes.len());
        let mut waiting = lanes.into_iter().peekable();
        while waiting.peek().is_some() {
            let chunk: Vec<Lane> = waiting.by_ref().take(together.max(1)).collect();
            let streams = chunk.iter().flat_map(|lane| &lane.stream).copied().collect();
            let (streams, _) = self.section(self.model, chunk.len(), Section::Layer(layer, streams), run)?;
            let each = streams.len() / chunk.len().max(1);
            let split = chunk.iter().zip(streams.chunks_exact(each.max(1)));
            advanced.extend(split.map(|(lane, s)| Lane { variant: lane.variant, stream: s.to_vec() }));
        }
        Ok(advanced)
    }

    /// The divergences of the logits from those of the model.
    fn heads(&self, state: &mut PassState, together: usize, run: RunPass<'_, M>) -> Result<()> {
        let (stream, lanes) = (core::mem::take(&mut state.stream), core::mem::take(&mut state.lanes));
        let (variants, results) = (&state.variants, &mut state.results);
        let read = self.head_tensors(&stream, run)?;
        let (own, shared): (Vec<Lane>, Vec<Lane>) =
            lanes.into_iter().partition(|lane| self.encodes(lane.variant, &read));
        let known: BTreeSet<usize> = own.iter().chain(&shared).map(|lane| lane.variant).collect();
        for chunk in shared.chunks(together.saturating_sub(1).max(1)) {
            let streams = stream.iter().chain(chunk.iter().flat_map(|lane| &lane.stream)).copied().collect();
            let mut pass = self.head(self.model, chunk.len() + 1, streams)?;
            let mut scores = vec![self.scores(); chunk.len()];
            while let Some(logits) = run(&mut pass)? {
                let each = logits.values.len() / (chunk.len() + 1);
                let mut parts = logits.values.chunks_exact(each.max(1));
                let reference = parts.next().unwrap_or_default();
                scores.iter_mut().zip(parts).for_each(|(s, part)| add(s, &logits, part, reference));
            }
            for (lane, scores) in chunk.iter().zip(&scores) {
                self.keep(lane.variant, scores, results)?;
            }
        }
        let begins = |v: &&usize| !known.contains(v) && self.encodes(**v, &read);
        let begun = variants.iter().filter(begins).map(|&variant| Lane { variant, stream: stream.clone() });
        for lane in own.into_iter().chain(begun) {
            let mut reference = self.head(self.model, 1, stream.clone())?;
            let mut pass = self.head(&self.encoded(lane.variant)?, 1, lane.stream)?;
            let mut scores = self.scores();
            while let (Some(a), Some(b)) = (run(&mut pass)?, run(&mut reference)?) {
                add(&mut scores, &a, &a.values, &b.values);
            }
            self.keep(lane.variant, &scores, results)?;
        }
        Ok(())
    }

    /// The tensors of the head.
    fn head_tensors(&self, stream: &[f64], run: RunPass<'_, M>) -> Result<BTreeSet<String>> {
        let mut pass = self.head(self.model, 1, stream.to_vec())?;
        run(&mut pass)?;
        Ok(pass.taken().clone())
    }

    fn head(&self, model: &ModelTensors, sequences: usize, streams: Vec<f64>) -> Result<ModelPass<M>> {
        ModelPass::section(model, self.matmul, &self.batch(sequences), Section::Head(streams))
    }

    fn scores(&self) -> Vec<PositionScores> {
        self.window.targets.iter().map(|t| PositionScores::new(*t)).collect()
    }

    /// Keeps the mean divergence of a variant.
    fn keep(&self, variant: usize, scores: &[PositionScores], results: &mut [Option<f64>]) -> Result<()> {
        let mean = mean_divergence(scores).ok_or_else(|| {
            let tensor = self.variants.get(variant).and_then(|v| v.encodings.keys().next());
            let error =
                Error::new(Code::NonFinite, "with this tensor encoded, the logits are NaN or infinite");
            tensor.map_or(error.clone(), |name| error.of_tensor(name))
        })?;
        results.iter_mut().skip(variant).take(1).for_each(|r| *r = Some(mean));
        Ok(())
    }
}

/// Adds the logits of each position.
pub(super) fn add(scores: &mut [PositionScores], logits: &Logits, model: &[f64], reference: &[f64]) {
    let width = logits.entries.len().max(1);
    let rows = model.chunks_exact(width).zip(reference.chunks_exact(width));
    for (score, (model, reference)) in scores.iter_mut().zip(rows) {
        score.add_pair(&logits.entries, model, reference);
    }
}

/// The mean divergence of all positions; `None` if one has none.
pub(super) fn mean_divergence(scores: &[PositionScores]) -> Option<f64> {
    let mut sum = 0.0;
    for score in scores {
        sum += score.finish()?.reference?.kl;
    }
    (!scores.is_empty()).then(|| sum / scores.len() as f64)
}
