//! Pairs the tensors of two checkpoints: by name, then by the Hugging Face tensors that a GGUF tensor was made from.

use super::aliases::canonical;
use super::names::{NameLookup, has_file_names, same_shape, trimmed, unmapped};
use super::{Finding, Pairing, unpaired};
use crate::dtype::{DType, DTypeKind};
use crate::error::Result;
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container};
use crate::model::hf_source::{HfSource, hf_source};
use crate::model::stored_quantization::StoredQuantization;
use crate::model::tensor_id::is_gguf_name;
use crate::model::tensor_role::{TensorRole, is_buffer, role};
use crate::plan::source_tensors::{is_measurable, role_reason};
use crate::plan::{
    Grid, ImportancePlanner, MetricSet, Op, Operand, Output, OutputOp, Plan, RowMap, Segment, Side, ThinVec,
};
use crate::recipe::tensor_filter::TensorFilter;
use crate::tensor::{Name, Shape, TensorInfo};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Chooses metrics and operation for a pair of these types, or names the reason why there are none.
type Choose<'a> = &'a dyn Fn(DType, DType) -> core::result::Result<(MetricSet, OutputOp), String>;

/// A pair: rows of the stacked side, and one tensor of the other.
struct Match {
    name: Name,
    /// Index of the tensor, and the operand.
    reference: (usize, Operand),
    candidate: (usize, Operand),
    /// The shape of the pair.
    shape: Shape,
}

/// The side that is compared with `side`.
pub(super) fn other_side(side: Side) -> Side {
    if side == Side::Source { Side::Candidate } else { Side::Source }
}

pub(super) struct PairBuilder<'a> {
    reference: &'a Checkpoint,
    candidate: &'a Checkpoint,
    pub(super) choose: Choose<'a>,
    pub(super) outputs: Vec<Output>,
    pub(super) findings: Vec<Finding>,
    pub(super) used: [BTreeSet<usize>; 2],
    /// Whether values that a converter moved are compared in place.
    maps: bool,
    importance: ImportancePlanner<'a>,
}

impl<'a> PairBuilder<'a> {
    pub(super) fn new(
        reference: &'a Checkpoint,
        candidate: &'a Checkpoint,
        imatrix: Option<&'a Imatrix>,
        choose: Choose<'a>,
    ) -> PairBuilder<'a> {
        PairBuilder {
            reference,
            candidate,
            choose,
            outputs: Vec::new(),
            findings: Vec::new(),
            used: [BTreeSet::new(), BTreeSet::new()],
            maps: false,
            importance: ImportancePlanner::new(imatrix, reference),
        }
    }

    /// The same with all families whose conversion is known, for comparisons of values.
    pub(super) fn with_maps(self) -> PairBuilder<'a> {
        PairBuilder { maps: cfg!(feature = "conversion"), ..self }
    }

    /// The same for the tensors that `filter` selects. Buffers that one side leaves out are not expected.
    pub(super) fn filtered(mut self, filter: &TensorFilter) -> PairBuilder<'a> {
        let sides = [self.reference, self.candidate];
        let gguf = sides.iter().any(|c| c.container == Container::Gguf);
        for (checkpoint, used) in sides.into_iter().zip(&mut self.used) {
            let selection = filter.in_checkpoint(checkpoint);
            let all = checkpoint.tensors.iter().enumerate();
            let ignored =
                all.filter(|(_, t)| !selection.contains(&t.name) || (gguf && is_buffer(&t.name, &t.shape)));
            used.extend(ignored.map(|(index, _)| index));
        }
        self
    }

    pub(super) fn build(mut self) -> Result<Pairing> {
        for checkpoint in [self.reference, self.candidate] {
            StoredQuantization::of(checkpoint).check_all()?;
        }
        let sanitised = has_file_names(self.reference) || has_file_names(self.candidate);
        let names = NameLookup::new(self.candidate, sanitised);
        let reference_names = NameLookup::new(self.reference, sanitised);
        for (index, tensor) in self.reference.tensors.iter().enumerate() {
            if self.used[0].contains(&index) {
                continue;
            }
            let alone = reference_names.find(&tensor.name).is_some();
            let partner =
                names.find(&tensor.name).filter(|(other, _)| alone && !self.used[1].contains(other));
            if let Some((other, partner)) = partner {
                self.direct((index, tensor), (other, partner));
            }
        }
        if !sanitised {
            self.renamed(&names);
        }
        if self.maps {
            self.by_maps(Side::Candidate);
            self.by_maps(Side::Source);
        }
        self.mapped(Side::Candidate, &reference_names);
        self.mapped(Side::Source, &names);
        self.experts(Side::Source, &names);
        self.experts(Side::Candidate, &reference_names);
        self.tied_head(Side::Source);
        self.tied_head(Side::Candidate);
        Ok(self.finish())
    }

    pub(super) fn find(&mut self, kind: &'static str, tensor: &str, detail: impl Into<String>) {
        self.findings.push(Finding::new(kind, tensor, detail));
    }

    /// Pairs two tensors of the same name, whose shapes must be equal but for leading ones that GGUF does not keep.
    fn direct(&mut self, (index, a): (usize, &TensorInfo), (other, b): (usize, &TensorInfo)) {
        let [references, candidates] = &mut self.used;
        references.insert(index);
        candidates.insert(other);
        let loose = [self.reference, self.candidate].iter().any(|c| c.container == Container::Gguf);
        if !same_shape(a, b, loose) {
            let detail = format!("shape {:?} against {:?}", a.shape.axes(), b.shape.axes());
            return self.find("shape_mismatch", &a.name, detail);
        }
        self.push(Match {
            name: a.name.clone(),
            reference: (index, Operand::whole(Side::Source, index, a)),
            candidate: (other, Operand::whole(Side::Candidate, other, b)),
            shape: a.shape.clone(),
        });
    }

    /// Pairs tensors whose names differ only by the prefixes of the program that saved them.
    fn renamed(&mut self, candidates: &NameLookup<'a>) {
        let (reference, lookup) = (self.reference, NameLookup::new(self.reference, false));
        for (index, tensor) in reference.tensors.iter().enumerate() {
            let alone = || lookup.find_alias(canonical(&tensor.name)).is_some_and(|(i, _)| i == index);
            let Some((other, partner)) = candidates.find_alias(&tensor.name) else { continue };
            if !self.used[0].contains(&index) && !self.used[1].contains(&other) && alone() {
                self.direct((index, tensor), (other, partner));
            }
        }
    }

    /// Pairs experts that `side` stores one by one with their rows of the other side's stacks.
    fn experts(&mut self, side: Side, partners: &NameLookup<'a>) {
        let checkpoint = self.side(side);
        for (index, tensor) in checkpoint.tensors.iter().enumerate() {
            if self.used_on(side).contains(&index) {
                continue;
            }
            let Some(found) = partners.locate(&tensor.name).filter(|f| f.part.is_some()) else { continue };
            if found.shape() != tensor.shape {
                continue; // reported as being on one side only
            }
            self.used_on(side).insert(index);
            self.used_on(other_side(side)).insert(found.index);
            let mine = (index, Operand::whole(side, index, tensor));
            let other = (found.index, found.operand(other_side(side)));
            self.push(matched(tensor.name.clone(), tensor.shape.clone(), side, mine, other));
        }
    }

    /// Pairs the head of `side`, if the other side has none, with the embedding that it is tied to.
    fn tied_head(&mut self, side: Side) {
        let (checkpoint, others) = (self.side(side), self.side(other_side(side)));
        let with = |c: &'a Checkpoint, wanted| {
            let mut all = c.tensors.iter().enumerate();
            all.find(|(_, t)| role(&t.name, &t.shape) == wanted)
        };
        let Some((index, head)) = with(checkpoint, TensorRole::Output) else { return };
        let Some((other, embedding)) = with(others, TensorRole::Embedding) else { return };
        let unpaired = !self.used_on(side).contains(&index) && with(others, TensorRole::Output).is_none();
        if unpaired && same_shape(head, embedding, false) {
            self.used_on(side).insert(index);
            let mine = (index, Operand::whole(side, index, head));
            let tied = (other, Operand::whole(other_side(side), other, embedding));
            self.push(matched(head.name.clone(), head.shape.clone(), side, mine, tied));
        }
    }

    /// The tensors of a side that have a partner, or need none.
    pub(super) fn used_on(&mut self, side: Side) -> &mut BTreeSet<usize> {
        let [reference, candidate] = &mut self.used;
        if side == Side::Source { reference } else { candidate }
    }

    /// The checkpoint of a side.
    pub(super) fn side(&self, side: Side) -> &'a Checkpoint {
        match side {
            Side::Source => self.reference,
            _ => self.candidate,
        }
    }

    /// Pairs the tensors of the GGUF on `side` that have no partner by name with the tensors that they were made from.
    fn mapped(&mut self, side: Side, partners: &NameLookup<'a>) {
        let checkpoint = self.side(side);
        if checkpoint.container != Container::Gguf {
            return;
        }
        for (index, tensor) in checkpoint.tensors.iter().enumerate() {
            if self.used_on(side).contains(&index) || !is_gguf_name(&tensor.name) {
                continue;
            }
            let axes = tensor.shape.axes();
            // A stack names one tensor per expert: the claimed count is limited by the tensors of the other side.
            let experts = match axes {
                [experts, _, _, ..] => (*experts).min(partners.len() as u64 + 1),
                _ => 1,
            };
            let rows = if axes.len() >= 2 { tensor.shape.rows() } else { tensor.shape.cols() };
            match hf_source(&tensor.name, rows, experts, &checkpoint.metadata) {
                Ok(found) => self.unstack(side, index, tensor, &found, partners),
                Err(why) => {
                    self.used_on(side).insert(index);
                    self.findings.push(unmapped(&tensor.name, why));
                }
            }
        }
    }

    /// Pairs each part of a GGUF tensor with the tensor that it was made from.
    fn unstack(
        &mut self,
        side: Side,
        index: usize,
        tensor: &TensorInfo,
        source: &HfSource,
        partners: &NameLookup<'a>,
    ) {
        let parts: Option<Vec<_>> = source.names.iter().map(|n| partners.locate(n)).collect();
        let Some(parts) = parts else {
            return; // reported as being on one side only
        };
        self.used_on(side).insert(index);
        let share = tensor.shape.axes().split_first().map_or(&[][..], |(_, axes)| axes);
        for ((place, partner), name) in (0_u64..).zip(parts).zip(&source.names) {
            self.used_on(other_side(side)).insert(partner.index);
            let shape = partner.shape();
            let fits = match source.names.len() {
                1 => trimmed(shape.axes()) == trimmed(tensor.shape.axes()),
                _ => trimmed(shape.axes()) == trimmed(share),
            };
            if !fits {
                let detail = format!("shape {:?} against {:?}", shape.axes(), tensor.shape.axes());
                self.find("shape_mismatch", name, detail);
                continue;
            }
            if source.rotary_heads.is_some() && tensor.shape.axes().len() < 2 {
                let detail = "an interleaved bias is not mapped back yet";
                self.find("unmapped_tensor", &tensor.name, detail);
                continue;
            }
            let mut mine = Operand::whole(side, index, tensor);
            mine.row = place.saturating_mul(shape.rows());
            if let Some(head) = source.rotary_heads {
                mine.map = RowMap::Unpermute { head };
            }
            if source.add != 0.0 {
                mine.ops.push(Op::Add(source.add));
            }
            let name =
                if partner.part.is_some() { name.as_str().into() } else { partner.tensor.name.clone() };
            let operand = partner.operand(other_side(side));
            self.push(matched(name, shape, other_side(side), (partner.index, operand), (index, mine)));
        }
    }

    /// Adds a pair, unless one side cannot be decoded.
    fn push(&mut self, pair: Match) {
        let (Some(a), Some(b)) =
            (self.reference.tensors.get(pair.reference.0), self.candidate.tensors.get(pair.candidate.0))
        else {
            return;
        };
        if a.dtype.kind() == DTypeKind::Integer && a.dtype == b.dtype {
            return self.push_bytes(pair, a);
        }
        if let Some(detail) = self.undecodable([a, b]) {
            return self.find("unsupported_dtype", &pair.name, detail);
        }
        let (mut metrics, op) = match (self.choose)(a.dtype, b.dtype) {
            Ok(chosen) => chosen,
            Err(detail) => return self.find("not_comparable", &pair.name, detail),
        };
        let by_bytes = op != OutputOp::Measure || !metrics.identity.is_empty();
        if by_bytes && !(pair.reference.1.is_unchanged() && pair.candidate.1.is_unchanged()) {
            let detail = "its converter rearranged the values, so bytes cannot be held against bytes";
            return self.find("not_comparable", &pair.name, detail);
        }
        // Values of quantized weights are decoded to a plain type, and differ by more than its rounding.
        metrics.rounding &= !a.is_quantized() && !b.is_quantized();
        let packed = a.packed.is_some() || b.packed.is_some();
        if op == OutputOp::Copy && a.bytes.len() == b.bytes.len() && !packed {
            return self.push_bytes(pair, a);
        }
        let mut output = output(pair, b, metrics, op);
        match self.importance.verify(a, &mut output) {
            Ok(()) => self.outputs.push(output),
            Err(e) => self.find("not_comparable", &output.name, &*e.detail().message),
        }
    }

    /// The sentence about the side that cannot be decoded.
    fn undecodable(&self, pair: [&TensorInfo; 2]) -> Option<String> {
        if let Some(bad) = pair.into_iter().find(|t| !is_measurable(t)) {
            return Some(format!("{} cannot be decoded", bad.dtype));
        }
        None
    }

    /// Adds a pair that is compared byte by byte.
    fn push_bytes(&mut self, pair: Match, a: &TensorInfo) {
        let grid = Grid { rows: 1, cols: a.bytes.len() };
        let reason = role_reason(&pair.name, &a.shape).into();
        self.outputs.push(Output {
            name: pair.name,
            dtype: a.dtype,
            shape: a.shape.clone(),
            grid,
            place: None,
            streams: ThinVec::new(),
            segments: Segment {
                against: Some(pair.candidate.1.as_bytes().into()),
                ..Segment::whole(grid, pair.reference.1.as_bytes(), OutputOp::Copy)
            }
            .into(),
            metrics: MetricSet::default(),
            reason,
        });
    }

    fn finish(mut self) -> Pairing {
        self.findings.extend(unpaired::findings([self.reference, self.candidate], &self.used));
        if self.outputs.is_empty() {
            self.findings.push(Finding::no_overlap());
        }
        self.findings.sort();
        Pairing { plan: Plan::of_measurements(self.outputs, Vec::new()), findings: self.findings }
    }
}

/// A pair of `mine` on `side`, whose shape is `shape`, and `other` on the other side.
fn matched(name: Name, shape: Shape, side: Side, mine: (usize, Operand), other: (usize, Operand)) -> Match {
    match side {
        Side::Source => Match { name, reference: mine, candidate: other, shape },
        _ => Match { name, reference: other, candidate: mine, shape },
    }
}

/// The output of a pair of decodable tensors.
fn output(pair: Match, b: &TensorInfo, metrics: MetricSet, op: OutputOp) -> Output {
    let grid = Grid::of(&pair.shape);
    let reason = role_reason(&pair.name, &pair.shape).into();
    Output {
        name: pair.name,
        dtype: b.dtype,
        shape: pair.shape,
        grid,
        place: None,
        streams: ThinVec::new(),
        segments: Segment {
            against: Some(pair.candidate.1.into()),
            ..Segment::whole(grid, pair.reference.1, op)
        }
        .into(),
        metrics,
        reason,
    }
}
