//! What must hold before a rotated artefact gets its name: it computes what its source does.
//!
//! Two forward passes in binary64 over the same few tokens, one with the source's values, one with those that the plan
//! makes of them *before* they are rounded to the types that are written. That every element is where the algebra puts it
//! is verified while a job runs; this verifies that the algebra is the model's.
//!
//! Sans I/O: a [`ModelPass`] names one tensor at a time as a plan of one output. The driver runs it within its memory budget and
//! hands over each window, which is multiplied at once: no tensor of a layer is in memory as a whole.

use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container};
use crate::job::Window;
use crate::model::config::Config;
use crate::model::family::rules;
use crate::model::forward::Forward;
use crate::plan::convert;
use crate::plan::{
    FileRange, Grid, MetricSet, NonFinite, Operand, OutFile, Output, OutputOp, Plan, Segment, Side, target,
};
use crate::quant::Encoding;
use crate::recipe::{Reason, Recipe, TargetName, TensorNaming};
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use serde::Serialize;

/// How many tokens are tried where nothing else is asked for.
pub const TOKENS: u32 = 4;
/// By how much logits may differ, in units of the largest (or of 1, if that is more).
pub const TOLERANCE: f64 = 1e-5;

/// Tokens to try: a fixed sequence for each seed.
pub fn tokens(seed: u64, count: u32, vocabulary: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 32) % vocabulary.max(1) as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}

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
}

/// One forward pass on its way.
#[derive(Debug)]
pub struct ModelPass {
    forward: Forward,
    /// Where each tensor comes from.
    outputs: BTreeMap<String, Output>,
    /// Values of a tensor whose rows are not those of its plan's grid, until all are there: bytes of binary32.
    held: Vec<u8>,
}

impl ModelPass {
    /// Over the source as it is.
    pub fn source(checkpoint: &Checkpoint, tokens: &[u32]) -> Result<ModelPass> {
        let mut config = Config::parse(self::config(checkpoint)?)?;
        // A configuration that is silent about the head, or says two things: the rotation rules decide.
        let rules = rules(checkpoint.config.as_deref(), &checkpoint.tensors);
        config.tied |= rules.is_ok_and(|r| r.untied_head.is_some());
        let forward = Forward::new(config, &checkpoint.tensors, tokens)?;
        let tensors = checkpoint.tensors.iter().enumerate();
        let outputs = tensors.map(|(i, t)| ((&t.name).into(), as_it_is(i, t))).collect();
        Ok(ModelPass { forward, outputs, held: Vec::new() })
    }

    /// Over what `plan` makes of `checkpoint`, before it is encoded.
    ///
    /// A GGUF of a Hugging Face checkpoint has other names, and rows in the order of engines: the pass runs on the same plan
    /// with the names of the source.
    pub fn planned(checkpoint: &Checkpoint, plan: &Plan, tokens: &[u32]) -> Result<ModelPass> {
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
        let parsed = Config::parse(text.as_deref().unwrap_or_default())?;
        let mut tensors = Vec::with_capacity(plan.outputs.len());
        let mut outputs = BTreeMap::new();
        for output in &plan.outputs {
            let piece = output.segments.first();
            let index = piece.map_or(0, |p| p.from.tensor as usize);
            let Some(source) = checkpoint.tensors.get(index) else { continue };
            let info =
                TensorInfo { name: output.name.clone(), shape: output.shape.clone(), ..source.clone() };
            let copied = piece.is_some_and(|p| p.op == OutputOp::Copy);
            outputs.insert(
                info.name.clone().into(),
                if copied { as_it_is(index, &info) } else { output.clone() },
            );
            tensors.push(info);
        }
        Ok(ModelPass { forward: Forward::new(parsed, &tensors, tokens)?, outputs, held: Vec::new() })
    }

    /// The tensor that comes next; `None` once the logits are complete.
    ///
    /// # Errors
    ///
    /// `rotation_off` if the plan does not have the tensor, `overflow` if it does not fit this machine.
    pub fn request(&self) -> Result<Option<TensorRequest>> {
        let Some(wanted) = self.forward.request() else { return Ok(None) };
        let missing = || Error::new(Code::RotationOff, "the forward pass needs a tensor that is not there");
        let output = self.outputs.get(&wanted.name).ok_or_else(|| missing().of_tensor(&wanted.name))?;
        let overflow = || Error::new(Code::Overflow, "a part of this tensor does not fit this machine");
        request(output, &wanted.rows).map(Some).ok_or_else(|| overflow().of_tensor(&wanted.name))
    }

    /// Takes one finished window of `request`'s plan: binary32 values in little-endian bytes. Windows come in order of rows,
    /// and those of the same rows in order of columns.
    ///
    /// # Errors
    ///
    /// Those of [`Forward::feed`].
    pub fn feed(&mut self, request: &TensorRequest, window: &Window, values: &[u8]) -> Result<()> {
        let wrong = || Error::new(Code::Io, "the forward pass was given other values than it asked for");
        let grid = request.plan.outputs.first().map(|o| o.grid).ok_or_else(wrong)?;
        let skipped = request.skipped.checked_div(request.cols).ok_or_else(wrong)?;
        if grid.cols != request.cols || !request.skipped.is_multiple_of(request.cols) {
            return self.hold(request, grid, window, values);
        }
        let rows = window.rows.start.max(skipped)..window.rows.end.min(skipped.saturating_add(request.rows));
        if rows.is_empty() {
            return Ok(());
        }
        let at = |row: u64| {
            let row = usize::try_from(row.checked_sub(window.rows.start)?).ok()?;
            row.checked_mul(usize::try_from(window.width()).ok()?)?.checked_mul(4)
        };
        let part = at(rows.start).zip(at(rows.end)).and_then(|(start, end)| values.get(start..end));
        let relative = rows.start - skipped..rows.end - skipped;
        self.forward.feed(relative, window.cols.clone(), part.ok_or_else(wrong)?)
    }

    /// Keeps the values of a window until the tensor is complete. No matrix of a layer is one of these.
    fn hold(&mut self, request: &TensorRequest, grid: Grid, window: &Window, values: &[u8]) -> Result<()> {
        let wrong = || Error::new(Code::Io, "the forward pass was given other values than it asked for");
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

    /// The logits, once there are no more requests.
    pub fn logits(&self) -> &[f64] {
        self.forward.logits()
    }
}

fn config(checkpoint: &Checkpoint) -> Result<&[u8]> {
    let none = || Error::new(Code::UnsupportedRotation, "there is no config.json to run the model by");
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
        segments: Segment::whole(grid, from, finish).into(),
        // One that is no number would spoil every logit: it is named while it can be.
        metrics: MetricSet { nonfinite: NonFinite::Refused, ..MetricSet::default() },
        reason: Reason { code: "probe", text: "".into() }.into(),
    }
}

/// The plan that makes the rows `rows` of an output, or a little more; none where that is more than a machine holds.
fn request(output: &Output, rows: &Range<u64>) -> Option<TensorRequest> {
    let Grid { cols, .. } = output.grid;
    let wide = output.shape.cols();
    let (start, end) = (rows.start.checked_mul(wide)?, rows.end.checked_mul(wide)?);
    let asked = start.checked_div(cols)?..end.checked_add(cols - 1)?.checked_div(cols)?;
    let (mut pieces, mut first, mut height): (Vec<Segment>, Option<u64>, u64) = (Vec::new(), None, 0);
    for piece in &output.segments {
        let common = asked.start.max(piece.rows.start)..asked.end.min(piece.rows.end);
        if common.is_empty() {
            continue;
        }
        let taken = if piece.runs_along_rows() { piece.rows.clone() } else { common };
        first.get_or_insert(taken.start);
        let part = Segment {
            op: OutputOp::Encode(Encoding::Type(DType::F32)),
            importance: None,
            ..piece.slice(taken.clone(), height)
        };
        height = part.rows.end;
        pieces.push(part);
    }
    let skipped = start.checked_sub(first?.checked_mul(cols)?)?;
    let len = height.checked_mul(cols)?.checked_mul(4)?;
    let made = Output {
        dtype: DType::F32,
        shape: Shape::new([height, cols])?,
        grid: Grid { rows: height, cols },
        place: Some(FileRange { file: 0, at: 0, bytes: len }),
        segments: pieces.into(),
        metrics: MetricSet { nonfinite: output.metrics.nonfinite, ..MetricSet::default() },
        ..output.clone()
    };
    let file = OutFile { name: String::new(), len, header: Vec::new(), copied: false };
    let plan = Plan { outputs: vec![made], files: vec![file], conversion: None, warnings: Vec::new() };
    Some(TensorRequest { plan, skipped, rows: rows.end.checked_sub(rows.start)?, cols: wide })
}

/// What two passes say of each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Equivalence {
    /// Tokens that were tried.
    pub tokens: u32,
    /// The largest absolute difference of two logits.
    pub max: f64,
    /// The mean absolute difference.
    pub mean: f64,
    /// The largest magnitude of a logit of the source.
    pub largest_logit: f64,
    /// What `max` must not exceed.
    pub limit: f64,
}

/// Compares the logits of source and plan. Fails with `rotation_off` where they are not the same model's.
pub fn compare_logits(
    source: &ModelPass,
    planned: &ModelPass,
    count: u32,
    tolerance: f64,
) -> Result<Equivalence> {
    let (a, b) = (source.logits(), planned.logits());
    let mut found = Equivalence { tokens: count, max: 0.0, mean: 0.0, largest_logit: 0.0, limit: 0.0 };
    for (x, y) in a.iter().zip(b) {
        let off = (x - y).abs();
        // Not a number is the worst of all, and stays.
        found.max = if off > found.max || off.is_nan() { off } else { found.max };
        found.mean += off / a.len() as f64;
        found.largest_logit = found.largest_logit.max(x.abs());
    }
    found.limit = tolerance * found.largest_logit.max(1.0);
    let sound = a.len() == b.len() && !a.is_empty() && found.max <= found.limit;
    let message = || {
        format!(
            "the rotated model does not compute what its source does: logits differ by up to {:.3e}, and {:.3e} is allowed; nothing is written",
            found.max, found.limit
        )
    };
    if sound { Ok(found) } else { Err(Error::new(Code::RotationOff, message())) }
}
