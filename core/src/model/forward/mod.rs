//! A small forward pass in binary64: the probe that holds a rotated checkpoint against its source.
//!
//! Sans I/O: [`Forward::row_requests`] names the rows that come next, [`Forward::feed`] takes them, one layer's part at a time,
//! until [`Forward::logits`] is there. Memory is that of the largest part asked for. Nothing here knows rotations,
//! quantization or files, and no pass knows of another: two checkpoints are compared by running two.

mod attention;
mod conv;
mod experts;
mod feed_forward;
mod gated_delta_net;
mod layer;
mod layer_input;
mod math;
mod mla;
mod rope;
pub mod spec;

pub use spec::ForwardSpec;

use crate::error::{Code, Error, Result};
use crate::model::arch::module::Module;
use crate::model::arch::{Arch, Prefix};
use crate::model::config::{CONFIG, Config};
use crate::model::tensor_id::TensorId;
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use layer_input::{LayerTensor, Weights};
use rope::Rope;

/// Rows of a tensor that the pass needs next; a row is the innermost axis, all others are flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRequest {
    /// The tensor.
    pub name: String,
    /// Its rows.
    pub rows: Range<u64>,
}

/// Rows of the head that are asked for at once.
const HEAD_ROWS: u64 = 4096;
/// The most tokens of a pass.
const MOST_TOKENS: usize = 4096;

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Embedding,
    Attention(usize),
    FeedForward(usize),
    /// The experts that tokens of a layer chose: `(expert, [(token, weight)])`, and what they read.
    Experts(usize, experts::Chosen, Vec<f64>),
    Norm,
    Head(u64),
    Done,
}

/// A forward pass on its way.
#[derive(Clone, Debug)]
pub struct Forward {
    config: Config,
    arch: &'static Arch,
    spec: ForwardSpec,
    shapes: BTreeMap<String, Shape>,
    prefix: Prefix,
    tokens: Vec<u32>,
    rope: Rope,
    /// The residual stream, a vector for every token; after the last norm, what the head reads.
    stream: Vec<f64>,
    /// What the first branch of a layer made, while the second still reads the stream without it.
    waiting: Option<Vec<f64>>,
    logits: Vec<f64>,
    stage: Stage,
}

fn refused(message: String) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}

/// A refusal because of what `config.json` says at this offset.
fn refused_by(at: u64, message: String) -> Error {
    refused(message).in_file(CONFIG).at(at)
}

/// The name of a tensor in files of this architecture; empty where it has none.
fn name_of(arch: &Arch, prefix: Prefix, layer: Option<usize>, of: LayerTensor) -> String {
    let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok());
    let id = TensorId { layer: number(layer), module: of.module, expert: number(of.expert), part: of.part };
    arch.to_hf_under(prefix, id).unwrap_or_default()
}

impl Forward {
    /// A pass over `tokens`. Fails where the family is not one that can be run, a token is not in the vocabulary, or a
    /// tensor is missing or has another shape than the configuration says.
    pub fn new(config: Config, tensors: &[TensorInfo], tokens: &[u32]) -> Result<Forward> {
        let Some((arch, spec)) = ForwardSpec::of(&config) else {
            let message = format!("there is no forward pass for the family {:?}", config.model_type);
            return Err(refused_by(config.places.model_type, message));
        };
        if tokens.is_empty() || tokens.len() > MOST_TOKENS {
            return Err(refused(format!("a forward pass takes 1 to {MOST_TOKENS} tokens")));
        }
        if let Some(token) = tokens.iter().find(|&&t| t as usize >= config.vocab) {
            let message = format!("token {token} is not in the vocabulary of {}", config.vocab);
            return Err(refused_by(config.places.vocab, message));
        }
        let lacking = spec.latent && config.latent.is_none();
        if lacking || !config.heads.is_multiple_of(config.kv_heads) {
            let message = "config.json: the heads are not those of the family".to_string();
            return Err(refused_by(config.places.kv_heads, message));
        }
        let shapes: BTreeMap<String, Shape> =
            tensors.iter().map(|t| (t.name.to_string(), t.shape.clone())).collect();
        let embedding = |prefix: Prefix| name_of(arch, prefix, None, Module::TokenEmbd.into());
        let prefix = arch.prefixes.iter().copied().find(|p| shapes.contains_key(&embedding(*p)));
        let prefix = prefix
            .ok_or_else(|| refused(format!("the checkpoint has no {}", embedding(Prefix::decoder("")))))?;
        let mut pass = Forward {
            rope: Rope::of(&config),
            stream: Vec::new(),
            waiting: None,
            logits: Vec::new(),
            stage: Stage::Embedding,
            tokens: tokens.to_vec(),
            config,
            arch,
            spec,
            shapes,
            prefix,
        };
        pass.check_ends()?;
        let count = tokens.len().checked_mul(pass.config.vocab);
        if count.is_none_or(|count| pass.logits.try_reserve_exact(count).is_err()) {
            return Err(refused("the logits do not fit in memory".to_string()));
        }
        pass.logits.resize(count.unwrap_or(0), 0.0);
        Ok(pass)
    }

    fn check_ends(&self) -> Result<()> {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        self.expect(&self.top(Module::TokenEmbd), &[vocab, hidden])?;
        self.expect(&self.head(), &[vocab, hidden])?;
        self.norm_asks()?;
        let Some(positions) = self.positions() else { return Ok(()) };
        let count = self.shapes.get(&positions).map_or(0, Shape::rows);
        if count < self.tokens.len() as u64 {
            return Err(refused(format!("the model knows only {count} positions")).of_tensor(&positions));
        }
        self.expect(&positions, &[count as usize, hidden])
    }

    /// The name of a tensor of a layer, or of one outside of layers; empty where the architecture has none.
    fn name(&self, layer: Option<usize>, of: LayerTensor) -> String {
        name_of(self.arch, self.prefix, layer, of)
    }

    /// The name of the weight of a module outside of layers.
    fn top(&self, module: Module) -> String {
        self.name(None, module.into())
    }

    /// The table of positions that is added to the embeddings.
    fn positions(&self) -> Option<String> {
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
    fn expect(&self, name: &str, axes: &[usize]) -> Result<()> {
        match self.shapes.get(name) {
            None => {
                Err(refused("the forward pass needs this tensor, which is not there".into()).of_tensor(name))
            }
            Some(s) if !s.axes().iter().copied().eq(axes.iter().map(|&a| a as u64)) => {
                let message = format!("its shape is {:?}, and config.json makes it {axes:?}", s.axes());
                Err(refused(message).of_tensor(name))
            }
            Some(_) => Ok(()),
        }
    }

    fn whole(&self, name: String) -> RowRequest {
        let rows = self.shapes.get(&name).map_or(0, Shape::rows);
        RowRequest { name, rows: 0..rows }
    }

    /// The rows that [`Forward::feed`] takes next, in its order; none when the logits are there.
    pub fn row_requests(&self) -> Result<Vec<RowRequest>> {
        Ok(match &self.stage {
            Stage::Embedding => {
                let row = |&t: &u32| RowRequest {
                    name: self.top(Module::TokenEmbd),
                    rows: t.into()..u64::from(t) + 1,
                };
                let rows = 0..self.tokens.len() as u64;
                let positions = self.positions().map(|name| RowRequest { name, rows });
                self.tokens.iter().map(row).chain(positions).collect()
            }
            Stage::Attention(layer) => self.mix_asks(*layer)?,
            Stage::FeedForward(layer) => self.feed_asks(*layer)?,
            Stage::Experts(layer, chosen, _) => self.expert_asks(*layer, chosen)?,
            Stage::Norm => self.norm_asks()?,
            Stage::Head(row) => {
                let end = (row + HEAD_ROWS).min(self.config.vocab as u64);
                vec![RowRequest { name: self.head(), rows: *row..end }]
            }
            Stage::Done => Vec::new(),
        })
    }

    /// Goes on with the values of what was asked for.
    pub fn feed(&mut self, values: &[Vec<f32>]) -> Result<()> {
        let asks = self.row_requests()?;
        let right = asks.len() == values.len()
            && asks.iter().zip(values).all(|(a, v)| self.count(a) == Some(v.len() as u64));
        if !right {
            return Err(Error::new(Code::Io, "the forward pass was given other values than it asked for"));
        }
        let stage = core::mem::replace(&mut self.stage, Stage::Done);
        self.stage = match stage {
            Stage::Embedding => {
                self.embed(values);
                Stage::Attention(0)
            }
            Stage::Attention(layer) => {
                self.mix(layer, &Weights::new(Some(layer), &asks, values));
                Stage::FeedForward(layer)
            }
            Stage::FeedForward(layer) => self.feed_forward(layer, &Weights::new(Some(layer), &asks, values)),
            Stage::Experts(layer, chosen, read) => {
                if let Some(experts) = &self.spec.experts {
                    let given = Weights::new(Some(layer), &asks, values);
                    self.add(&self.expert_branch(experts, &chosen, &given, &read));
                }
                self.after(layer)
            }
            Stage::Norm => {
                let given = Weights::new(None, &asks, values);
                self.stream = self.norm(&given, Module::OutputNorm);
                Stage::Head(0)
            }
            Stage::Head(row) => self.make_logits(row, values),
            Stage::Done => Stage::Done,
        };
        Ok(())
    }

    fn count(&self, ask: &RowRequest) -> Option<u64> {
        self.shapes.get(&ask.name)?.cols().checked_mul(ask.rows.end - ask.rows.start)
    }

    fn after(&self, layer: usize) -> Stage {
        if layer + 1 < self.config.layers { Stage::Attention(layer + 1) } else { Stage::Norm }
    }

    fn embed(&mut self, rows: &[Vec<f32>]) {
        let own = if self.spec.scaled_embedding { libm::sqrt(self.config.hidden as f64) } else { 1.0 };
        let scale = own * self.config.embedding_multiplier;
        let (rows, positions) = rows.split_at(self.tokens.len());
        self.stream = rows.iter().flatten().map(|&v| f64::from(v) * scale).collect();
        self.stream.iter_mut().zip(positions.iter().flatten()).for_each(|(s, &p)| *s += f64::from(p));
    }

    fn make_logits(&mut self, row: u64, values: &[Vec<f32>]) -> Stage {
        let (hidden, vocab) = (self.config.hidden, self.config.vocab);
        let Some(matrix) = values.first() else { return Stage::Done };
        let part = math::product(&self.stream, hidden, matrix);
        let count = matrix.len() / hidden;
        for (logits, part) in self.logits.chunks_exact_mut(vocab).zip(part.chunks_exact(count)) {
            for (logit, x) in logits[row as usize..][..count].iter_mut().zip(part) {
                *logit = x / self.config.logits_scaling;
            }
        }
        let next = row + count as u64;
        if next < vocab as u64 { Stage::Head(next) } else { Stage::Done }
    }

    /// Whether the logits are there.
    pub fn done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The logits: for every token, one number an entry of the vocabulary. Zeros until [`Forward::done`].
    pub fn logits(&self) -> &[f64] {
        &self.logits
    }
}
