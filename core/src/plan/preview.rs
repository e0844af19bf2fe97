//! What rotations would do to the error of each encoding: plans that measure tensors as they are and as they would be.
//!
//! Where the rules of the model's family are known, a rotated tensor is what a rotated conversion would encode: gains folded
//! in, turned on the side that lies on the stream. Where they are not, or no exact rotation of the model exists, every row is
//! turned by itself without any gain: a preview of the encoding, not of a model.

use super::measure::{DETAILS_WEIGHTS, sweep, sweep_encodings};
use super::rotate::{RotationPlanner, stream_form};
use super::source_tensors::TensorNames;
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

/// A plan of measurements, and what belongs together in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Every tensor as it is, then every rotated one.
    pub plan: Plan,
    /// The wishes by name, in their order.
    pub rotations: Vec<String>,
    /// Of each tensor as it is (outputs from the first on), a frame for each wish.
    pub frames: Vec<Vec<Frame>>,
    /// The seed of all signs.
    pub seed: u64,
}

/// One tensor under one rotation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    /// The output that measures it; absent where there is nothing to measure.
    #[serde(skip)]
    pub output: Option<usize>,
    /// The side that was turned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub along: Option<Axis>,
    /// Whether the gain of its norm is in it.
    pub folded: bool,
    /// Whether it is turned as the rules of its family say.
    pub by_rules: bool,
    /// Why there is nothing to measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// The wishes that `words` name, each `quarot`, `block:N`, `fold` or `r2`; `none`, which is always measured, names none.
pub fn wishes<S: AsRef<str>>(words: &[S], seed: u64) -> Result<Vec<RotationOptions>> {
    let mut all: Vec<RotationOptions> = Vec::new();
    for word in words.iter().map(AsRef::as_ref).filter(|w| *w != "none") {
        let wish = RotationOptions::parse(word, seed)?;
        if all.contains(&wish) {
            return Err(Error::new(Code::Usage, format!("{word:?} is named twice")));
        }
        all.push(wish);
    }
    Ok(all)
}

/// What `wish` is called.
fn name(wish: &RotationOptions) -> String {
    let whole = if wish.fold { "fold" } else { "quarot" };
    let stream = wish.block.map_or_else(|| whole.to_string(), |n| format!("block:{n}"));
    match (wish.stream, wish.heads) {
        (true, true) => format!("{stream},r2"),
        (true, false) => stream,
        (false, _) => "r2".into(),
    }
}

/// How a wish can be carried out.
enum PreviewMethod<'a> {
    /// By the rules of the family.
    Rules(Box<RotationPlanner<'a>>),
    /// Row by row, for want of rules.
    Rows(Form),
    /// Not at all.
    Absent(String),
}

/// Measures each of `encodings` on the tensors that `wanted` says, as they are and under each of `wishes`.
///
/// Moments and histogram are those of each frame. What cannot be rotated, or whose rotation is not the model's, is said of each
/// tensor or in a warning.
pub fn preview(
    checkpoint: &Checkpoint,
    encodings: &[Encoding],
    wishes: &[RotationOptions],
    wanted: &dyn Fn(&TensorInfo) -> bool,
) -> Result<Preview> {
    let mut plan = sweep(checkpoint, encodings, None, wanted)?;
    plan.outputs.iter_mut().for_each(|o| o.metrics.histogram = true);
    let mut frames = vec![Vec::new(); plan.outputs.len()];
    let names = TensorNames::of(checkpoint);
    for wish in wishes {
        let way = way(checkpoint, wish, &mut plan.warnings);
        for (slot, frames) in frames.iter_mut().enumerate() {
            let Some(plain) = plan.outputs.get(slot) else { continue };
            let index = plain.segments.first().map_or(0, |p| p.from.tensor as usize);
            let Some(tensor) = checkpoint.tensors.get(index) else { continue };
            let turned = match names.missing_scale(tensor) {
                Some(_) => Err("its scale is another tensor".to_string()),
                None => way.turned(wish, index, tensor),
            };
            let by_rules = matches!(way, PreviewMethod::Rules(_));
            let mut frame = Frame { output: None, along: None, folded: false, by_rules, absent: None };
            match turned {
                Err(why) => frame.absent = Some(why),
                Ok(turned) => {
                    frame.output = Some(plan.outputs.len());
                    frame.along = turned.along();
                    frame.folded = turned.folded;
                    let output =
                        Output { grid: turned.grid, segments: turned.pieces.into(), ..plain.clone() };
                    plan.outputs.push(output);
                }
            }
            frames.push(frame);
        }
    }
    let seed = wishes.first().map_or(0, |w| w.seed);
    Ok(Preview { plan, rotations: wishes.iter().map(name).collect(), frames, seed })
}

/// What a page shows of one tensor and `wishes`: every encoding of a sweep. A large tensor is sampled, in every frame.
pub fn tensor_details(checkpoint: &Checkpoint, index: usize, wishes: &[RotationOptions]) -> Result<Preview> {
    let missing = || Error::new(Code::NoSuchTensor, format!("there is no tensor number {index}"));
    let tensor = checkpoint.tensors.get(index).ok_or_else(missing)?;
    let mut seen = preview(checkpoint, &sweep_encodings(), wishes, &|t| core::ptr::eq(t, tensor))?;
    if tensor.shape.numel() > DETAILS_WEIGHTS {
        sample(&mut seen.plan, DETAILS_WEIGHTS / tensor.shape.cols().max(1));
    }
    Ok(seen)
}

/// Decides how `wish` is carried out, and warns where it is not by the rules.
fn way<'a>(
    checkpoint: &'a Checkpoint,
    wish: &RotationOptions,
    warnings: &mut Vec<Warning>,
) -> PreviewMethod<'a> {
    let known = rules(checkpoint.config.as_deref(), &checkpoint.tensors);
    let refused = match &known {
        Err(e) => Some(("no family rules", e)),
        Ok(_) => None,
    };
    let inexact = known.as_ref().ok().and_then(|rules| stream_form(rules, wish).err());
    let told = refused.or(inexact.as_ref().map(|e| ("no exact rotation of this model", e)));
    let Some((short, error)) = told else {
        return RotationPlanner::new(checkpoint, checkpoint, *wish, None).map_or_else(
            |e| PreviewMethod::Absent(e.detail().message.clone()),
            |t| PreviewMethod::Rules(Box::new(t)),
        );
    };
    let because = &error.detail().message;
    if wish.fold || !wish.stream {
        let what = if wish.fold { "the gains" } else { "the values of heads" };
        return PreviewMethod::Absent(format!("{what} are not known: {because}"));
    }
    let message = format!(
        "{}: {short}, so rows are turned by themselves (input side, gains not folded), a preview of the encoding only: {because}",
        name(wish)
    );
    warnings.push(Warning::new("not_by_rules", message));
    PreviewMethod::Rows(wish.block.map_or(Form::Full, Form::Block))
}

/// A rotated tensor.
struct RotatedTensorPlan {
    grid: Grid,
    pieces: Vec<Segment>,
    folded: bool,
}

impl RotatedTensorPlan {
    /// The side that is turned; none, where gains are only folded in.
    fn along(&self) -> Option<Axis> {
        let turn = |op: &Op| match op {
            Op::Rotate(turn) => Some(turn.axis),
            _ => None,
        };
        self.pieces.first()?.from.ops.iter().find_map(turn)
    }
}

impl PreviewMethod<'_> {
    /// Tensor `index` under the wish, or why not.
    fn turned(
        &self,
        wish: &RotationOptions,
        index: usize,
        tensor: &TensorInfo,
    ) -> core::result::Result<RotatedTensorPlan, String> {
        let said = |e: Error| e.detail().message.clone();
        match self {
            PreviewMethod::Absent(why) => Err(why.clone()),
            PreviewMethod::Rules(turning) => {
                let seen = turning.seen(index).map_err(said)??;
                Ok(RotatedTensorPlan { grid: seen.grid, pieces: seen.pieces, folded: seen.folded })
            }
            PreviewMethod::Rows(form) => row_by_row(*form, wish.seed, index, tensor).map_err(said),
        }
    }
}

/// Every row turned as it stands.
fn row_by_row(form: Form, seed: u64, index: usize, tensor: &TensorInfo) -> Result<RotatedTensorPlan> {
    if tensor.shape.axes().len() < 2 {
        return Err(Error::new(Code::UnsupportedRotation, "a vector, which is on no side of a product"));
    }
    let len = tensor.shape.cols();
    // Says so where there is no such matrix.
    Rotation::new(len, form, seed)?;
    let grid = Grid::of(&tensor.shape);
    let turn = RotationOp { axis: Axis::In, at: 0, len, form, seed };
    let from = Operand { ops: vec![Op::Rotate(turn)].into(), ..Operand::whole(Side::Source, index, tensor) };
    let segments = vec![Segment::whole(grid, from, OutputOp::Measure)];
    Ok(RotatedTensorPlan { grid, pieces: segments, folded: false })
}
