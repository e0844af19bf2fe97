//! A small forward pass in binary64: the probe that holds a rotated checkpoint against its source.
//!
//! Sans I/O: [`Forward::request`] names the tensor that comes next, and [`Forward::feed`] takes its values in parts of any size,
//! until [`Forward::logits`] is complete. Matrices are not kept: each part is multiplied as it arrives, so memory is that of
//! vectors and activations. Knows no rotations, quantization or files.

#![expect(
    clippy::indexing_slicing,
    reason = "shapes of matrices and vectors are checked against the configuration before the pass"
)]

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
use crate::tensor::packed::Packed;
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use layer_input::{Ask, LayerTensor, Missing, Received, Step, Weights};
use math::Product;
use rope::Rope;

/// Rows of a tensor that the pass needs next. A row is the innermost axis; all others are flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRequest {
    /// The tensor.
    pub name: String,
    /// Its rows.
    pub rows: Range<u64>,
}

/// The most tokens of a pass.
const MOST_TOKENS: usize = 4096;

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// The embedding of a token.
    Embedding(usize),
    Positions,
    Attention(usize),
    FeedForward(usize),
    Experts(ExpertStage),
    Norm,
    Head,
    Done,
}

/// The experts that tokens of a layer chose, one after the other.
#[derive(Clone, Debug, PartialEq)]
struct ExpertStage {
    layer: usize,
    /// `(expert, [(token, weight)])`
    chosen: experts::Chosen,
    /// Index of the next one in `chosen`.
    next: usize,
    /// What the experts read.
    read: Vec<f64>,
    /// The sum of their outputs so far.
    branch: Vec<f64>,
}

/// The tensor that arrives, and what becomes of it.
#[derive(Clone, Debug, PartialEq)]
struct Arrival {
    request: RowRequest,
    cols: u64,
    /// The row and the column that come next, relative to the request.
    row: u64,
    col: u64,
    target: ArrivalTarget,
}

#[derive(Clone, Debug, PartialEq)]
enum ArrivalTarget {
    /// All values are kept.
    Tensor(Vec<f32>),
    Product(Product),
}

impl Arrival {
    fn height(&self) -> u64 {
        self.request.rows.end - self.request.rows.start
    }

    /// Takes a part; whether the tensor is complete then. `None` if it is not the part that comes next.
    fn take(&mut self, rows: Range<u64>, cols: Range<u64>, values: &[u8]) -> Option<bool> {
        let (height, width) = (rows.end.checked_sub(rows.start)?, cols.end.checked_sub(cols.start)?);
        let inside = rows.end <= self.height() && cols.end <= self.cols && height > 0 && width > 0;
        let bytes = height.checked_mul(width)?.checked_mul(4)?;
        if !inside || rows.start != self.row || cols.start != self.col || bytes != values.len() as u64 {
            return None;
        }
        let last = cols.end == self.cols;
        (self.row, self.col) = if last { (rows.end, 0) } else { (rows.start, cols.end) };
        let index = |r: Range<u64>| Some(usize::try_from(r.start).ok()?..usize::try_from(r.end).ok()?);
        let (rows, cols) = (index(rows)?, index(cols)?);
        match &mut self.target {
            ArrivalTarget::Product(product) => product.add(rows, cols, values),
            ArrivalTarget::Tensor(all) => {
                let wide = usize::try_from(self.cols).ok()?;
                all.resize(rows.end.checked_mul(wide)?, 0.0);
                let parts = values.chunks_exact(cols.len().checked_mul(4)?);
                for (row, part) in all.chunks_exact_mut(wide).skip(rows.start).zip(parts) {
                    let floats = part.as_chunks::<4>().0;
                    let row = row.get_mut(cols.clone())?;
                    row.iter_mut().zip(floats).for_each(|(to, b)| *to = f32::from_le_bytes(*b));
                }
            }
        }
        Some(self.row == self.height())
    }
}

/// A forward pass on its way.
#[derive(Clone, Debug)]
pub struct Forward {
    config: Config,
    arch: &'static Arch,
    spec: ForwardSpec,
    shapes: BTreeMap<String, Shape>,
    /// Packed stacks of experts are `[experts, out, in]`, whatever plain ones are.
    packed_stacks: bool,
    prefix: Prefix,
    tokens: Vec<u32>,
    rope: Rope,
    /// The residual stream, a vector for every token; after the last norm, what the head reads.
    stream: Vec<f64>,
    /// What the first branch of a layer made, while the second still reads the stream without it.
    waiting: Option<Vec<f64>>,
    logits: Vec<f64>,
    stage: Stage,
    /// The tensors that the stage needs.
    asks: Vec<Ask>,
    received: Received,
    arriving: Option<Arrival>,
}

/// Whether a tensor is a packed stack of experts that a plain checkpoint stores transposed.
fn is_packed_stack(tensor: &TensorInfo) -> bool {
    tensor.packed.as_deref().is_some_and(Packed::is_transposed_stack)
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
            stage: Stage::Embedding(0),
            asks: Vec::new(),
            received: Received::default(),
            arriving: None,
            tokens: tokens.to_vec(),
            config,
            arch,
            spec,
            shapes,
            packed_stacks: tensors.iter().any(is_packed_stack),
            prefix,
        };
        pass.check_ends()?;
        let count = tokens.len().checked_mul(pass.config.vocab);
        if count.is_none_or(|count| pass.logits.try_reserve_exact(count).is_err()) {
            return Err(refused("the logits do not fit in memory".to_string()));
        }
        pass.logits.resize(count.unwrap_or(0), 0.0);
        pass.asks = pass.stage_asks()?;
        pass.advance()?;
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

    /// The rows whose values [`Forward::feed`] takes next; `None` once the logits are complete.
    pub fn request(&self) -> Option<&RowRequest> {
        self.arriving.as_ref().map(|a| &a.request)
    }

    /// Takes a part of the requested rows, as binary32 in little-endian bytes, row by row. `rows` count from the first of the
    /// request.
    ///
    /// Parts come in order of their rows. A part with some of the columns is followed by the next columns of the same rows.
    /// Results do not depend on the parts.
    ///
    /// # Errors
    ///
    /// `io` if the part is not the one that comes next; `unsupported_rotation` if a tensor that the pass needs then is missing
    /// or has another shape than the configuration says.
    pub fn feed(&mut self, rows: Range<u64>, cols: Range<u64>, values: &[u8]) -> Result<()> {
        let wrong = || Error::new(Code::Io, "the forward pass was given other values than it asked for");
        let arrival = self.arriving.as_mut().ok_or_else(wrong)?;
        if arrival.take(rows, cols, values).ok_or_else(wrong)? {
            self.arrived();
            self.advance()?;
        }
        Ok(())
    }

    /// Keeps a tensor, or its product, that is complete.
    fn arrived(&mut self) {
        let Some(Arrival { request, target, .. }) = self.arriving.take() else { return };
        match target {
            ArrivalTarget::Tensor(values) => drop(self.received.tensors.insert(request.name, values)),
            ArrivalTarget::Product(product) => {
                drop(self.received.products.insert(request.name, product.finish()));
            }
        }
    }

    /// The tensors that the stage needs.
    fn stage_asks(&self) -> Result<Vec<Ask>> {
        let kept = |name: String, rows: Range<u64>| {
            Ok(Vec::from([Ask { request: RowRequest { name, rows }, matrix: false }]))
        };
        match &self.stage {
            Stage::Embedding(index) => {
                let token = self.tokens.get(*index).copied().map_or(0, u64::from);
                kept(self.top(Module::TokenEmbd), token..token + 1)
            }
            Stage::Positions => kept(self.positions().unwrap_or_default(), 0..self.tokens.len() as u64),
            Stage::Attention(layer) => self.mix_asks(*layer),
            Stage::FeedForward(layer) => self.feed_asks(*layer),
            Stage::Experts(stage) => self.expert_asks(stage),
            Stage::Norm => self.norm_asks(),
            Stage::Head => Ok(Vec::from([Ask { request: self.whole(self.head()), matrix: true }])),
            Stage::Done => Ok(Vec::new()),
        }
    }

    /// Goes on until a tensor is needed, or to the end.
    fn advance(&mut self) -> Result<()> {
        while self.stage != Stage::Done {
            let kept =
                self.asks.iter().find(|a| !a.matrix && !self.received.tensors.contains_key(&a.request.name));
            if let Some(ask) = kept {
                let request = ask.request.clone();
                self.arriving = Some(self.arrival(request, ArrivalTarget::Tensor(Vec::new()))?);
                return Ok(());
            }
            let received = core::mem::take(&mut self.received);
            match self.run_stage(&received) {
                Ok(next) => {
                    self.stage = next;
                    self.asks = self.stage_asks()?;
                }
                Err(missing) => {
                    self.received = received;
                    self.arriving = Some(self.product(missing)?);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The arrival of a matrix, for a product.
    fn product(&mut self, missing: Missing) -> Result<Arrival> {
        let Missing { name, x, width, by_columns } = missing;
        let unknown = || refused("the forward pass needs this tensor, which is not there".into());
        let ask = self.asks.iter().find(|a| a.request.name == name);
        let request = ask.ok_or_else(|| unknown().of_tensor(&name))?.request.clone();
        let cols = self.shapes.get(&name).map_or(0, Shape::cols);
        let made = if by_columns { cols } else { request.rows.end - request.rows.start };
        let len = usize::try_from(made).ok().and_then(|made| made.checked_mul(x.len() / width.max(1)));
        let len = len.ok_or_else(|| refused("the product does not fit in memory".into()).of_tensor(&name))?;
        let out = match self.stage {
            Stage::Head => core::mem::take(&mut self.logits),
            _ => vec![0.0; len],
        };
        self.arrival(request, ArrivalTarget::Product(Product::new(x, width, by_columns, out)))
    }

    fn arrival(&self, request: RowRequest, target: ArrivalTarget) -> Result<Arrival> {
        let cols = self.shapes.get(&request.name).map_or(0, Shape::cols);
        let arrival = Arrival { request, cols, row: 0, col: 0, target };
        match arrival.height().checked_mul(cols) {
            Some(1..) => Ok(arrival),
            _ => Err(refused("the tensor is empty".into()).of_tensor(&arrival.request.name)),
        }
    }

    /// Runs the stage on what was received. Nothing is changed if a product is missing.
    fn run_stage(&mut self, received: &Received) -> Step<Stage> {
        let stage = core::mem::replace(&mut self.stage, Stage::Done);
        let (stage, waits_for) = match stage {
            Stage::Embedding(index) => return Ok(self.embed(index, received)),
            Stage::Positions => {
                let values = received.tensors.values().flatten();
                self.stream.iter_mut().zip(values).for_each(|(s, &p)| *s += f64::from(p));
                return Ok(Stage::Attention(0));
            }
            Stage::Attention(layer) => match self.mix(layer, &Weights::new(Some(layer), received)) {
                Ok(()) => return Ok(Stage::FeedForward(layer)),
                Err(missing) => (stage, missing),
            },
            Stage::FeedForward(layer) => {
                match self.feed_forward(layer, &Weights::new(Some(layer), received)) {
                    Ok(next) => return Ok(next),
                    Err(missing) => (stage, missing),
                }
            }
            Stage::Experts(mut left) => {
                let given = Weights::new(Some(left.layer), received);
                match self.next_expert(&mut left, &given) {
                    Ok(()) if left.next < left.chosen.len() => return Ok(Stage::Experts(left)),
                    Ok(()) => return Ok(self.after(left.layer)),
                    Err(missing) => (Stage::Experts(left), missing),
                }
            }
            Stage::Norm => {
                self.stream = self.norm(&Weights::new(None, received), Module::OutputNorm);
                return Ok(Stage::Head);
            }
            Stage::Head => match self.make_logits(received) {
                Ok(next) => return Ok(next),
                Err(missing) => (stage, missing),
            },
            Stage::Done => return Ok(Stage::Done),
        };
        self.stage = stage;
        Err(waits_for)
    }

    fn after(&self, layer: usize) -> Stage {
        if layer + 1 < self.config.layers { Stage::Attention(layer + 1) } else { Stage::Norm }
    }

    /// Adds the embedding of a token to the stream.
    fn embed(&mut self, index: usize, received: &Received) -> Stage {
        let own = if self.spec.scaled_embedding { libm::sqrt(self.config.hidden as f64) } else { 1.0 };
        let scale = own * self.config.embedding_multiplier;
        self.stream.extend(received.tensors.values().flatten().map(|&v| f64::from(v) * scale));
        if index + 1 < self.tokens.len() {
            Stage::Embedding(index + 1)
        } else if self.positions().is_some() {
            Stage::Positions
        } else {
            Stage::Attention(0)
        }
    }

    fn make_logits(&mut self, received: &Received) -> Step<Stage> {
        let name = self.head();
        let Some(logits) = received.products.get(&name) else {
            let (x, width) = (self.stream.clone(), self.config.hidden);
            return Err(Missing { name, x, width, by_columns: false });
        };
        let scaling = self.config.logits_scaling;
        self.logits = logits.iter().map(|x| x / scaling).collect();
        Ok(Stage::Done)
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
