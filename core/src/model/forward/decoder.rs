//! The residual stream of some sequences, and the stages that change it. Knows no arithmetic of products.

use super::layer_input::{Ask, LayerTensor, Missing, Received, Step, Weights};
use super::matmul::{Compute, StageWork};
use super::rope::Rope;
use super::{Batch, ForwardSpec, Logits, RowRequest, Section, experts, math, refused, refused_by};
use crate::error::{Error, Result};
use crate::model::arch::module::Module;
use crate::model::arch::{Arch, Prefix};
use crate::model::config::Config;
use crate::model::tensor_id::TensorId;
use crate::tensor::packed::Packed;
use crate::tensor::{Shape, TensorInfo};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// The embedding of a token: an index in [`DecoderState::by_token`].
    Embedding(usize),
    Positions,
    Attention(usize),
    FeedForward(usize),
    Experts(ExpertStage),
    Norm,
    /// Logits of entries of the vocabulary, from this one on.
    Head(usize),
    Done,
}

/// The experts that tokens of a layer chose, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ExpertStage {
    pub layer: usize,
    /// `(expert, [(token, weight)])`
    pub chosen: experts::Chosen,
    /// Index of the next one in `chosen`.
    pub next: usize,
    /// What the experts read.
    pub read: Vec<f64>,
    /// The sum of their outputs so far.
    pub branch: Vec<f64>,
}

/// A decoder and the residual stream of its tokens.
#[derive(Clone, Debug)]
pub(super) struct DecoderState {
    pub config: Config,
    arch: &'static Arch,
    pub spec: ForwardSpec,
    pub shapes: BTreeMap<String, Shape>,
    /// Packed stacks of experts are `[experts, out, in]`, whatever plain ones are.
    pub packed_stacks: bool,
    prefix: Prefix,
    tokens: Vec<u32>,
    /// The tokens of each sequence.
    pub sequences: Vec<Range<usize>>,
    /// The position of each token in its sequence.
    pub positions: Vec<usize>,
    /// Indices of tokens, equal tokens together.
    by_token: Vec<usize>,
    pub rope: Rope,
    /// The frequencies of layers with a sliding window, if they are others.
    pub local_rope: Option<Rope>,
    /// The residual stream, a vector for every token; after the last norm, what the head reads.
    pub stream: Vec<f64>,
    /// What the first branch of a layer made, while the second still reads the stream without it.
    pub waiting: Option<Vec<f64>>,
    /// The first position of each sequence that gets logits.
    scored_from: usize,
    /// Entries of the vocabulary whose logits are made at once.
    head_rows: usize,
    /// The layer before which the pass ends; `None`: it goes on to the logits.
    end: Option<usize>,
    /// The last logits.
    pub logits: Option<Logits>,
    /// Whether inputs of matrices are observed.
    pub observed: bool,
}

/// The name of a tensor in files of this architecture; empty where it has none.
fn name_of(arch: &Arch, prefix: Prefix, layer: Option<usize>, of: LayerTensor) -> String {
    arch.to_hf_under(prefix, tensor_id(layer, of)).unwrap_or_default()
}

fn tensor_id(layer: Option<usize>, of: LayerTensor) -> TensorId {
    let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok());
    TensorId { layer: number(layer), module: of.module, expert: number(of.expert), part: of.part }
}

/// Whether a tensor is a packed stack of experts that a plain checkpoint stores transposed.
fn is_packed_stack(tensor: &TensorInfo) -> bool {
    tensor.packed.as_deref().is_some_and(Packed::is_transposed_stack)
}

/// Whether experts are stacked as in a GGUF.
fn has_gguf_stacks(arch: &Arch, tensors: &[TensorInfo]) -> bool {
    let gates = |t: &TensorInfo| arch.parse_hf(&t.name).is_some_and(|id| id.module == Module::FfnGateExps);
    tensors.iter().any(gates)
}

/// The refusal of a configuration that the family's forward pass does not fit.
fn check_config(config: &Config, spec: &ForwardSpec, batch: &Batch) -> Result<()> {
    let short = |s: &Vec<u32>| s.len() <= batch.scored_from;
    if batch.sequences.is_empty() || batch.sequences.iter().any(short) {
        return Err(refused("a forward pass takes at least one token that is scored".to_string()));
    }
    if let Some(key) = config.unsupported {
        let message =
            format!("the forward pass of {:?} does not support this value of {key}", config.model_type);
        return Err(refused_by(config.places.model_type, message));
    }
    if let Some(token) = batch.sequences.iter().flatten().find(|&&t| t as usize >= config.vocab) {
        let message = format!("token {token} is not in the vocabulary of {}", config.vocab);
        return Err(refused_by(config.places.vocab, message));
    }
    let lacking = spec.latent && config.latent.is_none();
    if lacking || !config.heads.is_multiple_of(config.kv_heads) {
        let message = "config.json: the heads are not those of the family".to_string();
        return Err(refused_by(config.places.kv_heads, message));
    }
    Ok(())
}

impl DecoderState {
    /// A decoder before the first layer.
    pub(super) fn new(config: Config, tensors: &[TensorInfo], batch: &Batch) -> Result<DecoderState> {
        let sequences = &batch.sequences;
        let Some((arch, spec)) = ForwardSpec::of(&config) else {
            let message = format!("there is no forward pass for the family {:?}", config.model_type);
            return Err(refused_by(config.places.model_type, message));
        };
        check_config(&config, &spec, batch)?;
        let shapes: BTreeMap<String, Shape> =
            tensors.iter().map(|t| (t.name.to_string(), t.shape.clone())).collect();
        let arch = arch.gguf_stacks.filter(|of_gguf| has_gguf_stacks(of_gguf, tensors)).unwrap_or(arch);
        let embedding = |prefix: Prefix| name_of(arch, prefix, None, Module::TokenEmbd.into());
        let prefix = arch.prefixes.iter().copied().find(|p| shapes.contains_key(&embedding(*p)));
        let prefix = prefix
            .ok_or_else(|| refused(format!("the checkpoint has no {}", embedding(Prefix::decoder("")))))?;
        let tokens: Vec<u32> = sequences.iter().flatten().copied().collect();
        let mut by_token: Vec<usize> = (0..tokens.len()).collect();
        by_token.sort_by_key(|&i| tokens.get(i).copied());
        let mut end = 0;
        let ranges = sequences.iter().map(|s| {
            let start = end;
            end += s.len();
            start..end
        });
        let decoder = DecoderState {
            rope: Rope::of(&config),
            local_rope: spec.attention.local_rope.then(|| Rope::local(&config)),
            stream: Vec::new(),
            waiting: None,
            sequences: ranges.collect(),
            positions: sequences.iter().flat_map(|s| 0..s.len()).collect(),
            by_token,
            tokens,
            scored_from: batch.scored_from,
            head_rows: batch.head_rows.clamp(1, config.vocab),
            end: None,
            logits: None,
            observed: false,
            config,
            arch,
            spec,
            shapes,
            packed_stacks: tensors.iter().any(is_packed_stack),
            prefix,
        };
        decoder.check_ends()?;
        decoder.with_room()
    }

    /// Makes room for the stream.
    fn with_room(mut self) -> Result<DecoderState> {
        let len = self.tokens.len().checked_mul(self.config.hidden);
        if len.is_none_or(|len| self.stream.try_reserve_exact(len).is_err()) {
            return Err(refused("the residual stream does not fit in memory".to_string()));
        }
        self.stream.resize(len.unwrap_or(0), 0.0);
        Ok(self)
    }

    fn check_ends(&self) -> Result<()> {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        self.expect(&self.top(Module::TokenEmbd), &[vocab, hidden])?;
        self.expect(&self.head(), &[vocab, hidden])?;
        self.norm_asks()?;
        let Some(positions) = self.position_table() else { return Ok(()) };
        let count = self.shapes.get(&positions).map_or(0, Shape::rows);
        let known = count.saturating_sub(self.spec.position_offset as u64);
        if known < self.longest() as u64 {
            return Err(refused(format!("the model knows only {known} positions")).of_tensor(&positions));
        }
        self.expect(&positions, &[count as usize, hidden])
    }

    /// The length of the longest sequence.
    fn longest(&self) -> usize {
        self.sequences.iter().map(Range::len).max().unwrap_or(0)
    }

    /// The name of a tensor of a layer, or of one outside of layers; empty where the architecture has none.
    pub(super) fn name(&self, layer: Option<usize>, of: LayerTensor) -> String {
        let first = name_of(self.arch, self.prefix, layer, of);
        if first.is_empty() || self.shapes.contains_key(&first) {
            return first;
        }
        // Other checkpoints of the architecture have other names for the module.
        let id = tensor_id(layer, of);
        let rows = self.arch.rows().filter(|r| r.module == of.module && r.names_part(id));
        let mut others = rows.filter_map(|r| r.hf_name(self.prefix, id));
        others.find(|name| self.shapes.contains_key(name)).unwrap_or(first)
    }

    /// The name of the weight of a module outside of layers.
    fn top(&self, module: Module) -> String {
        self.name(None, module.into())
    }

    /// The table of positions that is added to the embeddings.
    fn position_table(&self) -> Option<String> {
        Some(self.top(Module::PosEmbd)).filter(|name| !name.is_empty())
    }

    /// The tensor that makes logits: the stored head, or the embedding if they are tied and no head is stored.
    fn head(&self) -> String {
        let rows = self.arch.rows().filter(|r| r.module == Module::Output);
        let mut names = rows.map(|r| format!("{}{}.weight", self.prefix.head, r.tail)).peekable();
        let first = names.peek().cloned();
        let stored = names.find(|name| self.shapes.contains_key(name));
        match stored {
            Some(name) => name,
            None if self.config.tied => self.top(Module::TokenEmbd),
            None => first.unwrap_or_default(),
        }
    }

    /// Refuses a tensor that is missing or has another shape.
    pub(super) fn expect(&self, name: &str, axes: &[usize]) -> Result<()> {
        match self.shapes.get(name) {
            None => Err(missing(name)),
            Some(s) if !s.axes().iter().copied().eq(axes.iter().map(|&a| a as u64)) => {
                let message = format!("its shape is {:?}, and config.json makes it {axes:?}", s.axes());
                Err(refused(message).of_tensor(name))
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) fn whole(&self, name: String) -> RowRequest {
        let rows = self.shapes.get(&name).map_or(0, Shape::rows);
        RowRequest { name, rows: 0..rows }
    }

    /// The tensors that a stage needs.
    pub(super) fn stage_asks(&self, stage: &Stage) -> Result<Vec<Ask>> {
        let one = |name: String, rows: Range<usize>, matrix: bool| {
            let rows = rows.start as u64..rows.end as u64;
            Ok(Vec::from([Ask { request: RowRequest { name, rows }, matrix }]))
        };
        match stage {
            Stage::Embedding(index) => {
                let token = self.token(*index).unwrap_or(0) as usize;
                one(self.top(Module::TokenEmbd), token..token + 1, false)
            }
            Stage::Positions => {
                let first = self.spec.position_offset;
                one(self.position_table().unwrap_or_default(), first..first + self.longest(), false)
            }
            Stage::Attention(layer) => self.mix_asks(*layer),
            Stage::FeedForward(layer) => self.feed_asks(*layer),
            Stage::Experts(stage) => self.expert_asks(stage),
            Stage::Norm => self.norm_asks(),
            Stage::Head(first) => self.head_asks(*first),
            Stage::Done => Ok(Vec::new()),
        }
    }

    /// Runs a stage on what was received; the next stage, or the product that it waits for. Nothing is changed if a product
    /// is missing.
    pub(super) fn run_stage(
        &mut self,
        stage: &mut Stage,
        received: &Received,
        compute: &dyn Compute,
    ) -> Step<Stage> {
        let outside = Weights { layer: None, received, compute };
        let within = |layer: usize| Weights { layer: Some(layer), ..outside };
        match stage {
            Stage::Embedding(index) => Ok(self.embed(*index, received)),
            Stage::Positions => Ok(self.add_positions(received)),
            Stage::Attention(layer) => {
                self.mix(*layer, &within(*layer))?;
                Ok(Stage::FeedForward(*layer))
            }
            Stage::FeedForward(layer) => self.feed_forward(*layer, &within(*layer)),
            Stage::Experts(left) => {
                let layer = left.layer;
                self.next_expert(left, &within(layer))?;
                if left.next < left.chosen.len() {
                    return Ok(Stage::Experts(core::mem::take(left)));
                }
                Ok(self.after(layer))
            }
            Stage::Norm => {
                self.keep_scored();
                self.stream = self.norm(&outside, Module::OutputNorm);
                Ok(Stage::Head(0))
            }
            Stage::Head(first) => self.make_logits(*first, received),
            Stage::Done => Ok(Stage::Done),
        }
    }

    pub(super) fn after(&self, layer: usize) -> Stage {
        self.before(layer + 1)
    }

    /// The stage that begins a layer, or what follows the last one.
    fn before(&self, layer: usize) -> Stage {
        match layer {
            _ if self.end == Some(layer) => Stage::Done,
            _ if layer < self.config.layers => Stage::Attention(layer),
            _ => Stage::Norm,
        }
    }

    /// Limits the pass to a section of the model; the first stage.
    ///
    /// # Errors
    ///
    /// `unsupported_rotation` if the stream is not one of the batch, or there is no such layer.
    pub(super) fn limit(&mut self, section: Section) -> Result<Stage> {
        let refuse = || refused("the section is not one of the model and its tokens".to_string());
        let (layers, values) = (self.config.layers, self.stream.len());
        let begin = |this: &mut DecoderState, stream: Vec<f64>| {
            this.stream = stream;
            this.stream.len() == values
        };
        let (fits, stage) = match section {
            Section::All => return Ok(Stage::Embedding(0)),
            Section::Embedding => {
                self.end = Some(0);
                (true, Stage::Embedding(0))
            }
            Section::Layer(layer, stream) => {
                self.end = layer.checked_add(1);
                (layer < layers && begin(self, stream), Stage::Attention(layer))
            }
            Section::Head(stream) => (begin(self, stream), Stage::Norm),
        };
        if fits { Ok(stage) } else { Err(refuse()) }
    }

    /// The token of an index in the order of equal tokens.
    fn token(&self, index: usize) -> Option<u32> {
        self.tokens.get(*self.by_token.get(index)?).copied()
    }

    /// Puts the embedding of a token wherever it occurs.
    fn embed(&mut self, index: usize, received: &Received) -> Stage {
        let hidden = self.config.hidden;
        let own = if self.spec.scaled_embedding { libm::sqrt(hidden as f64) } else { 1.0 };
        let scale = own * self.config.embedding_multiplier;
        let token = self.token(index);
        let mut next = index;
        while next < self.by_token.len() && self.token(next) == token {
            let place = self.by_token[next] * hidden;
            let values = received.tensors.values().flatten().map(|&v| f64::from(v) * scale);
            self.stream[place..place + hidden].iter_mut().zip(values).for_each(|(s, v)| *s = v);
            next += 1;
        }
        if next < self.by_token.len() {
            Stage::Embedding(next)
        } else if self.position_table().is_some() {
            Stage::Positions
        } else {
            self.before(0)
        }
    }

    fn add_positions(&mut self, received: &Received) -> Stage {
        let hidden = self.config.hidden;
        for table in received.tensors.values() {
            for (vector, &position) in self.stream.chunks_exact_mut(hidden).zip(&self.positions) {
                let of_position = &table[position * hidden..(position + 1) * hidden];
                vector.iter_mut().zip(of_position).for_each(|(s, &p)| *s += f64::from(p));
            }
        }
        self.before(0)
    }

    /// Drops the vectors of positions that get no logits.
    fn keep_scored(&mut self) {
        let (hidden, from) = (self.config.hidden, self.scored_from);
        if from > 0 {
            let vectors = self.stream.chunks_exact(hidden).zip(&self.positions);
            self.stream = vectors.filter(|(_, p)| **p >= from).flat_map(|(v, _)| v).copied().collect();
        }
    }

    fn head_asks(&self, first: usize) -> Result<Vec<Ask>> {
        let (head, end) = (self.head(), self.head_end(first));
        let bias = head.strip_suffix(".weight").map(|name| format!("{name}.bias"));
        let rows = first as u64..end as u64;
        let mut asks = Vec::from([Ask { request: RowRequest { name: head, rows }, matrix: true }]);
        if let Some(bias) = bias.filter(|name| self.shapes.contains_key(name)) {
            self.expect(&bias, &[self.config.vocab])?;
            asks.push(Ask { request: self.whole(bias), matrix: false });
        }
        Ok(asks)
    }

    fn head_end(&self, first: usize) -> usize {
        first.saturating_add(self.head_rows).min(self.config.vocab)
    }

    fn make_logits(&mut self, first: usize, received: &Received) -> Step<Stage> {
        let name = self.head();
        let Some(mut logits) = received.products.get(&name).cloned() else {
            let (x, width) = (self.stream.clone(), self.config.hidden);
            return Err(Missing { name, x, width, by_columns: false, beside: Vec::new() });
        };
        let scaling = self.config.logits_scaling;
        let end = self.head_end(first);
        if let Some(bias) = received.tensors.values().next().and_then(|b| b.get(first..end)) {
            math::add_bias(&mut logits, bias);
        }
        let cap = self.config.logits_softcap;
        let values = logits.iter().map(|x| math::softcap(cap, x / scaling)).collect();
        self.logits = Some(Logits { entries: first..end, values });
        Ok(if end < self.config.vocab { Stage::Head(end) } else { Stage::Done })
    }

    /// The same for each `chunk` of positions of a sequence.
    pub(super) fn by_chunk<const N: usize>(
        &self,
        given: &Weights<'_>,
        chunk: Option<usize>,
        arrays: [(&[f64], usize); N],
        part: impl Fn([&[f64]; N]) -> Vec<f64> + Sync,
    ) -> Vec<f64> {
        let widths = arrays.map(|(_, width)| width);
        self.by_sequence(given, arrays, |values| match chunk {
            None => part(values),
            Some(chunk) => {
                let count = values.first().zip(widths.first()).map_or(0, |(x, w)| x.len() / w.max(&1));
                let starts = (0..count).step_by(chunk.max(1));
                let of = |start: usize| {
                    let end = start.saturating_add(chunk).min(count);
                    let mut widths = widths.iter();
                    part(values.map(|x| {
                        let width = widths.next().copied().unwrap_or(0);
                        &x[start * width..end * width]
                    }))
                };
                starts.flat_map(of).collect()
            }
        })
    }

    /// Runs `part` on the values of each sequence, of arrays with a vector of some width for every token, and joins the results.
    pub(super) fn by_sequence<const N: usize>(
        &self,
        given: &Weights<'_>,
        arrays: [(&[f64], usize); N],
        part: impl Fn([&[f64]; N]) -> Vec<f64> + Sync,
    ) -> Vec<f64> {
        if let [_] = self.sequences.as_slice() {
            return part(arrays.map(|(x, _)| x));
        }
        let part = &part;
        let of = |s: &Range<usize>| -> StageWork<'_> {
            let values = arrays.map(|(x, width)| &x[s.start * width..s.end * width]);
            Box::new(move || part(values))
        };
        given.compute.join(self.sequences.iter().map(of).collect())
    }
}

/// The refusal of a checkpoint that lacks a tensor.
pub(super) fn missing(name: &str) -> Error {
    refused("the forward pass needs this tensor, which is not there".into()).of_tensor(name)
}
