//! The effect of rotations on the error of each encoding: plans that measure tensors as they are and as rotated.
//!
//! If the rules of the model's family are known, a rotated tensor is what a rotated conversion would encode: gains folded in,
//! rotated on the side of the residual stream. If they are not, or no exact rotation of the model exists, every row is rotated
//! without any gain: a preview of the encoding, not of a model.

use super::measure::{DETAILS_WEIGHTS, sweep, sweep_encodings};
use super::rotate::{RotatedMeasurement, RotationPlanner, stream_form};
use super::{Axis, Grid, Op, Operand, Output, OutputOp, Plan, RotationOp, Segment, Side, Warning, sample};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::model::family::rules;
use crate::quant::Encoding;
use crate::recipe::rotation::RotationOptions;
use crate::rotation::{Form, Rotation};
use crate::tensor::TensorInfo;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde::Serialize;

/// A plan of measurements, and the relation of its outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Every tensor as it is, then every rotated one.
    pub plan: Plan,
    /// The names of the rotations, in their order.
    pub rotations: Vec<String>,
    /// For each tensor as it is (the first outputs of the plan), a frame per rotation.
    pub frames: Vec<Vec<Frame>>,
    /// The seed of all signs.
    pub seed: u64,
}

/// One tensor under one rotation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// Index of the output that measures it; absent if there is nothing to measure.
    #[serde(skip)]
    pub output: Option<usize>,
    /// The side that is rotated; absent if gains are folded only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub along: Option<Axis>,
    /// Whether the gain of its norm is folded in.
    pub folded: bool,
    /// Whether it is rotated by the rules of its family.
    pub by_rules: bool,
    /// The reason why there is nothing to measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// Parses rotations, each `quarot`, `block:N`, `fold` or `r2`; `none`, which is always measured, is skipped.
///
/// # Errors
///
/// `usage` if a word is unknown or named twice.
pub fn parse_rotations<S: AsRef<str>>(words: &[S], seed: u64) -> Result<Vec<RotationOptions>> {
    let mut all: Vec<RotationOptions> = Vec::new();
    for word in words.iter().map(AsRef::as_ref).filter(|w| *w != "none") {
        let options = RotationOptions::parse(word, seed)?;
        if all.contains(&options) {
            return Err(Error::new(Code::Usage, format!("{word:?} is named twice")));
        }
        all.push(options);
    }
    Ok(all)
}

/// The name of a rotation, as it is typed.
pub fn name(options: &RotationOptions) -> String {
    let whole = if options.fold { "fold" } else { "quarot" };
    let stream = options.block.map_or_else(|| whole.to_string(), |n| format!("block:{n}"));
    match (options.stream, options.heads) {
        (true, true) => format!("{stream},r2"),
        (true, false) => stream,
        (false, _) => "r2".into(),
    }
}

/// The way to rotate a tensor.
enum PreviewMethod<'a> {
    /// By the rules of the family.
    Rules(Box<RotationPlanner<'a>>),
    /// Row by row, because there are no rules.
    Rows(Form),
    /// Not at all, for this reason.
    Absent(String),
}

/// Plans the error of each of `encodings` on the tensors for which `wanted` is true, as they are and under each of
/// `rotations`, with moments and histogram of each.
///
/// A tensor that cannot be rotated has the reason in its frame; a rotation that is not the model's has a warning.
///
/// # Errors
///
/// Those of [`sweep`].
pub fn preview(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    rotations: &[RotationOptions],
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Preview> {
    let mut plan = sweep(checkpoint, encodings, None, wanted)?;
    plan.outputs.iter_mut().for_each(|o| o.metrics.histogram = true);
    let mut frames = vec![Vec::new(); plan.outputs.len()];
    for options in rotations {
        let method = method(checkpoint, options, &mut plan.warnings);
        for (slot, frames) in frames.iter_mut().enumerate() {
            let Some(plain) = plan.outputs.get(slot).cloned() else { continue };
            let index = plain.segments.first().map_or(0, |s| s.from.tensor as usize);
            let Some(tensor) = checkpoint.tensors.get(index) else { continue };
            let rotated = method.rotated(options, index, tensor);
            let by_rules = matches!(method, PreviewMethod::Rules(_));
            frames.push(frame(&mut plan.outputs, plain, rotated, by_rules));
        }
    }
    let seed = rotations.first().map_or(0, |r| r.seed);
    Ok(Preview { plan, rotations: rotations.iter().map(name).collect(), frames, seed })
}

/// Adds the output that measures a rotated tensor, if there is one. `plain` measures the tensor as it is.
fn frame(
    outputs: &mut Vec<Output>,
    plain: Output,
    rotated: core::result::Result<RotatedMeasurement, String>,
    by_rules: bool,
) -> Frame {
    let rotated = match rotated {
        Ok(rotated) => rotated,
        Err(why) => return Frame { output: None, along: None, folded: false, by_rules, absent: Some(why) },
    };
    let frame = Frame {
        output: Some(outputs.len()),
        along: rotated_side(&rotated.segments),
        folded: rotated.folded,
        by_rules,
        absent: None,
    };
    outputs.push(Output { grid: rotated.grid, segments: rotated.segments.into(), ..plain });
    frame
}

/// What a page shows of tensor number `index` under `rotations`: every encoding of a sweep. A large tensor is sampled, in
/// every frame.
///
/// # Errors
///
/// `no_such_tensor` if there is no tensor of that number.
pub fn tensor_details(
    checkpoint: &Checkpoint,
    index: usize,
    rotations: &[RotationOptions],
) -> Result<Preview> {
    let missing = || Error::new(Code::NoSuchTensor, format!("there is no tensor number {index}"));
    let tensor = checkpoint.tensors.get(index).ok_or_else(missing)?;
    let mut details = preview(checkpoint, &sweep_encodings(), rotations, &|t| core::ptr::eq(t, tensor))?;
    if tensor.shape.numel() > DETAILS_WEIGHTS {
        sample(&mut details.plan, DETAILS_WEIGHTS / tensor.shape.cols().max(1));
    }
    Ok(details)
}

/// The way to rotate by `options`, with a warning if it is not by the rules.
fn method<'a>(
    checkpoint: &'a Checkpoint,
    options: &RotationOptions,
    warnings: &mut Vec<Warning>,
) -> PreviewMethod<'a> {
    let known = rules(checkpoint.config.as_deref(), &checkpoint.tensors);
    let refused = match &known {
        Err(e) => Some(("no family rules", e)),
        Ok(_) => None,
    };
    let inexact = known.as_ref().ok().and_then(|rules| stream_form(rules, options).err());
    let reason = refused.or(inexact.as_ref().map(|e| ("no exact rotation of this model", e)));
    let Some((short, error)) = reason else {
        return RotationPlanner::new(checkpoint, checkpoint, *options, None).map_or_else(
            |e| PreviewMethod::Absent(e.detail().message.clone()),
            |t| PreviewMethod::Rules(Box::new(t)),
        );
    };
    let because = &error.detail().message;
    if options.fold || !options.stream {
        let what = if options.fold { "the gains" } else { "the values of heads" };
        return PreviewMethod::Absent(format!("{what} are not known: {because}"));
    }
    let message = format!(
        "{}: {short}, so rows are turned by themselves (input side, gains not folded), a preview of the encoding only: {because}",
        name(options)
    );
    warnings.push(Warning::new("not_by_rules", message));
    PreviewMethod::Rows(options.block.map_or(Form::Full, Form::Block))
}

/// The side that is rotated; `None` if gains are folded only.
fn rotated_side(segments: &[Segment]) -> Option<Axis> {
    let side = |op: &Op| match op {
        Op::Rotate(rotation) => Some(rotation.axis),
        _ => None,
    };
    segments.first()?.from.ops.iter().find_map(side)
}

impl PreviewMethod<'_> {
    /// Tensor number `index` as rotated, or the reason why it cannot be.
    fn rotated(
        &self,
        options: &RotationOptions,
        index: usize,
        tensor: &TensorInfo,
    ) -> core::result::Result<RotatedMeasurement, String> {
        let message = |e: Error| e.detail().message.clone();
        match self {
            PreviewMethod::Absent(why) => Err(why.clone()),
            PreviewMethod::Rules(planner) => Ok(planner.measurement(index).map_err(message)??),
            PreviewMethod::Rows(form) => row_by_row(*form, options.seed, index, tensor).map_err(message),
        }
    }
}

/// Every row rotated as it is.
fn row_by_row(form: Form, seed: u64, index: usize, tensor: &TensorInfo) -> Result<RotatedMeasurement> {
    if tensor.shape.axes().len() < 2 {
        return Err(Error::new(Code::UnsupportedRotation, "a vector, which is on no side of a product"));
    }
    let len = tensor.shape.cols();
    // Fails if there is no such matrix.
    Rotation::new(len, form, seed)?;
    let grid = Grid::of(&tensor.shape);
    let rotation = RotationOp { axis: Axis::In, at: 0, len, form, seed };
    let whole = Operand::whole(Side::Source, index, tensor);
    let from = Operand { ops: vec![Op::Rotate(rotation)].into(), ..whole };
    Ok(RotatedMeasurement {
        grid,
        folded: false,
        segments: vec![Segment::whole(grid, from, OutputOp::Measure)],
    })
}
