//! A head that a checkpoint stores although its configuration ties it to the embedding.
//!
//! transformers keeps such a head if its values differ from the embedding's, so a rotation always keeps it: equal values
//! give equal results. The plan reads headers only; [`comparison`] is the plan that compares the values.

use super::{OutputOp, RotationRules, StreamRole};
use crate::format::Checkpoint;
use crate::metric::Measurements;
use crate::model::family::rules;
use crate::plan::{Grid, MetricSet, Operand, Output, Plan, Segment, Side, ThinVec, Warning};
use crate::recipe::Reason;
use crate::recipe::rotation::RotationOptions;
use crate::tensor::TensorInfo;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// A stored head and the embedding that `config.json` ties it to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TiedHead {
    /// Name of the head.
    pub head: String,
    /// Name of the embedding.
    pub embedding: String,
    /// Elements that differ by more than rounding.
    pub differing: u64,
    /// Elements of the head.
    pub elements: u64,
}

impl TiedHead {
    /// The result of a [`comparison`], from the measurements of its only output.
    pub fn of(checkpoint: &Checkpoint, plan: &Plan, measured: &Measurements) -> Option<TiedHead> {
        let output = plan.outputs.first()?;
        let against = output.segments.first()?.against.as_deref()?;
        let embedding = checkpoint.tensors.get(against.tensor as usize)?;
        Some(TiedHead {
            head: output.name.to_string(),
            embedding: embedding.name.to_string(),
            differing: measured.beyond_rounding().count,
            elements: output.shape.numel(),
        })
    }

    /// The warning about two tensors that contradict each other; `None` if they are equal but for rounding.
    pub fn warning(&self) -> Option<Warning> {
        let message = format!(
            "{} differs from {} in {} of {} elements, although config.json ties them: the stored head is kept",
            self.head, self.embedding, self.differing, self.elements
        );
        (self.differing > 0).then(|| Warning::new("tied_head_differs", message))
    }
}

/// The index of the embedding that has the shape of tensor `head`. Tables of positions are embeddings too, of another shape.
pub(super) fn embedding(rules: &RotationRules, tensors: &[TensorInfo], head: usize) -> Option<usize> {
    let shape = &tensors.get(head)?.shape;
    let matches = |(part, tensor): (&super::RotationRoles, &TensorInfo)| {
        matches!(part.stream, StreamRole::Embedding { .. }) && tensor.shape == *shape
    };
    rules.parts.iter().zip(tensors).position(matches)
}

/// The indices of a stored head and of its embedding, if the configuration ties them and the stream is rotated.
fn stored_head(
    rules: &RotationRules,
    options: RotationOptions,
    tensors: &[TensorInfo],
) -> Option<(usize, usize)> {
    if !(rules.tied && options.stream) || rules.untied_head.is_some() {
        return None;
    }
    let head = rules.parts.iter().position(|p| matches!(p.stream, StreamRole::Head { .. }))?;
    Some((head, embedding(rules, tensors, head)?))
}

/// The warning of the plan about a stored head.
pub(super) fn warning(
    rules: &RotationRules,
    options: RotationOptions,
    original: &Checkpoint,
) -> Option<Warning> {
    let (head, embedding) = stored_head(rules, options, &original.tensors)?;
    let (head, embedding) = (original.tensors.get(head)?, original.tensors.get(embedding)?);
    let message = format!(
        "{} is stored although config.json ties it to {}: the stored head is rotated and kept",
        head.name, embedding.name
    );
    Some(Warning::new("tied_head_stored", message))
}

/// The plan that compares a stored head with the embedding that `config.json` ties it to. Both operands are of the same
/// checkpoint. `None` if `plan` rotates no stream, or no such head is stored.
pub fn comparison(checkpoint: &Checkpoint, plan: &Plan) -> Option<Plan> {
    let options = plan.conversion.as_ref()?.recipe.rotate?;
    let rules = rules(checkpoint.config.as_deref(), &checkpoint.tensors).ok()?;
    let (head, embedding) = stored_head(&rules, options, &checkpoint.tensors)?;
    let (tensor, other) = (checkpoint.tensors.get(head)?, checkpoint.tensors.get(embedding)?);
    let grid = Grid::of(&tensor.shape);
    let from = Operand::whole(Side::Source, head, tensor);
    let against = Box::new(Operand::whole(Side::Candidate, embedding, other));
    let segment = Segment { against: Some(against), ..Segment::whole(grid, from, OutputOp::Measure) };
    let output = Output {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        grid,
        place: None,
        streams: ThinVec::new(),
        segments: segment.into(),
        metrics: MetricSet { rounding: true, ..MetricSet::default() },
        reason: Reason { code: "tied_head", text: "".into() }.into(),
    };
    Some(Plan::of_measurements(Vec::from([output]), Vec::new()))
}
