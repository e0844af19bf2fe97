//! The rotation of a conversion: the rules of the model's family as steps on every output.

mod grid_layout;
mod record;
mod steps;
pub mod tied_head;

use super::{Grid, Op, Output, OutputOp, Segment, Side, Warning};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, SourceFile};
use crate::model::family::{HeadsVerdict, RotationRoles, RotationRules, StreamRole, StreamVerdict, rules};
use crate::quant::Encoding;
use crate::recipe::Reason;
use crate::recipe::rotation::RotationOptions;
use crate::recipe::select::HeadCopy;
use crate::rotation::{Form, RULES, RULES_F64, Rotation};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use record::{AppliedRotation, SourceSeen};

/// The roles of a tensor that stays as it is.
pub(super) const UNTOUCHED: RotationRoles = RotationRoles { stream: StreamRole::Untouched, heads: None };

fn refuse(message: String) -> Error {
    Error::new(Code::UnsupportedRotation, message)
}

/// The rules of a checkpoint for a rotation that is exact.
pub(super) struct RotationPlanner<'a> {
    options: RotationOptions,
    rules: RotationRules,
    form: Form,
    /// The plain type of the recipe: every rotated tensor has it, vectors too.
    plain: Option<DType>,
    tensors: &'a [TensorInfo],
    /// The checkpoint that the gains are read from.
    gains: Side,
}

/// The checkpoint with a head of its own at the end, read from the embedding, if the model is tied, stores no head and its
/// stream is rotated; and where both are.
pub(super) fn untied(
    checkpoint: &Checkpoint,
    options: &RotationOptions,
) -> Result<(Checkpoint, Option<HeadCopy>)> {
    let (mut all, mut copy) = (checkpoint.clone(), None);
    let rules = rules(checkpoint.config.as_deref(), &checkpoint.tensors)?;
    if let (true, Some(made)) = (options.stream, &rules.untied_head)
        && let Some(source) = checkpoint.tensors.get(made.source)
    {
        copy = Some(HeadCopy { head: all.tensors.len(), embedding: made.source });
        all.tensors.push(TensorInfo { name: made.name.as_str().into(), ..source.clone() });
    }
    Ok((all, copy))
}

impl<'a> RotationPlanner<'a> {
    /// The planner for the tensors of an [`untied`] checkpoint; `original` is the one before it was untied.
    ///
    /// # Errors
    ///
    /// `unsupported_rotation` if the rotation is not exact for the model or no such matrix exists, `usage` if the options
    /// name nothing to rotate.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        original: &Checkpoint,
        options: RotationOptions,
        dtype: Option<DType>,
    ) -> Result<RotationPlanner<'a>> {
        let mut rules = rules(original.config.as_deref(), &original.tensors)?;
        if options.rules > RULES {
            let version = options.rules;
            return Err(refuse(format!(
                "rules of version {version} are newer than this program, which knows {RULES}"
            )));
        }
        if !(options.stream || options.heads) {
            return Err(Error::new(Code::Usage, "a rotation needs something to rotate"));
        }
        let form = stream_form(&rules, &options)?;
        if options.heads
            && let HeadsVerdict::Refused { because } = rules.heads
        {
            return Err(refuse(format!("R2 is not exact for {}: {because}", rules.family)));
        }
        if options.stream {
            // Fails before any work if there is no such matrix.
            Rotation::new(rules.hidden, form, options.seed)?;
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
            HeadsVerdict::Exact(heads) if options.heads => {
                Rotation::new(heads.length, Form::Full, options.seed)?;
            }
            _ => rules.parts.iter_mut().for_each(|p| p.heads = None),
        }
        let plain = dtype.filter(|d| matches!(d, DType::F32 | DType::F16 | DType::BF16));
        let (tensors, gains) = (checkpoint.tensors.as_slice(), Side::Source);
        Ok(RotationPlanner { options, rules, form, plain, tensors, gains })
    }

    /// The same planner for tensors of another checkpoint: the gains are read from the candidate.
    pub(super) fn of_candidate(self) -> RotationPlanner<'a> {
        RotationPlanner { gains: Side::Candidate, ..self }
    }

    /// The record of the rotation before any tensor is rotated.
    pub(super) fn record<'b>(&self, sources: impl Iterator<Item = &'b SourceFile>) -> AppliedRotation {
        let heads = match &self.rules.heads {
            HeadsVerdict::Exact(heads) if self.options.heads => Some(heads.length),
            _ => None,
        };
        let made = self.rules.untied_head.as_ref().filter(|_| self.options.stream);
        AppliedRotation {
            rules: 1,
            family: self.rules.family,
            seed: format!("0x{:016x}", self.options.seed),
            stream: (self.options.stream && !self.options.fold).then_some(self.form),
            heads,
            tensors: 0,
            elements: 0,
            folded_norms: 0,
            made_head: made.map(|m| m.name.clone()),
            left_out: Vec::new(),
            sources: sources.map(SourceSeen::of).collect(),
        }
    }

    /// Adds the steps to `outputs`, which are those of the tensors in their order, and records them.
    pub(super) fn apply(
        &self,
        original: &Checkpoint,
        outputs: &mut Vec<Output>,
        warnings: &mut Vec<Warning>,
    ) -> Result<AppliedRotation> {
        let mut record = self.record(original.files.iter());
        let mut kept = Vec::with_capacity(outputs.len());
        for mut output in core::mem::take(outputs) {
            // Outputs are fewer than tensors where a recipe leaves some out.
            let Some(index) = output.segments.first().map(|s| s.from.tensor as usize) else { continue };
            if self.roles(index).stream == StreamRole::Mtp {
                record.left_out.push(output.name.into());
                continue;
            }
            self.rotate(index, &mut output, &mut record).map_err(|e| e.of_tensor(&output.name))?;
            kept.push(output);
        }
        *outputs = kept;
        if !record.left_out.is_empty() {
            let message = format!(
                "{} tensors that predict further tokens (MTP) are left out: they do not fit a rotated stream",
                record.left_out.len()
            );
            warnings.push(Warning::new("more_tokens_left_out", message));
        }
        warnings.extend(tied_head::warning(&self.rules, self.options, original));
        Ok(record)
    }

    /// The roles of tensor number `index`.
    pub(super) fn roles(&self, index: usize) -> RotationRoles {
        self.rules.parts.get(index).copied().unwrap_or(UNTOUCHED)
    }

    /// Indices of the tensors that are embedding and head in one, in either role.
    pub(super) fn shared(&self) -> BTreeSet<usize> {
        let is_head = |i: &usize| matches!(self.roles(*i).stream, StreamRole::Head { .. });
        let heads = (0..self.tensors.len()).filter(is_head).filter(|_| self.rules.tied);
        let embedding = |i: usize| match &self.rules.untied_head {
            Some(made) => Some(made.source),
            None => tied_head::embedding(&self.rules, self.tensors, i),
        };
        heads.flat_map(|i| [Some(i), embedding(i)]).flatten().collect()
    }

    /// The tensor that the values of tensor `index` are read from: itself, or the embedding for a head that was made.
    fn source(&self, index: usize) -> Option<(usize, &TensorInfo)> {
        let made = self.rules.untied_head.as_ref().filter(|m| {
            matches!(self.roles(index).stream, StreamRole::Head { .. })
                && self.tensors.get(index).is_some_and(|t| t.name == m.name.as_str())
        });
        let at = made.map_or(index, |m| m.source);
        Some((at, self.tensors.get(at)?))
    }

    fn rotate(&self, index: usize, output: &mut Output, record: &mut AppliedRotation) -> Result<()> {
        let roles = self.roles(index);
        if roles == UNTOUCHED {
            return Ok(());
        }
        let source = self.source(index).ok_or_else(|| refuse("it has no source".into()))?;
        self.rotate_as(&roles, source, output, record)
    }

    /// Rotates `output`, whose values are those of the tensor `source`, as a tensor of these roles.
    pub(super) fn rotate_as(
        &self,
        roles: &RotationRoles,
        source: (usize, &TensorInfo),
        output: &mut Output,
        record: &mut AppliedRotation,
    ) -> Result<()> {
        let steps = self.steps(roles, source.1)?;
        if steps.ops.is_empty() {
            return Ok(());
        }
        let op = encoding_op(output, source.1, self.plain)?;
        if let OutputOp::Encode(e) = op {
            output.dtype = e.dtype();
        }
        let mut steps = steps;
        let single = op == OutputOp::Encode(Encoding::Type(DType::F32));
        if single && self.options.rules >= RULES_F64 && steps.ops.iter().any(|op| op.axis().is_some()) {
            steps.ops.insert(0, Op::Widen);
            record.rules = RULES_F64;
        }
        output.grid = steps.grid;
        output.reason = match output.segments.first().map(|s| s.op) {
            Some(OutputOp::Copy) => Reason { code: "rotated", text: steps.words.into() }.into(),
            _ => {
                let text = join(&output.reason.text, steps.words).into();
                Reason { text, code: output.reason.code }.into()
            }
        };
        output.segments = self.segments(source, steps, op)?.into();
        if matches!(roles.stream, StreamRole::Norm { .. }) {
            record.folded_norms += 1;
        } else {
            record.tensors += 1;
            record.elements += output.shape.numel();
        }
        Ok(())
    }

    /// The measurement of tensor number `index` after the rotation, or the reason why it has none.
    pub(super) fn measurement(
        &self,
        index: usize,
    ) -> Result<core::result::Result<RotatedMeasurement, &'static str>> {
        let roles = self.roles(index);
        match roles.stream {
            StreamRole::Untouched if roles.heads.is_none() => return Ok(Err("stays as it is")),
            StreamRole::Norm { .. } => return Ok(Err("a gain, which is folded into its readers")),
            StreamRole::NormBias { .. } => return Ok(Err("the bias of a norm")),
            StreamRole::Mtp => return Ok(Err("left out of a rotated model")),
            _ => {}
        }
        let source = self.source(index).ok_or_else(|| refuse("it has no source".into()))?;
        let steps = self.steps(&roles, source.1)?;
        if steps.ops.is_empty() {
            return Ok(Err("stays as it is"));
        }
        let (grid, folded) = (steps.grid, steps.gain.is_some());
        let segments = self.segments(source, steps, OutputOp::Measure)?;
        Ok(Ok(RotatedMeasurement { grid, folded, segments }))
    }
}

/// A rotated tensor that is only measured.
pub(super) struct RotatedMeasurement {
    pub(super) grid: Grid,
    /// Whether the gain of its norm is folded in.
    pub(super) folded: bool,
    pub(super) segments: Vec<Segment>,
}

/// How a rotated output is written: as the recipe decided, or in the precision of its source.
fn encoding_op(output: &Output, tensor: &TensorInfo, plain: Option<DType>) -> Result<OutputOp> {
    match output.segments.first().map(|s| s.op) {
        Some(OutputOp::Encode(e)) => Ok(OutputOp::Encode(e)),
        Some(OutputOp::Copy) => {
            let own = match tensor.dtype {
                d @ (DType::F32 | DType::F16 | DType::BF16) => d,
                DType::F64 => DType::F32,
                DType::F8_E4M3 | DType::F8_E5M2 => DType::BF16,
                _ if let Some(packed) = &tensor.packed => {
                    let message = "it takes a type and --allow-requantize to rotate such weights";
                    return Err(refuse(format!("it is {}; {message}", packed.label())));
                }
                d => return Err(refuse(format!("it is {d}; a rotation needs the weights it was made from"))),
            };
            Ok(OutputOp::Encode(Encoding::Type(plain.unwrap_or(own))))
        }
        _ => Err(refuse("its blocks would be rearranged, not decoded; a rotation needs the weights".into())),
    }
}

/// The form of the rotation of the residual stream.
///
/// # Errors
///
/// `unsupported_rotation` if it is not exact for the family.
pub(super) fn stream_form(rules: &RotationRules, options: &RotationOptions) -> Result<Form> {
    let plain = options.block.map_or(Form::Full, Form::Block);
    match &rules.stream {
        _ if !options.stream => Ok(plain),
        StreamVerdict::Any => Ok(plain),
        StreamVerdict::FixesOnes if options.block.is_none() => Ok(Form::FixesOnes),
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
