//! A forward pass over the tensors of a checkpoint, or over those that a plan makes of them.
//!
//! Sans I/O: a [`ModelPass`] names one tensor at a time as a plan of one output. The driver runs it within its memory budget and
//! hands over each window, which is multiplied at once: no tensor of a layer is in memory as a whole.

mod encoded;
mod refusals;

pub use refusals::of_model;

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
use crate::job::Window;
use crate::model::config::Config;
use crate::model::family::rules;
use crate::model::forward::{Batch, F64, Forward, InputSums, Logits, MatMul, Product, Section};
use crate::plan::convert;
use crate::plan::{
    FileRange, Grid, MetricSet, NonFinite, Operand, OutFile, Output, OutputOp, Plan, Segment, Side, ThinVec,
    decoded, target,
};
use crate::quant::Encoding;
use crate::recipe::{Reason, Recipe, TargetName, TensorNaming};
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// A part of a tensor that a pass needs: a plan of one output, and which of its values count.
#[derive(Clone, Debug)]
pub struct TensorRequest {
    /// A plan of one output of binary32 values, which a driver need not keep: each window goes to [`ModelPass::feed`].
    pub plan: Plan,
    /// Elements of the output before those that are needed.
    skipped: u64,
    /// Rows that are needed, and their length in elements.
    rows: u64,
    cols: u64,
    /// The type that values are encoded as before they are multiplied.
    encoding: Option<Encoding>,
}

/// The tensors of a model under the names of its architecture, and where their values come from.
#[derive(Clone, Debug)]
pub struct ModelTensors {
    /// The configuration.
    pub config: Config,
    tensors: Arc<Vec<TensorInfo>>,
    outputs: Arc<BTreeMap<String, Output>>,
    /// Tensors whose values are encoded and decoded again.
    encodings: Arc<BTreeMap<String, Encoding>>,
}

impl ModelTensors {
    fn new(config: Config, tensors: Vec<TensorInfo>, outputs: BTreeMap<String, Output>) -> ModelTensors {
        ModelTensors {
            config,
            tensors: Arc::new(tensors),
            outputs: Arc::new(outputs),
            encodings: Arc::default(),
        }
    }

    /// The tensors of a checkpoint as they are stored, by its `config.json`.
    ///
    /// # Errors
    ///
    /// `unsupported_forward` if there is no `config.json`, and those of [`Config::parse`].
    pub fn source(checkpoint: &Checkpoint) -> Result<ModelTensors> {
        let mut config = Config::parse(self::config(checkpoint)?)?;
        // A configuration that is silent about the head, or says two things: the rotation rules decide.
        let rules = rules(checkpoint.config.as_deref(), &checkpoint.tensors);
        config.tied |= rules.is_ok_and(|r| r.untied_head.is_some());
        let tensors = checkpoint.tensors.iter().enumerate();
        let outputs: BTreeMap<String, Output> =
            tensors.map(|(i, t)| ((&t.name).into(), as_it_is(i, t))).collect();
        Ok(ModelTensors::new(config, checkpoint.tensors.clone(), outputs))
    }

    /// What `plan` makes of `checkpoint`, before it is encoded.
    ///
    /// A GGUF of a Hugging Face checkpoint has other names, and rows in the order of engines: the pass runs on the same plan
    /// with the names of the source.
    ///
    /// # Errors
    ///
    /// Those of [`convert::plan`] and [`Config::parse`].
    pub fn planned(checkpoint: &Checkpoint, plan: &Plan) -> Result<ModelTensors> {
        let recipe = plan.conversion.as_ref().map(|c| &c.recipe);
        let maps = |r: &&Recipe| {
            r.to == TargetName::Gguf
                && r.names != TensorNaming::Source
                && checkpoint.container == Container::Safetensors
        };
        let named = recipe.filter(maps).map(|recipe| {
            let recipe = Recipe { names: TensorNaming::Source, ..recipe.clone() };
            convert::plan(checkpoint, &recipe, None, false)
        });
        let named = named.transpose()?;
        let plan = named.as_ref().unwrap_or(plan);
        let text = target::config(checkpoint, plan)?;
        let config = Config::parse(text.as_deref().unwrap_or_default())?;
        Ok(ModelTensors::of_outputs(checkpoint, config, &plan.outputs, true))
    }

    /// The tensors of any checkpoint: those of a GGUF under the names, and in the order of rows, of a Hugging Face checkpoint.
    ///
    /// # Errors
    ///
    /// Those of [`ModelTensors::source`]; for a GGUF, those of [`decoded::tensors`].
    pub fn of(checkpoint: &Checkpoint) -> Result<ModelTensors> {
        match decoded::tensors(checkpoint)? {
            None => ModelTensors::source(checkpoint),
            Some(decoded) => {
                let config = Config::parse(&decoded.config)?;
                Ok(ModelTensors::of_outputs(checkpoint, config, &decoded.outputs, false))
            }
        }
    }

    /// With `whole`, an output that is copied is a whole tensor of the checkpoint.
    fn of_outputs(checkpoint: &Checkpoint, config: Config, made: &[Output], whole: bool) -> ModelTensors {
        let mut tensors = Vec::with_capacity(made.len());
        let mut outputs = BTreeMap::new();
        for output in made {
            let piece = output.segments.first();
            let index = piece.map_or(0, |p| p.from.tensor as usize);
            let Some(source) = checkpoint.tensors.get(index) else { continue };
            let info =
                TensorInfo { name: output.name.clone(), shape: output.shape.clone(), ..source.clone() };
            let copied = whole && piece.is_some_and(|p| p.op == OutputOp::Copy);
            outputs.insert(
                info.name.clone().into(),
                if copied { as_it_is(index, &info) } else { output.clone() },
            );
            tensors.push(info);
        }
        ModelTensors::new(config, tensors, outputs)
    }

    /// Elements of all tensors, at most `u64::MAX`.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(|t| t.shape.numel()).fold(0, u64::saturating_add)
    }

    /// About the bytes that a forward pass holds for each token, with `head_rows` logits at once.
    pub fn bytes_per_token(&self, head_rows: usize) -> u64 {
        const STREAM: u64 = 6;
        const BRANCH: u64 = 6;
        const HEAD: u64 = 3;
        let vocab = self.config.vocab as u64;
        let axes = self.tensors.iter().flat_map(|t| {
            let axes = t.shape.axes();
            axes.iter().copied().skip(axes.len().saturating_sub(2))
        });
        let widest = axes.filter(|&n| n != vocab).max().unwrap_or(0);
        let numbers = [
            (self.config.hidden as u64).saturating_mul(STREAM),
            widest.saturating_mul(BRANCH),
            (head_rows as u64).min(vocab).saturating_mul(HEAD),
        ];
        numbers.into_iter().fold(0, u64::saturating_add).saturating_mul(8)
    }
}

/// One forward pass in progress.
#[derive(Debug)]
pub struct ModelPass<M: MatMul = F64> {
    forward: Forward<M>,
    /// Where each tensor comes from.
    outputs: Arc<BTreeMap<String, Output>>,
    /// Tensors whose values are encoded and decoded again.
    encodings: Arc<BTreeMap<String, Encoding>>,
    /// The tensors whose values were taken.
    taken: BTreeSet<String>,
    /// Values of a tensor whose rows are not those of its plan's grid, until all are there: bytes of binary32.
    held: Vec<u8>,
}

/// Results of the rows of one window.
#[derive(Debug)]
pub struct RowTile<T> {
    rows: Range<u64>,
    results: T,
}

impl ModelPass {
    /// Over the source as it is.
    ///
    /// # Errors
    ///
    /// Those of [`ModelTensors::source`] and [`Forward::new`].
    pub fn source(checkpoint: &Checkpoint, tokens: &[u32]) -> Result<ModelPass> {
        ModelPass::of_tokens(ModelTensors::source(checkpoint)?, tokens)
    }

    /// Over what `plan` makes of `checkpoint`, before it is encoded.
    ///
    /// # Errors
    ///
    /// Those of [`ModelTensors::planned`] and [`Forward::new`].
    pub fn planned(checkpoint: &Checkpoint, plan: &Plan, tokens: &[u32]) -> Result<ModelPass> {
        ModelPass::of_tokens(ModelTensors::planned(checkpoint, plan)?, tokens)
    }

    fn of_tokens(model: ModelTensors, tokens: &[u32]) -> Result<ModelPass> {
        let ModelTensors { config, tensors, outputs, encodings } = model;
        let forward = Forward::new(config, &tensors, tokens)?;
        Ok(ModelPass { forward, outputs, encodings, taken: BTreeSet::new(), held: Vec::new() })
    }

    /// The logits, once there are no more requests.
    pub fn logits(&self) -> &[f64] {
        self.forward.logits()
    }
}

impl<M: MatMul> ModelPass<M> {
    /// Over several sequences, with the products of `matmul`.
    ///
    /// # Errors
    ///
    /// Those of [`Forward::batch`].
    pub fn batch(model: &ModelTensors, matmul: M, batch: &Batch) -> Result<ModelPass<M>> {
        ModelPass::section(model, matmul, batch, Section::All)
    }

    /// The same through a section of the model.
    ///
    /// # Errors
    ///
    /// Those of [`Forward::section`].
    pub fn section(model: &ModelTensors, matmul: M, batch: &Batch, section: Section) -> Result<ModelPass<M>> {
        let forward = Forward::section(matmul, model.config.clone(), &model.tensors, batch, section)?;
        let (outputs, encodings) = (Arc::clone(&model.outputs), Arc::clone(&model.encodings));
        Ok(ModelPass { forward, outputs, encodings, taken: BTreeSet::new(), held: Vec::new() })
    }

    /// The residual stream after a section: see [`Forward::take_stream`].
    pub fn take_stream(&mut self) -> Vec<f64> {
        self.forward.take_stream()
    }

    /// The tensor that comes next; `None` once the logits are complete.
    ///
    /// # Errors
    ///
    /// `unsupported_forward` if the plan does not have the tensor, `overflow` if it does not fit this machine.
    pub fn request(&self) -> Result<Option<TensorRequest>> {
        let Some(wanted) = self.forward.request() else { return Ok(None) };
        let missing =
            || Error::new(Code::UnsupportedForward, "the forward pass needs a tensor that is not there");
        let output = self.outputs.get(&wanted.name).ok_or_else(|| missing().of_tensor(&wanted.name))?;
        let overflow = || Error::new(Code::Overflow, "a part of this tensor does not fit this machine");
        let encoding = self.encodings.get(&wanted.name).copied();
        request(output, &wanted.rows, encoding).map(Some).ok_or_else(|| overflow().of_tensor(&wanted.name))
    }

    /// Takes one finished window of `request`'s plan: binary32 values in little-endian bytes. Windows come in order of rows,
    /// and those of the same rows in order of columns.
    ///
    /// # Errors
    ///
    /// Those of [`Forward::feed`].
    pub fn feed(&mut self, request: &TensorRequest, window: &Window, values: &[u8]) -> Result<()> {
        self.note_taken();
        let values = &*request.decoded(window, values)?;
        if !request.has_plain_rows() {
            return self.hold(request, window, values);
        }
        match request.part(window, values).ok_or_else(other_values)? {
            None => Ok(()),
            Some((rows, part)) => self.forward.feed(rows, window.cols.clone(), part),
        }
    }

    /// Whether windows of `request`, each with all columns of its rows, may be multiplied by [`ModelPass::tile`].
    pub fn takes_tiles(&self, request: &TensorRequest) -> bool {
        request.has_plain_rows() && self.forward.product().is_some()
    }

    /// Multiplies the rows of one finished window, on any thread; `None` if none of them is needed.
    ///
    /// # Errors
    ///
    /// `io` if the window is not one of the request, or does not have all columns.
    #[allow(clippy::type_complexity)]
    pub fn tile(
        &self,
        request: &TensorRequest,
        window: &Window,
        values: &[u8],
    ) -> Result<Option<RowTile<<M::Product as Product>::Tile>>> {
        let whole = window.cols == (0..request.cols);
        let product = self.forward.product().filter(|_| whole).ok_or_else(other_values)?;
        let values = &*request.decoded(window, values)?;
        let part = request.part(window, values).ok_or_else(other_values)?;
        Ok(part.map(|(rows, part)| RowTile { rows, results: product.tile(part) }))
    }

    /// Takes the results of the next window's rows.
    ///
    /// # Errors
    ///
    /// Those of [`Forward::put`].
    pub fn put(&mut self, tile: RowTile<<M::Product as Product>::Tile>) -> Result<()> {
        self.note_taken();
        self.forward.put(tile.rows, tile.results)
    }

    /// Notes the tensor that is requested.
    fn note_taken(&mut self) {
        if let Some(wanted) = self.forward.request().filter(|w| !self.taken.contains(&w.name)) {
            self.taken.insert(wanted.name.clone());
        }
    }

    /// The tensors whose values were taken so far.
    pub fn taken(&self) -> &BTreeSet<String> {
        &self.taken
    }

    /// The logits that were completed last: see [`Forward::take_logits`].
    pub fn take_logits(&mut self) -> Option<Logits> {
        self.forward.take_logits()
    }

    /// Observes what matrices are multiplied with: see [`Forward::observe`].
    pub fn observe(&mut self, sums: InputSums) {
        self.forward.observe(sums);
    }

    /// The sums of [`ModelPass::observe`], which ends.
    pub fn take_observed(&mut self) -> InputSums {
        self.forward.take_observed()
    }

    /// Whether all layers are complete: see [`Forward::in_head`].
    pub fn in_head(&self) -> bool {
        self.forward.in_head()
    }

    /// Keeps the values of a window until the tensor is complete. No matrix of a layer is one of these.
    fn hold(&mut self, request: &TensorRequest, window: &Window, values: &[u8]) -> Result<()> {
        let wrong = other_values;
        let grid = request.plan.outputs.first().map(|o| o.grid).ok_or_else(wrong)?;
        let bytes = |n: Option<u64>| n?.checked_mul(4).and_then(|n| usize::try_from(n).ok());
        let all = bytes(grid.rows.checked_mul(grid.cols)).ok_or_else(wrong)?;
        self.held.resize(all, 0);
        let width = bytes(Some(window.width())).filter(|w| *w > 0).ok_or_else(wrong)?;
        for (row, values) in window.rows.clone().zip(values.chunks_exact(width)) {
            let at = row.checked_mul(grid.cols).and_then(|n| n.checked_add(window.cols.start));
            let at = bytes(at).ok_or_else(wrong)?;
            let place = self.held.get_mut(at..).and_then(|h| h.get_mut(..width)).ok_or_else(wrong)?;
            place.copy_from_slice(values);
        }
        if window.rows.end < grid.rows || window.cols.end < grid.cols {
            return Ok(());
        }
        let held = core::mem::take(&mut self.held);
        let (from, len) = (bytes(Some(request.skipped)), bytes(request.rows.checked_mul(request.cols)));
        let part = from.zip(len).and_then(|(from, len)| held.get(from..)?.get(..len)).ok_or_else(wrong)?;
        self.forward.feed(0..request.rows, 0..request.cols, part)
    }
}

fn other_values() -> Error {
    Error::new(Code::Io, "the forward pass was given other values than it asked for")
}

impl TensorRequest {
    /// The tensor.
    pub fn name(&self) -> &str {
        self.plan.outputs.first().map_or("", |o| o.name.as_str())
    }

    /// Whether rows of the plan's grid are rows of the tensor.
    fn has_plain_rows(&self) -> bool {
        let grid = self.plan.outputs.first().map(|o| o.grid);
        grid.is_some_and(|g| g.cols == self.cols && self.cols > 0 && self.skipped.is_multiple_of(self.cols))
    }

    /// The rows of a window that are needed, relative to the first one that is, and their values; the inner `None` if none is
    /// needed.
    #[allow(clippy::type_complexity)]
    fn part<'v>(&self, window: &Window, values: &'v [u8]) -> Option<Option<(Range<u64>, &'v [u8])>> {
        let skipped = self.skipped.checked_div(self.cols)?;
        let rows = window.rows.start.max(skipped)..window.rows.end.min(skipped.saturating_add(self.rows));
        if rows.is_empty() {
            return Some(None);
        }
        let at = |row: u64| {
            let row = usize::try_from(row.checked_sub(window.rows.start)?).ok()?;
            row.checked_mul(usize::try_from(window.width()).ok()?)?.checked_mul(4)
        };
        let part = values.get(at(rows.start)?..at(rows.end)?)?;
        Some(Some((rows.start - skipped..rows.end - skipped, part)))
    }
}

fn config(checkpoint: &Checkpoint) -> Result<&[u8]> {
    let none = || Error::new(Code::UnsupportedForward, "there is no config.json to run the model by");
    checkpoint.config.as_deref().ok_or_else(none)
}

/// The output that is a tensor, decoded.
fn as_it_is(index: usize, tensor: &TensorInfo) -> Output {
    let grid = Grid::of(&tensor.shape);
    let from = Operand::whole(Side::Source, index, tensor);
    let finish = OutputOp::Encode(Encoding::Type(DType::F32));
    Output {
        name: tensor.name.clone(),
        dtype: DType::F32,
        shape: tensor.shape.clone(),
        grid,
        place: None,
        streams: ThinVec::new(),
        segments: Segment::whole(grid, from, finish).into(),
        // One that is no number would spoil every logit: it is named while it can be.
        metrics: MetricSet { nonfinite: NonFinite::Refused, ..MetricSet::default() },
        reason: Reason { code: "probe", text: "".into() }.into(),
    }
}

/// The plan that makes the rows `rows` of an output, or a little more; none where that is more than a machine holds.
fn request(output: &Output, rows: &Range<u64>, encoding: Option<Encoding>) -> Option<TensorRequest> {
    let Grid { cols, .. } = output.grid;
    let wide = output.shape.cols();
    let (start, end) = (rows.start.checked_mul(wide)?, rows.end.checked_mul(wide)?);
    let stored = encoding.unwrap_or(Encoding::Type(DType::F32));
    let asked = start.checked_div(cols)?..end.checked_add(cols - 1)?.checked_div(cols)?;
    let (mut pieces, mut first, mut height): (Vec<Segment>, Option<u64>, u64) = (Vec::new(), None, 0);
    for piece in &output.segments {
        let common = asked.start.max(piece.rows.start)..asked.end.min(piece.rows.end);
        if common.is_empty() {
            continue;
        }
        let taken = if piece.runs_along_rows() { piece.rows.clone() } else { common };
        first.get_or_insert(taken.start);
        let part =
            Segment { op: OutputOp::Encode(stored), importance: None, ..piece.slice(taken.clone(), height) };
        height = part.rows.end;
        pieces.push(part);
    }
    let skipped = start.checked_sub(first?.checked_mul(cols)?)?;
    let len = stored.dtype().bytes_for(height.checked_mul(cols)?)?;
    let made = Output {
        dtype: stored.dtype(),
        shape: Shape::new([height, cols])?,
        grid: Grid { rows: height, cols },
        place: Some(FileRange { file: 0, at: 0, bytes: len }),
        streams: ThinVec::new(),
        segments: pieces.into(),
        metrics: MetricSet { nonfinite: output.metrics.nonfinite, ..MetricSet::default() },
        ..output.clone()
    };
    let file = OutFile { name: String::new(), len, header: Vec::new(), copied: false };
    let plan = Plan { outputs: vec![made], files: vec![file], conversion: None, warnings: Vec::new() };
    Some(TensorRequest { plan, skipped, rows: rows.end.checked_sub(rows.start)?, cols: wide, encoding })
}
