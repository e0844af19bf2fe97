//! Turns what a conversion writes: the rules of the family, as steps on every tensor.

use super::{Axis, Grid, Op, Operand, Output, OutputOp, RotationOp, Segment, Side, Warning};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, SourceFile};
use crate::model::family::{
    HeadRole, HeadsVerdict, RotationRoles, RotationRules, StreamRole, StreamVerdict, ValueHeads, rules,
};
use crate::quant::Encoding;
use crate::recipe::Reason;
use crate::recipe::rotation::RotationOptions;
use crate::rotation::signs::block_seed;
use crate::rotation::{Form, RULES, Rotation};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::Serialize;

/// A file that a rotated checkpoint was made from. Headers are hashed; whole files are, where somebody reads them whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct SourceSeen {
    pub name: String,
    pub bytes: u64,
    pub header_sha256: String,
}

/// What was rotated, how, and out of what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AppliedRotation {
    /// The version of what a seed and a form mean.
    pub rules: u32,
    /// The family whose rules were followed.
    pub family: &'static str,
    /// The seed, as text: not every reader of JSON keeps 64 bits.
    pub seed: String,
    /// The rotation of the residual stream, if it was rotated; absent too where gains were folded only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Form>,
    /// The length of a head's values, if they were rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<u64>,
    /// Tensors that were rotated, and their elements.
    pub tensors: u64,
    /// Elements of these.
    pub elements: u64,
    /// Norms whose gains went into their readers.
    pub folded_norms: u64,
    /// The head that a tied model was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_head: Option<String>,
    /// Predictors of further tokens, which are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What it was made from.
    pub sources: Vec<SourceSeen>,
}

/// A tensor that stays as it is.
pub(super) const UNTOUCHED: RotationRoles = RotationRoles { stream: StreamRole::Untouched, heads: None };

fn refuse(message: String) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}

/// The rules of a checkpoint, where what is asked for is exact.
pub(super) struct RotationPlanner<'a> {
    wish: RotationOptions,
    rules: RotationRules,
    form: Form,
    /// The plain type that the recipe asks for: what is rotated has it throughout, vectors too.
    plain: Option<DType>,
    tensors: &'a [TensorInfo],
    /// The checkpoint that the gains are read from.
    gains: Side,
}

/// The checkpoint as it will be: a tied model gets a head of its own, at the end, which is read from the embedding.
pub(super) fn untied(checkpoint: &Checkpoint, wish: &RotationOptions) -> Result<Checkpoint> {
    let mut all = checkpoint.clone();
    let rules = rules(checkpoint.config.as_deref(), &checkpoint.tensors)?;
    if let (true, Some(made)) = (wish.stream, &rules.untied_head)
        && let Some(source) = checkpoint.tensors.get(made.source)
    {
        all.tensors.push(TensorInfo { name: made.name.as_str().into(), ..source.clone() });
    }
    Ok(all)
}

impl<'a> RotationPlanner<'a> {
    /// What `wish` is for the tensors of an [`untied`] checkpoint.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        original: &Checkpoint,
        wish: RotationOptions,
        dtype: Option<DType>,
    ) -> Result<RotationPlanner<'a>> {
        let mut rules = rules(original.config.as_deref(), &original.tensors)?;
        if !(wish.stream || wish.heads) {
            return Err(Error::new(Code::Usage, "a rotation needs something to rotate"));
        }
        let form = stream_form(&rules, &wish)?;
        if wish.heads
            && let HeadsVerdict::Refused { because } = rules.heads
        {
            return Err(refuse(format!("R2 is not exact for {}: {because}", rules.family)));
        }
        if wish.stream {
            // Fails before any work where there is no such matrix.
            Rotation::new(rules.hidden, form, wish.seed)?;
            if let Some(made) = &rules.untied_head {
                let axis =
                    original.tensors.get(made.source).map_or(1, |t| t.shape.axes().len().saturating_sub(1));
                let stream = StreamRole::Head { axis, fold: made.fold };
                rules.parts.push(RotationRoles { stream, heads: None });
            }
        } else {
            rules.parts.iter_mut().for_each(|p| p.stream = StreamRole::Untouched);
        }
        match &rules.heads {
            HeadsVerdict::Exact(heads) if wish.heads => {
                Rotation::new(heads.length, Form::Full, wish.seed)?;
            }
            _ => rules.parts.iter_mut().for_each(|p| p.heads = None),
        }
        let plain = dtype.filter(|d| matches!(d, DType::F32 | DType::F16 | DType::BF16));
        Ok(RotationPlanner { wish, rules, form, plain, tensors: &checkpoint.tensors, gains: Side::Source })
    }

    /// The same, where what is turned is another checkpoint's, and the gains are the candidate's.
    pub(super) fn of_candidate(self) -> RotationPlanner<'a> {
        RotationPlanner { gains: Side::Candidate, ..self }
    }

    /// What is said of it before anything is turned.
    pub(super) fn told<'b>(&self, sources: impl Iterator<Item = &'b SourceFile>) -> AppliedRotation {
        let seen = |f: &SourceFile| SourceSeen {
            name: f.name.clone(),
            bytes: f.len,
            header_sha256: f.header_sha256.iter().map(|b| format!("{b:02x}")).collect(),
        };
        let heads = match &self.rules.heads {
            HeadsVerdict::Exact(heads) if self.wish.heads => Some(heads.length),
            _ => None,
        };
        AppliedRotation {
            rules: RULES,
            family: self.rules.family,
            seed: format!("0x{:016x}", self.wish.seed),
            stream: (self.wish.stream && !self.wish.fold).then_some(self.form),
            heads,
            tensors: 0,
            elements: 0,
            folded_norms: 0,
            made_head: self.rules.untied_head.as_ref().filter(|_| self.wish.stream).map(|m| m.name.clone()),
            left_out: Vec::new(),
            sources: sources.map(seen).collect(),
        }
    }

    /// Adds the steps to `outputs`, which are those of the tensors in their order, and says what was done.
    pub(super) fn apply(
        &self,
        original: &Checkpoint,
        outputs: &mut Vec<Output>,
        warnings: &mut Vec<Warning>,
    ) -> Result<AppliedRotation> {
        let mut told = self.told(original.files.iter());
        let mut kept = Vec::with_capacity(outputs.len());
        for (index, mut output) in core::mem::take(outputs).into_iter().enumerate() {
            if self.part(index).stream == StreamRole::Mtp {
                told.left_out.push(output.name.into());
                continue;
            }
            self.rotate(index, &mut output, &mut told).map_err(|e| e.of_tensor(&output.name))?;
            kept.push(output);
        }
        *outputs = kept;
        if !told.left_out.is_empty() {
            let message = format!(
                "{} tensors that predict further tokens (MTP) are left out: they do not fit a rotated stream",
                told.left_out.len()
            );
            warnings.push(Warning::new("more_tokens_left_out", message));
        }
        Ok(told)
    }

    /// What becomes of a tensor.
    pub(super) fn part(&self, index: usize) -> RotationRoles {
        self.rules.parts.get(index).copied().unwrap_or(UNTOUCHED)
    }

    /// The tensors that are embedding and head in one, as the one and as the other.
    pub(super) fn shared(&self) -> BTreeSet<usize> {
        let is_head = |i: &usize| matches!(self.part(*i).stream, StreamRole::Head { .. });
        let heads = (0..self.tensors.len()).filter(is_head).filter(|_| self.rules.tied);
        heads.flat_map(|i| [Some(i), self.source(i).map(|(at, _)| at)]).flatten().collect()
    }

    /// The tensor that `index` is read from: the embedding, for a head that is tied to it.
    fn source(&self, index: usize) -> Option<(usize, &TensorInfo)> {
        let own = self.tensors.get(index)?;
        if !(self.rules.tied && matches!(self.part(index).stream, StreamRole::Head { .. })) {
            return Some((index, own));
        }
        // Tables of positions are embeddings too, of another shape.
        let embedding = |(i, t): &(usize, &TensorInfo)| {
            matches!(self.part(*i).stream, StreamRole::Embedding { .. }) && t.shape == own.shape
        };
        let made =
            self.rules.untied_head.as_ref().and_then(|m| Some((m.source, self.tensors.get(m.source)?)));
        made.or_else(|| self.tensors.iter().enumerate().find(embedding))
    }

    fn rotate(&self, index: usize, output: &mut Output, told: &mut AppliedRotation) -> Result<()> {
        let part = self.part(index);
        if part == UNTOUCHED {
            return Ok(());
        }
        let source = self.source(index).ok_or_else(|| refuse("it has no source".into()))?;
        self.turn_as(&part, source, output, told)
    }

    /// Makes `output`, which is of this tensor of the source, what a tensor of this part becomes.
    pub(super) fn turn_as(
        &self,
        part: &RotationRoles,
        (at, tensor): (usize, &TensorInfo),
        output: &mut Output,
        told: &mut AppliedRotation,
    ) -> Result<()> {
        let steps = self.steps(part, tensor)?;
        if steps.ops.is_empty() {
            return Ok(());
        }
        let finish = encoded(output, tensor, self.plain)?;
        if let OutputOp::Encode(e) = finish {
            output.dtype = e.dtype();
        }
        output.grid = steps.grid;
        output.reason = match output.segments.first().map(|p| p.op) {
            Some(OutputOp::Copy) => Reason { code: "rotated", text: steps.words.into() },
            _ => Reason { text: join(&output.reason.text, steps.words).into(), ..output.reason.clone() },
        };
        output.segments = self.pieces(at, tensor, steps, finish)?.into();
        if matches!(part.stream, StreamRole::Norm { .. }) {
            told.folded_norms += 1;
        } else {
            told.tensors += 1;
            told.elements += output.shape.numel();
        }
        Ok(())
    }

    fn pieces(
        &self,
        at: usize,
        tensor: &TensorInfo,
        steps: TensorSteps,
        finish: OutputOp,
    ) -> Result<Vec<Segment>> {
        let gain = steps.gain.map(|(index, plus)| self.gain(index, plus)).transpose()?.map(Into::into);
        let mut from = Operand::whole(Side::Source, at, tensor);
        from.ops = steps.ops.into();
        let slab = steps.slab.max(1);
        let piece = |first: u64| Segment {
            rows: first..(first + slab).min(steps.grid.rows),
            gain: gain.clone(),
            ..Segment::whole(steps.grid, Operand { row: first, ..from.clone() }, finish)
        };
        Ok((0..steps.grid.rows).step_by(slab as usize).map(piece).collect())
    }

    /// What tensor `index` becomes, to be measured; in words, why nothing is to be seen of it.
    pub(super) fn seen(
        &self,
        index: usize,
    ) -> Result<core::result::Result<RotatedMeasurement, &'static str>> {
        let part = self.part(index);
        match part.stream {
            StreamRole::Untouched if part.heads.is_none() => return Ok(Err("stays as it is")),
            StreamRole::Norm { .. } => return Ok(Err("a gain, which is folded into its readers")),
            StreamRole::NormBias { .. } => return Ok(Err("the bias of a norm")),
            StreamRole::Mtp => return Ok(Err("left out of a rotated model")),
            _ => {}
        }
        let (at, tensor) = self.source(index).ok_or_else(|| refuse("it has no source".into()))?;
        let steps = self.steps(&part, tensor)?;
        if steps.ops.is_empty() {
            return Ok(Err("stays as it is"));
        }
        let (grid, folded) = (steps.grid, steps.gain.is_some());
        Ok(Ok(RotatedMeasurement {
            grid,
            folded,
            pieces: self.pieces(at, tensor, steps, OutputOp::Measure)?,
        }))
    }

    fn gain(&self, index: usize, plus: f64) -> Result<Operand> {
        let tensor = self.tensors.get(index).ok_or_else(|| refuse("its norm is not there".into()))?;
        let mut gain = Operand::whole(self.gains, index, tensor);
        if plus != 0.0 {
            gain.ops.push(Op::Add(plus as f32));
        }
        Ok(gain)
    }

    /// How a gain is stored: by the part of the norm itself.
    fn plus(&self, norm: usize) -> f64 {
        match self.rules.parts.get(norm).map(|p| p.stream) {
            Some(StreamRole::Norm { form }) => form.plus(),
            _ => 0.0,
        }
    }

    fn steps(&self, part: &RotationRoles, tensor: &TensorInfo) -> Result<TensorSteps> {
        let axes = tensor.shape.axes();
        let stream_axis = match part.stream {
            StreamRole::Embedding { axis }
            | StreamRole::Writer { axis }
            | StreamRole::Reader { axis, .. }
            | StreamRole::Head { axis, .. } => Some(axis),
            StreamRole::NormBias { .. } | StreamRole::Norm { .. } => axes.len().checked_sub(1),
            StreamRole::Untouched | StreamRole::Mtp => None,
        };
        let mut lay = GridLayout::of(axes, [stream_axis, part.heads.map(|h| h.axis)].into_iter().flatten())?;
        let mut ops = Vec::new();
        let (mut gain, mut words) = (None, "");
        if let Some(axis) = stream_axis {
            let along = lay.along(axis);
            let turn = (!self.wish.fold).then_some(Op::Rotate(RotationOp {
                axis: along,
                at: 0,
                len: self.rules.hidden,
                form: self.form,
                seed: self.wish.seed,
            }));
            match part.stream {
                StreamRole::Norm { form } => {
                    ops.push(Op::Set(form.neutral() as f32));
                    words = "gain folded into its readers";
                }
                StreamRole::Reader { fold, .. } | StreamRole::Head { fold, .. } => {
                    gain = Some((fold, self.plus(fold)));
                    ops.push(Op::Gain(along));
                    words = if self.wish.fold {
                        "gain of its norm folded in"
                    } else {
                        "gain of its norm folded in, rotated"
                    };
                }
                StreamRole::NormBias { of } => {
                    gain = Some((of, self.plus(of)));
                    ops.push(Op::Ungain(along));
                    words = if self.wish.fold {
                        "divided by the gain of its norm"
                    } else {
                        "divided by the gain of its norm, rotated"
                    };
                }
                _ => words = if self.wish.fold { "" } else { "rotated" },
            }
            ops.extend(turn.filter(|_| !matches!(part.stream, StreamRole::Norm { .. })));
        }
        if let (Some(part), HeadsVerdict::Exact(heads)) = (&part.heads, &self.rules.heads) {
            ops.extend(self.head_turns(heads, part, lay.along(part.axis)));
            words = if words.is_empty() { "values of heads rotated" } else { words };
        }
        if ops.iter().any(|op| op.axis() == Some(Axis::Out)) {
            lay.slab = lay.height;
        }
        Ok(TensorSteps { ops, gain, grid: lay.grid, slab: lay.slab, words })
    }

    fn head_turns(&self, heads: &ValueHeads, part: &HeadRole, along: Axis) -> impl Iterator<Item = Op> {
        let layer = block_seed(!self.wish.seed, part.layer.into());
        let len = heads.length;
        heads.spans(part).to_vec().into_iter().map(move |span| {
            let seed = block_seed(layer, span.matrix.into());
            Op::Rotate(RotationOp { axis: along, at: span.at, len, form: Form::Full, seed })
        })
    }
}

/// A rotated tensor that is only measured.
pub(super) struct RotatedMeasurement {
    pub(super) grid: Grid,
    /// Whether the gain of its norm is in it.
    pub(super) folded: bool,
    pub(super) pieces: Vec<Segment>,
}

/// The steps of a tensor, and the grid that they are steps on.
struct TensorSteps {
    ops: Vec<Op>,
    gain: Option<(usize, f64)>,
    grid: Grid,
    /// Rows that have vectors of their own.
    slab: u64,
    words: &'static str,
}

/// How a tensor lies as a grid on which every axis that matters is a side.
struct GridLayout {
    grid: Grid,
    /// The axis that runs along the rows, if any does.
    rows: Option<usize>,
    /// Rows of one run of that axis.
    height: u64,
    slab: u64,
}

impl GridLayout {
    fn of(axes: &[u64], wanted: impl Iterator<Item = usize>) -> Result<GridLayout> {
        let product = |axes: &[u64]| {
            let all = axes.iter().try_fold(1_u64, |n, a| n.checked_mul(*a));
            all.ok_or_else(|| Error::new(Code::Overflow, "its shape does not fit 64 bits"))
        };
        let last = axes.len().saturating_sub(1);
        let across: Vec<usize> = wanted.filter(|axis| *axis < last).collect();
        let Some(&rows) = across.first() else {
            let grid = Grid {
                rows: product(axes.get(..last).unwrap_or_default())?,
                cols: product(axes.get(last..).unwrap_or_default())?,
            };
            return Ok(GridLayout { grid, rows: None, height: grid.rows, slab: grid.rows });
        };
        if across.iter().any(|a| *a != rows) || (rows + 1 != last && across.len() > 1) {
            return Err(refuse(format!("rotations along two axes of {axes:?} that are not the last")));
        }
        let (above, below) =
            (axes.get(..=rows).unwrap_or_default(), axes.get(rows + 1..).unwrap_or_default());
        let grid = Grid { rows: product(above)?, cols: product(below)? };
        Ok(GridLayout {
            grid,
            rows: Some(rows),
            height: axes.get(rows).copied().unwrap_or(1),
            slab: grid.rows,
        })
    }

    fn along(&self, axis: usize) -> Axis {
        if self.rows == Some(axis) { Axis::Out } else { Axis::In }
    }
}

/// How a rotated output is written: as the recipe says, or in its own precision.
fn encoded(output: &Output, tensor: &TensorInfo, plain: Option<DType>) -> Result<OutputOp> {
    match output.segments.first().map(|p| p.op) {
        Some(OutputOp::Encode(e)) => Ok(OutputOp::Encode(e)),
        Some(OutputOp::Copy) => {
            let own = match tensor.dtype {
                d @ (DType::F32 | DType::F16 | DType::BF16) => d,
                DType::F64 => DType::F32,
                DType::F8_E4M3 | DType::F8_E5M2 => DType::BF16,
                d => return Err(refuse(format!("it is {d}; a rotation needs the weights it was made from"))),
            };
            Ok(OutputOp::Encode(Encoding::Type(plain.unwrap_or(own))))
        }
        _ => Err(refuse("its blocks would be rearranged, not decoded; a rotation needs the weights".into())),
    }
}

pub(super) fn stream_form(rules: &RotationRules, wish: &RotationOptions) -> Result<Form> {
    let plain = wish.block.map_or(Form::Full, Form::Block);
    match &rules.stream {
        _ if !wish.stream => Ok(plain),
        StreamVerdict::Any => Ok(plain),
        StreamVerdict::FixesOnes if wish.block.is_none() => Ok(Form::FixesOnes),
        StreamVerdict::FixesOnes => {
            let message = format!(
                "the norms of {} subtract the mean: only one rotation of the whole stream leaves it be, not blocks",
                rules.family
            );
            Err(refuse(message))
        }
        StreamVerdict::Refused { because, blockers } => {
            let first = blockers
                .first()
                .map_or(String::new(), |b| format!(" ({b}, {} tensors in all)", blockers.len()));
            Err(refuse(format!("R1 is not exact for {}: {because}{first}", rules.family)))
        }
    }
}

fn join(text: &str, words: &str) -> String {
    if text.is_empty() { words.to_string() } else { format!("{text}; {words}") }
}
