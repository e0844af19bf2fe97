//! A small forward pass: the reference that holds a rotated checkpoint against its source, and the evaluator of models.
//!
//! Sans I/O: [`Forward::request`] names the tensor that comes next, and [`Forward::feed`] takes its values in parts of any size,
//! until the logits are complete. Matrices are not kept: each part is multiplied as it arrives, so memory is that of
//! vectors and activations. Products are those of a [`MatMul`], in binary64 or binary32; everything between them is binary64.
//! Knows no rotations, quantization or files.

#![expect(
    clippy::indexing_slicing,
    reason = "shapes of matrices and vectors are checked against the configuration before the pass"
)]

mod arrival;
mod attention;
mod conv;
mod decoder;
mod experts;
mod feed_forward;
mod gated_delta_net;
mod layer;
mod layer_input;
mod math;
mod matmul;
mod mla;
mod observe;
mod product_f32;
mod product_f64;
mod rope;
pub mod spec;

pub use matmul::{Compute, MatMul, Product, ProductTask, StageWork};
pub use observe::{ChannelSums, InputPart, InputSums};
pub use product_f32::F32;
pub use product_f64::F64;
pub use spec::ForwardSpec;

use crate::error::{Code, Error, Result};
use crate::model::config::{CONFIG, Config};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arrival::{Arrival, ArrivalTarget};
use core::ops::Range;
use decoder::{DecoderState, Stage, missing};
use layer_input::{Ask, Missing, Received};

/// Rows of a tensor that the pass needs next. A row is the innermost axis; all others are flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRequest {
    /// The tensor.
    pub name: String,
    /// Its rows.
    pub rows: Range<u64>,
}

/// Sequences of tokens that run through a model together, each from the first position on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The tokens.
    pub sequences: Vec<Vec<u32>>,
    /// The first position of each sequence that gets logits.
    pub scored_from: usize,
    /// Entries of the vocabulary whose logits are made at once.
    pub head_rows: usize,
}

/// The part of a model that a pass runs through.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Section {
    /// All of it.
    #[default]
    All,
    /// The embeddings, to the stream before the first layer.
    Embedding,
    /// One layer, from the stream before it (`[tokens, hidden]`) to the stream after it.
    Layer(usize, Vec<f64>),
    /// The last norm and the head, from the stream after the last layer.
    Head(Vec<f64>),
}

/// Logits of the scored positions of all sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// The entries of the vocabulary.
    pub entries: Range<usize>,
    /// `[positions, entries]`
    pub values: Vec<f64>,
}

/// The most tokens of [`Forward::new`].
const MOST_TOKENS: usize = 4096;

/// A forward pass in progress, with the products of `M`.
#[derive(Debug)]
pub struct Forward<M: MatMul = F64> {
    decoder: DecoderState,
    matmul: M,
    stage: Stage,
    /// The tensors that the stage needs.
    asks: Vec<Ask>,
    received: Received,
    arriving: Option<Arrival<M::Product>>,
    /// Sums of what matrices are multiplied with, if they are observed.
    observed: Option<InputSums>,
}

fn refused(message: String) -> Error {
    Error::new(Code::UnsupportedForward, message)
}

/// A refusal because of what `config.json` says at this offset.
fn refused_by(at: u64, message: String) -> Error {
    refused(message).in_file(CONFIG).at(at)
}

impl Forward {
    /// A pass in binary64 over `tokens` that keeps all logits.
    ///
    /// # Errors
    ///
    /// `unsupported_forward` if the family cannot be run, a token is not in the vocabulary, or a tensor is missing or has another
    /// shape than the configuration says.
    pub fn new(config: Config, tensors: &[TensorInfo], tokens: &[u32]) -> Result<Forward> {
        if tokens.is_empty() || tokens.len() > MOST_TOKENS {
            return Err(refused(format!("a forward pass takes 1 to {MOST_TOKENS} tokens")));
        }
        let count = tokens.len().checked_mul(config.vocab);
        if count.is_none_or(|count| Vec::<f64>::new().try_reserve_exact(count).is_err()) {
            return Err(refused("the logits do not fit in memory".into()));
        }
        let batch = Batch { sequences: [tokens.to_vec()].into(), scored_from: 0, head_rows: usize::MAX };
        Forward::batch(F64, config, tensors, &batch)
    }

    /// The logits: for every token, one number an entry of the vocabulary. Empty until [`Forward::done`].
    pub fn logits(&self) -> &[f64] {
        self.decoder.logits.as_ref().map_or(&[], |l| &l.values)
    }
}

impl<M: MatMul> Forward<M> {
    /// A pass over several sequences, whose logits come in parts of the vocabulary: see [`Forward::take_logits`].
    ///
    /// # Errors
    ///
    /// `unsupported_forward` if the family is not one that can be run, a token is not in the vocabulary, or a tensor is missing
    /// or has another shape than the configuration says.
    pub fn batch(matmul: M, config: Config, tensors: &[TensorInfo], batch: &Batch) -> Result<Forward<M>> {
        Forward::section(matmul, config, tensors, batch, Section::All)
    }

    /// The same through a section of the model: see [`Forward::take_stream`].
    ///
    /// # Errors
    ///
    /// Those of [`Forward::batch`], and `unsupported_rotation` if the section is not one of the model and its tokens.
    pub fn section(
        matmul: M,
        config: Config,
        tensors: &[TensorInfo],
        batch: &Batch,
        section: Section,
    ) -> Result<Forward<M>> {
        let mut decoder = DecoderState::new(config, tensors, batch)?;
        let stage = decoder.limit(section)?;
        let mut pass = Forward {
            decoder,
            matmul,
            stage,
            asks: Vec::new(),
            received: Received::default(),
            arriving: None,
            observed: None,
        };
        pass.asks = pass.decoder.stage_asks(&pass.stage)?;
        pass.advance()?;
        Ok(pass)
    }

    /// The rows whose values [`Forward::feed`] takes next; `None` once the logits are complete.
    pub fn request(&self) -> Option<&RowRequest> {
        self.arriving.as_ref().map(|a| &a.request)
    }

    /// The product that the requested rows belong to, if their parts may be multiplied on any thread and in any order:
    /// [`Product::tile`], then [`Forward::put`].
    pub fn product(&self) -> Option<&M::Product> {
        match self.arriving.as_ref().map(|a| &a.target) {
            Some(ArrivalTarget::Product { product, by_columns: false }) => Some(product),
            _ => None,
        }
    }

    /// Takes a part of the requested rows, as binary32 in little-endian bytes, row by row. `rows` count from the first of the
    /// request.
    ///
    /// Parts come in order of their rows. A part with some of the columns is followed by the next columns of the same rows.
    /// Results do not depend on the parts.
    ///
    /// # Errors
    ///
    /// `io` if the part is not the one that comes next; `unsupported_forward` if a tensor that the pass needs then is missing
    /// or has another shape than the configuration says.
    pub fn feed(&mut self, rows: Range<u64>, cols: Range<u64>, values: &[u8]) -> Result<()> {
        let wrong = || Error::new(Code::Io, "the forward pass was given other values than it asked for");
        let arrival = self.arriving.as_mut().ok_or_else(wrong)?;
        let complete = arrival.take(rows, cols, values).ok_or_else(wrong)?;
        if complete { self.arrived() } else { Ok(()) }
    }

    /// Takes the results of the next rows, which [`Product::tile`] made.
    ///
    /// # Errors
    ///
    /// Those of [`Forward::feed`].
    pub fn put(&mut self, rows: Range<u64>, tile: <M::Product as Product>::Tile) -> Result<()> {
        let wrong = || Error::new(Code::Io, "the forward pass was given other values than it asked for");
        let arrival = self.arriving.as_mut().ok_or_else(wrong)?;
        let complete = arrival.put(rows, tile).ok_or_else(wrong)?;
        if complete { self.arrived() } else { Ok(()) }
    }

    /// Keeps a tensor, or its product, that is complete, and goes on.
    fn arrived(&mut self) -> Result<()> {
        let Some(Arrival { request, target, .. }) = self.arriving.take() else { return Ok(()) };
        match target {
            ArrivalTarget::Tensor(values) => drop(self.received.tensors.insert(request.name, values)),
            ArrivalTarget::Product { product, .. } => {
                drop(self.received.products.insert(request.name, product.finish()));
            }
        }
        self.advance()
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
            match self.decoder.run_stage(&mut self.stage, &self.received, &self.matmul) {
                Ok(next) => {
                    self.received = Received::default();
                    self.stage = next;
                    self.asks = self.decoder.stage_asks(&self.stage)?;
                }
                Err(missing) => {
                    self.arriving = Some(self.arriving_matrix(missing)?);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The arrival of a matrix, for a product.
    fn arriving_matrix(&mut self, wanted: Missing) -> Result<Arrival<M::Product>> {
        let Missing { name, x, width, by_columns, beside } = wanted;
        let ask = self.asks.iter().find(|a| a.request.name == name);
        let request = ask.ok_or_else(|| missing(&name))?.request.clone();
        let cols = self.decoder.shapes.get(&name).map_or(0, Shape::cols);
        let made = if by_columns { cols } else { request.rows.end - request.rows.start };
        let made = usize::try_from(made).ok();
        let fits = |made: &usize| {
            let len = made.checked_mul(x.len() / width.max(1));
            len.is_some_and(|len| Vec::<f64>::new().try_reserve_exact(len).is_ok())
        };
        let large = || refused("the product does not fit in memory".into()).of_tensor(&name);
        let made = made.filter(fits).ok_or_else(large)?;
        if let Some(sums) = &mut self.observed {
            sums.add(&name, InputPart::Rows(request.rows.start), width, &x);
            beside.iter().for_each(|side| sums.add_sums(side));
        }
        let product = self.matmul.product(ProductTask { x, width, by_columns, made });
        self.arrival(request, ArrivalTarget::Product { product, by_columns })
    }

    fn arrival(&self, request: RowRequest, target: ArrivalTarget<M::Product>) -> Result<Arrival<M::Product>> {
        let cols = self.decoder.shapes.get(&request.name).map_or(0, Shape::cols);
        let arrival = Arrival { request, cols, row: 0, col: 0, target };
        match arrival.height().checked_mul(cols) {
            Some(1..) => Ok(arrival),
            _ => Err(refused("the tensor is empty".into()).of_tensor(&arrival.request.name)),
        }
    }

    /// Adds the squares of what matrices are multiplied with to `sums`, from the first layer on. Called before the first rows are
    /// fed.
    pub fn observe(&mut self, sums: InputSums) {
        self.decoder.observed = true;
        self.observed = Some(sums);
    }

    /// The sums of [`Forward::observe`], which ends.
    pub fn take_observed(&mut self) -> InputSums {
        self.decoder.observed = false;
        self.observed.take().unwrap_or_default()
    }

    /// Whether all layers are complete, and rows of the head come next.
    pub fn in_head(&self) -> bool {
        matches!(self.stage, Stage::Head(_) | Stage::Done)
            && self.arriving.as_ref().is_none_or(Arrival::is_product)
    }

    /// Whether the logits are complete.
    pub fn done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The residual stream after a section that ends before a layer, `[tokens, hidden]`.
    pub fn take_stream(&mut self) -> Vec<f64> {
        core::mem::take(&mut self.decoder.stream)
    }

    /// The logits that were completed last, for the next entries of the vocabulary; each is returned once, and has to be taken
    /// before the next rows of the head are complete.
    pub fn take_logits(&mut self) -> Option<Logits> {
        self.decoder.logits.take()
    }
}
