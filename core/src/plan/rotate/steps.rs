//! The steps on one tensor that a rotation consists of: gain, rotation of the residual stream, rotation of heads.

use super::grid_layout::GridLayout;
use super::{RotationPlanner, refuse};
use crate::error::Result;
use crate::model::family::{HeadRole, HeadsVerdict, RotationRoles, StreamRole, ValueHeads};
use crate::plan::{Axis, Grid, Op, Operand, OutputOp, RotationOp, Segment, Side};
use crate::rotation::Form;
use crate::rotation::signs::block_seed;
use crate::tensor::TensorInfo;
use alloc::vec::Vec;

/// The steps on a tensor, and the grid that they run on.
pub(super) struct TensorSteps {
    pub(super) ops: Vec<Op>,
    /// Index of the norm whose gain the steps take, and the constant to add to it.
    pub(super) gain: Option<(usize, f64)>,
    pub(super) grid: Grid,
    /// Rows that are rotated together; a segment each.
    rows: u64,
    /// The reason, for people.
    pub(super) words: &'static str,
}

/// The part of the steps that the residual stream asks for.
struct StreamSteps {
    ops: Vec<Op>,
    gain: Option<(usize, f64)>,
    words: &'static str,
}

impl RotationPlanner<'_> {
    /// The steps that `tensor` needs in these roles; none if it stays as it is.
    pub(super) fn steps(&self, roles: &RotationRoles, tensor: &TensorInfo) -> Result<TensorSteps> {
        let axes = tensor.shape.axes();
        let stream_axis = match roles.stream {
            StreamRole::Embedding { axis }
            | StreamRole::Writer { axis }
            | StreamRole::Reader { axis, .. }
            | StreamRole::Head { axis, .. } => Some(axis),
            StreamRole::NormBias { .. } | StreamRole::Norm { .. } => axes.len().checked_sub(1),
            StreamRole::Untouched | StreamRole::Mtp => None,
        };
        let rotated = [stream_axis, roles.heads.map(|h| h.axis)];
        let layout = GridLayout::of(axes, rotated.into_iter().flatten())?;
        let stream = stream_axis.map(|axis| self.stream_steps(roles.stream, layout.side(axis)));
        let StreamSteps { mut ops, gain, mut words } =
            stream.unwrap_or(StreamSteps { ops: Vec::new(), gain: None, words: "" });
        if let (Some(role), HeadsVerdict::Exact(heads)) = (&roles.heads, &self.rules.heads) {
            ops.extend(self.head_rotations(heads, role, layout.side(role.axis)));
            words = if words.is_empty() { "values of heads rotated" } else { words };
        }
        let along_rows = ops.iter().any(|op| op.axis() == Some(Axis::Out));
        let rows = if along_rows { layout.height } else { layout.grid.rows };
        Ok(TensorSteps { ops, gain, grid: layout.grid, rows, words })
    }

    /// The steps along the residual stream, which lies on `side`.
    fn stream_steps(&self, role: StreamRole, side: Axis) -> StreamSteps {
        let fold = self.options.fold;
        let rotation = (!fold).then_some(Op::Rotate(RotationOp {
            axis: side,
            at: 0,
            len: self.rules.hidden,
            form: self.form,
            seed: self.options.seed,
        }));
        let (first, gain, words) = match role {
            StreamRole::Norm { form } => {
                let ops = Vec::from([Op::Set(form.neutral() as f32)]);
                return StreamSteps { ops, gain: None, words: "gain folded into its readers" };
            }
            StreamRole::Reader { fold: norm, .. } | StreamRole::Head { fold: norm, .. } => {
                let words =
                    if fold { "gain of its norm folded in" } else { "gain of its norm folded in, rotated" };
                (Some(Op::Gain(side)), Some((norm, self.plus(norm))), words)
            }
            StreamRole::NormBias { of } => {
                let words = if fold {
                    "divided by the gain of its norm"
                } else {
                    "divided by the gain of its norm, rotated"
                };
                (Some(Op::Ungain(side)), Some((of, self.plus(of))), words)
            }
            _ => (None, None, if fold { "" } else { "rotated" }),
        };
        StreamSteps { ops: first.into_iter().chain(rotation).collect(), gain, words }
    }

    /// A rotation for the value vector of each head.
    fn head_rotations(&self, heads: &ValueHeads, role: &HeadRole, axis: Axis) -> impl Iterator<Item = Op> {
        let layer = block_seed(!self.options.seed, role.layer.into());
        let len = heads.length;
        heads.spans(role).to_vec().into_iter().map(move |span| {
            let seed = block_seed(layer, span.matrix.into());
            Op::Rotate(RotationOp { axis, at: span.at, len, form: Form::Full, seed })
        })
    }

    /// The constant that is added to the stored gain of a norm.
    fn plus(&self, norm: usize) -> f64 {
        match self.rules.parts.get(norm).map(|p| p.stream) {
            Some(StreamRole::Norm { form }) => form.plus(),
            _ => 0.0,
        }
    }

    /// The segments of tensor number `index` with these steps.
    pub(super) fn segments(
        &self,
        (index, tensor): (usize, &TensorInfo),
        steps: TensorSteps,
        op: OutputOp,
    ) -> Result<Vec<Segment>> {
        let gain = steps.gain.map(|(norm, plus)| self.gain(norm, plus)).transpose()?.map(Into::into);
        let from = Operand { ops: steps.ops.into(), ..Operand::whole(Side::Source, index, tensor) };
        let rows = steps.rows.max(1);
        let segment = |first: u64| Segment {
            rows: first..(first + rows).min(steps.grid.rows),
            gain: gain.clone(),
            ..Segment::whole(steps.grid, Operand { row: first, ..from.clone() }, op)
        };
        Ok((0..steps.grid.rows).step_by(rows as usize).map(segment).collect())
    }

    fn gain(&self, norm: usize, plus: f64) -> Result<Operand> {
        let tensor = self.tensors.get(norm).ok_or_else(|| refuse("its norm is not there".into()))?;
        let mut gain = Operand::whole(self.gains, norm, tensor);
        if plus != 0.0 {
            gain.ops.push(Op::Add(plus as f32));
        }
        Ok(gain)
    }
}
