//! Outputs of a GGUF that is made of a Hugging Face checkpoint: each tensor is made of parts of the checkpoint's, as
//! [`gguf_tensors`](crate::model::gguf_tensors) says.
//!
//! A rotation is planned on the source's tensors first; the parts take over its steps.

use super::{
    Axis, ColumnRange, Grid, MetricSet, NonFinite, Op, Operand, Output, OutputOp, RowMap, Segment, Side,
    ThinVec,
};
use crate::dtype::{DType, DTypeKind};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Container, companions};
use crate::model::arch::Arch;
use crate::model::config::hyperparameters::hyperparameters;
use crate::model::gguf_tensors::{self, GgufTensor, GgufTensorOptions, Order, Part, ValueStep, kept_f32};
use crate::model::tokenizer::{TokenizerInput, TokenizerKeys, tokenizer_keys};
use crate::quant::Encoding;
use crate::recipe::presets::Preset;
use crate::recipe::select::{HeadCopy, TypeChoice};
use crate::recipe::{Action, Decision, Reason, Recipe, TargetName, TensorNaming};
use crate::tensor::{Name, TensorInfo};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// A Hugging Face checkpoint as the tensors of a GGUF.
pub(super) struct GgufMapping {
    /// The configuration of the checkpoint.
    pub(super) config: Value,
    /// The architecture of the GGUF.
    pub(super) arch: &'static Arch,
    /// The tensors, and what was left out.
    pub(super) tensors: gguf_tensors::GgufTensors,
    /// The checkpoint with the GGUF's names and shapes, one tensor for each with a source. Offsets are those of the first
    /// source.
    pub(super) logical: Checkpoint,
    /// The names of the first sources, for each tensor of `logical`.
    pub(super) sources: Vec<Name>,
    /// The type of the file, where it has one: that of the recipe, or that of the source.
    pub(super) outtype: Option<DType>,
}

impl GgufMapping {
    /// The mapping of a conversion; `None` where tensors keep their names: for other targets and containers, for sources
    /// without a `config.json`, and where the recipe says so.
    ///
    /// # Errors
    ///
    /// Those of [`gguf_tensors::convertible`] and [`gguf_tensors::gguf_tensors`].
    pub(super) fn of(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Option<GgufMapping>> {
        if !cfg!(feature = "conversion") {
            let message = "this build does not convert Hugging Face folders to GGUF names";
            let refused = Err(Error::new(Code::UnsupportedContainer, message));
            return if recipe.names == TensorNaming::Gguf { refused } else { Ok(None) };
        }
        let wanted = match recipe.names {
            TensorNaming::Gguf => true,
            TensorNaming::Source => false,
            TensorNaming::Auto => companions::has_tokenizer(checkpoint),
        };
        let applies =
            wanted && recipe.to == TargetName::Gguf && checkpoint.container == Container::Safetensors;
        let config = checkpoint.config.as_deref().or_else(|| checkpoint.companion_files.get("params.json"));
        let config = config.filter(|_| applies).and_then(|c| serde_json::from_slice::<Value>(c).ok());
        let Some(config) = config.filter(gguf_tensors::is_configuration) else { return Ok(None) };
        let arch = gguf_tensors::convertible(&config)?;
        let options = mapping_options(recipe);
        let tensors = gguf_tensors::gguf_tensors(arch, &config, &checkpoint.tensors, options)
            .map_err(|e| with_tokenizer_finding(e, checkpoint, recipe, arch, &config))?;
        let mut logical = checkpoint.clone();
        logical.tensors = tensors.tensors.iter().filter_map(|t| as_tensor(t, &checkpoint.tensors)).collect();
        let outtype = outtype(recipe, &logical.tensors);
        let first = |t: &GgufTensor| Some(checkpoint.tensors.get(t.parts.first()?.source)?.name.clone());
        let sources = tensors.tensors.iter().filter_map(first).collect();
        Ok(Some(GgufMapping { config, arch, tensors, logical, sources, outtype }))
    }
}

impl GgufMapping {
    /// The place of a head and its embedding among the tensors of `logical`.
    pub(super) fn head_copy(&self, copy: HeadCopy) -> Option<HeadCopy> {
        let sourced = || self.tensors.tensors.iter().filter(|t| !t.parts.is_empty());
        let of = |source| sourced().position(|t| t.parts.first().is_some_and(|p| p.source == source));
        Some(HeadCopy { head: of(copy.head)?, embedding: of(copy.embedding)? })
    }
}

/// The options of a recipe that decide which tensors a GGUF has.
fn mapping_options(recipe: &Recipe) -> GgufTensorOptions {
    let options = &recipe.gguf;
    GgufTensorOptions {
        no_mtp: options.no_mtp,
        fuse_qkv: options.fuse_qkv,
        fuse_gate_up_exps: options.fuse_gate_up_exps,
    }
}

/// The findings in the tensors with that in the tokenizer, if there is one.
fn with_tokenizer_finding(
    error: Error,
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    arch: &'static Arch,
    config: &Value,
) -> Error {
    let wrong = tokenizer_keys_of(checkpoint, recipe, arch, config).err();
    let all =
        wrong.filter(|_| error.code() == Code::UnmappedTensors && companions::has_tokenizer(checkpoint));
    match all {
        Some(tokenizer) => {
            let message = format!("{}; the tokenizer: {tokenizer}", error.detail().message);
            error.explained(Code::UnmappedTensors, message)
        }
        None => error,
    }
}

/// `tokenizer.*` of a checkpoint.
///
/// # Errors
///
/// Those of [`tokenizer_keys`].
pub(super) fn tokenizer_keys_of(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    arch: &'static Arch,
    config: &Value,
) -> Result<TokenizerKeys> {
    let hyper = Value::Object(hyperparameters(config)?.values().clone());
    tokenizer_keys(&TokenizerInput {
        companions: &checkpoint.companion_files,
        config,
        hyper: &hyper,
        arch,
        pre_tokenizer: recipe.pre_tokenizer.as_deref(),
        check_text_ids: checkpoint.check_text_ids.as_deref(),
        compat: recipe.compat,
    })
}

/// A GGUF tensor with the type and place of its first source; `None` where it has none.
fn as_tensor(gguf: &GgufTensor, tensors: &[TensorInfo]) -> Option<TensorInfo> {
    let first = tensors.get(gguf.parts.first()?.source)?;
    Some(TensorInfo { name: gguf.name.as_str().into(), shape: gguf.shape.clone(), ..first.clone() })
}

/// The choice for a tensor of a mapped GGUF: the recipe's, but what every GGUF holds as F32 stays F32, and the recipes that
/// llama.cpp's converter has too follow its rules.
pub(super) fn choice(outtype: Option<DType>, tensor: &TensorInfo, choice: TypeChoice) -> TypeChoice {
    let kept = kept_f32(&tensor.name, tensor.shape.axes().len());
    let f32 = |code, text: &'static str| TypeChoice::To(DType::F32, Reason { code, text: text.into() });
    let asked = matches!(&choice, TypeChoice::To(_, why) if why.code == "asked");
    match (outtype, choice) {
        (_, choice @ TypeChoice::LeaveOut(_)) => choice,
        (_, choice @ TypeChoice::To(..)) if asked => choice,
        _ if kept && tensor.dtype.kind() == DTypeKind::Float => f32("kept_f32", "engines read it as F32"),
        (Some(_), _) if tensor.packed.is_some() && tensor.dtype.is_quantized() => {
            let text = format!("{} stays, without loss", tensor.dtype);
            TypeChoice::Keep(Reason { code: "same_type", text: text.into() })
        }
        (Some(dtype), _) if !tensor.shape.cols().is_multiple_of(dtype.block_len()) => {
            let text = "rows are no whole blocks of the type";
            TypeChoice::To(DType::F16, Reason { code: "fallback", text: text.into() })
        }
        (Some(dtype), _) => TypeChoice::To(dtype, Reason { code: "weight", text: "weight".into() }),
        (None, choice) => choice,
    }
}

/// The type of the file, if the recipe is one of the converter's. A recipe without a type keeps the source's precision: the
/// type of its first matrix in a 16-bit type, else F32.
fn outtype(recipe: &Recipe, tensors: &[TensorInfo]) -> Option<DType> {
    let short = |t: &&TensorInfo| t.shape.axes().len() >= 2 && matches!(t.dtype, DType::F16 | DType::BF16);
    match (recipe.preset, recipe.dtype) {
        (None, None) => Some(tensors.iter().find(short).map_or(DType::F32, |t| t.dtype)),
        (Some(Preset::F32), _) => Some(DType::F32),
        (Some(Preset::BF16), _) => Some(DType::BF16),
        (Some(Preset::F16), _) => Some(DType::F16),
        (Some(Preset::Q8_0), _) if !recipe.leave_output => Some(DType::Q8_0),
        _ => None,
    }
}

/// The output of a generated tensor.
pub(super) fn generated(gguf: &GgufTensor) -> Result<Output> {
    let bytes = gguf.generated.iter().flat_map(|v| v.to_le_bytes()).collect();
    Output::generated(gguf.name.as_str().into(), DType::F32, gguf.shape.clone(), bytes)
}

/// Makes outputs of GGUF tensors.
pub(super) struct Composer<'a> {
    pub(super) tensors: &'a [TensorInfo],
    pub(super) recipe: &'a Recipe,
    /// The outputs of the source's tensors after a rotation, by name; empty without one.
    pub(super) rotated: BTreeMap<&'a str, &'a Output>,
    pub(super) measure: bool,
}

impl Composer<'_> {
    /// Whether a rotation leaves out a source of `gguf`.
    pub(super) fn is_left_out(&self, gguf: &GgufTensor) -> bool {
        let there =
            |p: &Part| self.tensors.get(p.source).is_some_and(|t| self.rotated.contains_key(t.name.as_str()));
        !self.rotated.is_empty() && !gguf.parts.iter().all(there)
    }

    /// The output of `gguf`, whose type `decision` decides.
    ///
    /// # Errors
    ///
    /// `unsupported_rotation` if parts of a rotated tensor cannot be taken alone.
    pub(super) fn output(
        &self,
        gguf: &GgufTensor,
        logical: &TensorInfo,
        decision: Decision,
    ) -> Result<Output> {
        let simple = self.rotated.is_empty() && gguf.step == ValueStep::None;
        if let (true, [Part { source, view, .. }]) = (simple, &*gguf.parts)
            && view.order == Order::Rows
            && self.tensors.get(*source).is_some_and(|t| t.shape.numel() == gguf.shape.numel())
            && view.cols == gguf.cols
        {
            return Ok(Output::converted(*source, logical, decision, self.recipe, self.measure));
        }
        let op = self.op(gguf, logical, &decision);
        let mut segments: Vec<Segment> = Vec::with_capacity(gguf.parts.len());
        let mut rows = 0_u64;
        for part in &gguf.parts {
            let made = self.segments(gguf, part, rows, op);
            segments.extend(made.map_err(|e| e.of_tensor(&logical.name))?);
            rows += part.rows;
        }
        let dtype = match op {
            OutputOp::Copy => logical.dtype,
            op => op.dtype().unwrap_or(logical.dtype),
        };
        let dtype = segments.first().and_then(|s| s.op.dtype()).unwrap_or(dtype);
        let nonfinite = if self.recipe.allow_nonfinite { NonFinite::Counted } else { NonFinite::Refused };
        let error = self.measure && matches!(op, OutputOp::Encode(_));
        Ok(Output {
            name: logical.name.clone(),
            dtype,
            shape: gguf.shape.clone(),
            grid: Grid { rows, cols: gguf.cols },
            place: None,
            streams: ThinVec::new(),
            segments: segments.into(),
            metrics: MetricSet { error, nonfinite, ..MetricSet::default() },
            reason: decision.reason,
        })
    }

    /// What happens to the values of a tensor: rows that keep their type and order are copied.
    fn op(&self, gguf: &GgufTensor, logical: &TensorInfo, decision: &Decision) -> OutputOp {
        let rows = |p: &Part| {
            let plain = matches!(p.view.order, Order::Rows | Order::Permute { .. });
            let source = self.tensors.get(p.source);
            // A window of a packed weight is made of its parts anyway.
            let whole = p.view.cols == gguf.cols || source.is_some_and(|t| t.packed.is_some());
            plain && whole && source.map(|t| t.dtype) == Some(logical.dtype)
        };
        match decision.action {
            Action::Copy if gguf.step == ValueStep::None && gguf.parts.iter().all(rows) => OutputOp::Copy,
            Action::Copy => OutputOp::Encode(Encoding::Type(logical.dtype)),
            Action::Transcode(dtype) => OutputOp::Encode(Encoding::Type(dtype)),
            Action::Encode(encoding) => OutputOp::Encode(encoding),
        }
    }

    /// The segments of a part, from row `at` of the output.
    fn segments(&self, gguf: &GgufTensor, part: &Part, at: u64, op: OutputOp) -> Result<Vec<Segment>> {
        let missing = || Error::new(Code::UnmappedTensors, "a source tensor is missing");
        let tensor = self.tensors.get(part.source).ok_or_else(missing)?;
        let rotated = self.rotated.get(tensor.name.as_str());
        let mut segments = match rotated.filter(|o| o.segments.iter().any(|s| !s.from.ops.is_empty())) {
            Some(output) => rotated_segments(output, part, at)?,
            None => {
                let view = part.view;
                let columns = ColumnRange { at: view.col, of: view.cols };
                let narrow =
                    view.col != 0 || view.cols != gguf.cols || matches!(view.order, Order::Transpose { .. });
                let from = Operand {
                    row: view.row,
                    columns: narrow.then(|| Box::new(columns)),
                    map: row_map(view.order),
                    ..Operand::whole(Side::Source, part.source, tensor)
                };
                let rows = at..at + part.rows;
                Vec::from([Segment { rows, from, against: None, importance: None, gain: None, op }])
            }
        };
        for segment in &mut segments {
            match gguf.step {
                ValueStep::None => continue,
                ValueStep::AddOne => segment.from.ops.push(Op::Add(1.0)),
                ValueStep::NegExp => segment.from.ops.push(Op::NegExp),
            }
            if tensor.dtype == DType::F16 {
                segment.from.ops.push(Op::RoundF16);
            }
        }
        Ok(segments)
    }
}

pub(super) fn row_map(order: Order) -> RowMap {
    match order {
        Order::Rows => RowMap::Identity,
        Order::Permute { head } => RowMap::Permute { head },
        Order::Transpose { step } => RowMap::Transpose { step },
        Order::SwapColumns { outer, inner, width } => RowMap::SwapColumns { outer, inner, width },
    }
}

fn refuse(message: &'static str) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}

/// The segments of a part of a rotated tensor.
fn rotated_segments(output: &Output, part: &Part, at: u64) -> Result<Vec<Segment>> {
    let view = part.view;
    if view.order == Order::Rows
        && let Some(segments) = rows_side_by_side(output, part, at)
    {
        return Ok(segments);
    }
    if view.cols != output.grid.cols {
        return Err(refuse("a rotated tensor cannot have another shape in a GGUF"));
    }
    match view.order {
        Order::Rows if view.col == 0 => rows_of(output, view.row, part.rows, at),
        Order::Permute { head } => {
            let mut segments = rows_of(output, view.row, part.rows, at)?;
            match &mut *segments {
                [one] if !one.runs_along_rows() => one.from.map = RowMap::Permute { head },
                _ => return Err(refuse("rows that a rotation mixes cannot be interleaved")),
            }
            Ok(segments)
        }
        Order::Transpose { step } => transposed(output, part, step, at),
        Order::Rows | Order::SwapColumns { .. } => {
            Err(refuse("columns that a rotation mixes cannot be moved"))
        }
    }
}

/// Rows of a rotated packed weight that lie side by side with others in the view of `part`, if no rotation mixes rows.
fn rows_side_by_side(output: &Output, part: &Part, at: u64) -> Option<Vec<Segment>> {
    let [one] = &*output.segments else { return None };
    let view = part.view;
    let beside = view.cols != output.grid.cols && view.cols.is_multiple_of(output.grid.cols);
    if !beside || one.from.packed.is_none() || one.runs_along_rows() || view.row != 0 {
        return None;
    }
    let columns = Some(Box::new(ColumnRange { at: view.col, of: view.cols }));
    let from = Operand { columns, ..one.from.clone() };
    Some(Vec::from([Segment { rows: at..at + part.rows, from, ..one.clone() }]))
}

/// Rows `first..first + rows` of a rotated output, as segments from row `at` on.
fn rows_of(output: &Output, first: u64, rows: u64, at: u64) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for segment in &output.segments {
        let (start, end) = (segment.rows.start.max(first), segment.rows.end.min(first + rows));
        if start >= end {
            continue;
        }
        let cut = (start, end) != (segment.rows.start, segment.rows.end);
        if cut && segment.runs_along_rows() {
            return Err(refuse("rows that a rotation mixes cannot be split"));
        }
        segments.push(segment.slice(start..end, at + (start - first)));
    }
    Ok(segments)
}

/// A transposed part: what ran along the rows runs along the columns.
fn transposed(output: &Output, part: &Part, step: u64, at: u64) -> Result<Vec<Segment>> {
    let view = part.view;
    let whole = |s: &&Segment| s.rows.start <= view.row && s.rows.end > view.row;
    let segment =
        output.segments.iter().find(whole).ok_or_else(|| refuse("a rotated tensor has no such rows"))?;
    let along_rows = segment.from.ops.iter().any(|op| op.axis() == Some(Axis::Out));
    let along_columns = segment.from.ops.iter().any(|op| op.axis() == Some(Axis::In));
    let all_columns = view.col == 0 && step == 1 && part.rows == view.cols;
    if (along_rows && segment.rows.start != view.row) || (along_columns && !all_columns) {
        return Err(refuse("values that a rotation mixes cannot be split"));
    }
    let turn = |axis: Axis| if axis == Axis::Out { Axis::In } else { Axis::Out };
    let mut from = segment.from.clone();
    from.row += view.row - segment.rows.start;
    from.map = RowMap::Transpose { step };
    from.columns = Some(Box::new(ColumnRange { at: view.col, of: view.cols }));
    for op in from.ops.iter_mut() {
        *op = match *op {
            Op::Gain(axis) => Op::Gain(turn(axis)),
            Op::Ungain(axis) => Op::Ungain(turn(axis)),
            Op::Rotate(rotation) => Op::Rotate(super::RotationOp { axis: turn(rotation.axis), ..rotation }),
            other => other,
        };
    }
    Ok(Vec::from([Segment { rows: at..at + part.rows, from, ..segment.clone() }]))
}
