//! Plans that hold two checkpoints against each other: `compare` by value, `verify` by byte.

use super::convert::{measurable, measured_reason, names, operand, unscaled};
use super::importance::ImportancePlanner;
use super::{Grid, MetricSet, Op, Operand, Output, OutputOp, Plan, RowMap, Segment, Side};
use crate::dtype::{DType, DTypeKind};
use crate::float::Spacing;
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container, q4};
use crate::model::hf_source::{HfSource, Unmapped, hf_source};
use crate::model::tensor_id::is_gguf_name;
use crate::quant::gaussian_error::scale_floor;
use crate::quant::{Encoding, encoder, transcoder};
use crate::tensor::{Name, TensorInfo};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde::Serialize;

/// Something about a pair of checkpoints that is not a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// A stable word: `only_in_reference`, `only_in_candidate`, `shape_mismatch`, `unsupported_dtype`,
    /// `unknown_architecture`, `unmapped_tensor`, `no_overlap`, `non_finite`, `not_comparable`, `values_differ`,
    /// `row_differs`, `beyond_rounding`.
    pub kind: &'static str,
    /// The tensor, by the name of the side it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<Name>,
    /// The sentence for people.
    pub detail: String,
}

fn finding(kind: &'static str, tensor: &str, detail: impl Into<String>) -> Finding {
    Finding { kind, tensor: Some(tensor.into()), detail: detail.into() }
}

/// What two checkpoints have in common, as a plan, and what they have not, as findings.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// One output for each pair; nothing is written.
    pub plan: Plan,
    /// Everything that could not be paired.
    pub findings: Vec<Finding>,
}

/// Plans the error of `candidate` against `reference`.
pub fn compare(reference: &Checkpoint, candidate: &Checkpoint) -> Pairing {
    let ask = |from: DType, to: DType| MetricSet {
        error: true,
        rounding: Spacing::of(from).is_some() && Spacing::of(to).is_some(),
        row_floor: scale_floor(from).max(scale_floor(to)),
        ..MetricSet::default()
    };
    pair(reference, candidate, None, &|from, to| Ok((ask(from, to), OutputOp::Measure)))
}

/// Plans to encode `source` again, and to hold the bytes against those of `artefact`.
pub fn verify(source: &Checkpoint, artefact: &Checkpoint) -> Pairing {
    weighted_verify(source, artefact, None)
}

/// The same with the importance matrix that the artefact was made with.
pub fn weighted_verify(source: &Checkpoint, artefact: &Checkpoint, imatrix: Option<&Imatrix>) -> Pairing {
    pair(source, artefact, imatrix, &|from, to| {
        if from == to {
            return Ok((MetricSet::default(), OutputOp::Copy));
        }
        if transcoder(from, to).is_some() {
            // A recipe may ask for the symmetric form, or for Q4_0 of blocks that are none: then values are encoded anew.
            let anew = match to {
                DType::LATTICE_Q4 => Some(Encoding::LatticeSym),
                DType::Q4_0 => Some(Encoding::Type(to)),
                _ => None,
            };
            let ask = MetricSet { identity: anew.into_iter().collect(), ..MetricSet::default() };
            return Ok((ask, OutputOp::Transcode(to)));
        }
        let identity: Vec<Encoding> = match (artefact.container, to) {
            (_, DType::LATTICE_Q4) => vec![Encoding::LatticeAsym, Encoding::LatticeSym],
            (Container::LatticeQ4, DType::F16) => vec![Encoding::F16Finite],
            _ => vec![Encoding::Type(to)],
        };
        if identity.iter().all(|e| encoder(*e).is_none()) {
            return Err(format!("{to} cannot be encoded, so {from} cannot be held against it"));
        }
        Ok((MetricSet { identity: identity.into(), error: true, ..MetricSet::default() }, OutputOp::Measure))
    })
}

type Choose<'a> = &'a dyn Fn(DType, DType) -> Result<(MetricSet, OutputOp), String>;

/// One side, looked up by the name that pairs.
struct NameLookup<'a> {
    checkpoint: &'a Checkpoint,
    /// Loose `.q4` files have lost their names: only the sanitised form is left.
    sanitised: bool,
    /// No tensor, where several have the same sanitised form: which of them is meant cannot be known.
    by_name: BTreeMap<String, Option<usize>>,
}

impl<'a> NameLookup<'a> {
    fn new(checkpoint: &'a Checkpoint, sanitised: bool) -> NameLookup<'a> {
        let key = |t: &TensorInfo| if sanitised { q4::file_stem(&t.name) } else { t.name.to_string() };
        let mut by_name = BTreeMap::new();
        for (index, tensor) in checkpoint.tensors.iter().enumerate() {
            by_name.entry(key(tensor)).and_modify(|i| *i = None).or_insert(Some(index));
        }
        NameLookup { checkpoint, sanitised, by_name }
    }

    fn find(&self, name: &str) -> Option<(usize, &'a TensorInfo)> {
        let key = if self.sanitised { q4::file_stem(name) } else { name.to_string() };
        let index = (*self.by_name.get(&key)?)?;
        Some((index, self.checkpoint.tensors.get(index)?))
    }
}

fn nameless(checkpoint: &Checkpoint) -> bool {
    checkpoint.container == Container::LatticeQ4 && checkpoint.q4_index.is_none()
}

/// A pair under construction: rows of the stacked side against one tensor of the other.
struct Match {
    name: Name,
    reference: (usize, Operand),
    candidate: (usize, Operand),
    shape_of: Side,
}

fn pair(
    reference: &Checkpoint,
    candidate: &Checkpoint,
    imatrix: Option<&Imatrix>,
    choose: Choose<'_>,
) -> Pairing {
    let sanitised = nameless(reference) || nameless(candidate);
    let names = NameLookup::new(candidate, sanitised);
    let mut builder = Builder::new(reference, candidate, imatrix, choose);
    let reference_names = NameLookup::new(reference, sanitised);
    for (index, tensor) in reference.tensors.iter().enumerate() {
        let alone = reference_names.find(&tensor.name).is_some();
        if let Some((other, _)) = names.find(&tensor.name).filter(|_| alone) {
            builder.direct(index, other);
        }
    }
    builder.mapped(Side::Candidate, &reference_names);
    builder.mapped(Side::Source, &names);
    builder.finish()
}

struct Builder<'a> {
    reference: &'a Checkpoint,
    candidate: &'a Checkpoint,
    choose: Choose<'a>,
    outputs: Vec<Output>,
    findings: Vec<Finding>,
    used: [BTreeSet<usize>; 2],
    /// The names on each side, to find scales by.
    names: [BTreeSet<&'a str>; 2],
    weighing: ImportancePlanner<'a>,
}

impl<'a> Builder<'a> {
    fn new(
        reference: &'a Checkpoint,
        candidate: &'a Checkpoint,
        imatrix: Option<&'a Imatrix>,
        choose: Choose<'a>,
    ) -> Builder<'a> {
        Builder {
            reference,
            candidate,
            choose,
            outputs: Vec::new(),
            findings: Vec::new(),
            used: [BTreeSet::new(), BTreeSet::new()],
            names: [names(reference), names(candidate)],
            weighing: ImportancePlanner::new(imatrix, reference),
        }
    }

    fn tensors(&self, side: Side) -> &'a [TensorInfo] {
        match side {
            Side::Source => &self.reference.tensors,
            _ => &self.candidate.tensors,
        }
    }

    /// Two tensors of the same name: shapes must be equal, but for leading ones that GGUF does not keep.
    fn direct(&mut self, index: usize, other: usize) {
        let (Some(a), Some(b)) = (self.reference.tensors.get(index), self.candidate.tensors.get(other))
        else {
            return;
        };
        self.used[0].insert(index);
        self.used[1].insert(other);
        let loose = [self.reference, self.candidate].iter().any(|c| c.container == Container::Gguf);
        if !same_shape(a, b, loose) {
            let detail = format!("shape {:?} against {:?}", a.shape.axes(), b.shape.axes());
            self.findings.push(finding("shape_mismatch", &a.name, detail));
            return;
        }
        self.push(Match {
            name: a.name.clone(),
            reference: (index, operand(Side::Source, index, a)),
            candidate: (other, operand(Side::Candidate, other, b)),
            shape_of: Side::Source,
        });
    }

    /// Tensors of the GGUF on `side` that still have no partner: their names are mapped back.
    fn mapped(&mut self, side: Side, partners: &NameLookup<'a>) {
        let (checkpoint, slot) = match side {
            Side::Source => (self.reference, 0),
            _ => (self.candidate, 1),
        };
        if checkpoint.container != Container::Gguf {
            return;
        }
        for (index, tensor) in checkpoint.tensors.iter().enumerate() {
            if self.used[slot].contains(&index) || !is_gguf_name(&tensor.name) {
                continue;
            }
            let experts = tensor.shape.axes().first().copied().unwrap_or(1);
            // A stack names one tensor for each expert: hold the count against what the other side has.
            let experts = if tensor.shape.axes().len() >= 3 {
                experts.min(partners.by_name.len() as u64 + 1)
            } else {
                1
            };
            let rows = if tensor.shape.axes().len() >= 2 { tensor.shape.rows() } else { tensor.shape.cols() };
            match hf_source(&tensor.name, rows, experts, &checkpoint.metadata) {
                Ok(found) => self.unstack(side, index, tensor, &found, partners),
                Err(why) => {
                    self.used[slot].insert(index);
                    self.findings.push(unmapped(&tensor.name, why));
                }
            }
        }
    }

    fn unstack(
        &mut self,
        side: Side,
        index: usize,
        tensor: &TensorInfo,
        source: &HfSource,
        partners: &NameLookup<'a>,
    ) {
        let slot = usize::from(side == Side::Candidate);
        let parts: Vec<_> = source.names.iter().map(|n| partners.find(n)).collect();
        if parts.iter().any(Option::is_none) {
            return; // reported as being on one side only
        }
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        self.used[slot].insert(index);
        let share = tensor.shape.axes().split_first().map_or(&[][..], |(_, axes)| axes);
        for (place, (other, partner)) in (0_u64..).zip(parts) {
            self.used[1 - slot].insert(other);
            let fits = match source.names.len() {
                1 => same_shape(partner, tensor, true),
                _ => trimmed(partner.shape.axes()) == trimmed(share),
            };
            if !fits {
                let detail = format!("shape {:?} against {:?}", partner.shape.axes(), tensor.shape.axes());
                self.findings.push(finding("shape_mismatch", &partner.name, detail));
                continue;
            }
            let mut mine = operand(side, index, tensor);
            mine.row = place.saturating_mul(partner.shape.rows());
            if let Some(head) = source.rotary_heads {
                if tensor.shape.axes().len() < 2 {
                    let detail = "an interleaved bias is not mapped back yet";
                    self.findings.push(finding("unmapped_tensor", &tensor.name, detail));
                    continue;
                }
                mine.map = RowMap::RotaryHalves { head };
            }
            if source.add != 0.0 {
                mine.ops.push(Op::Add(source.add));
            }
            let theirs =
                (other, operand(if slot == 1 { Side::Source } else { Side::Candidate }, other, partner));
            let mine = (index, mine);
            let (reference, candidate) = if slot == 1 { (theirs, mine) } else { (mine, theirs) };
            let shape_of = if slot == 1 { Side::Source } else { Side::Candidate };
            self.push(Match { name: partner.name.clone(), reference, candidate, shape_of });
        }
    }

    /// Adds a pair, unless one side cannot be decoded.
    fn push(&mut self, m: Match) {
        let (Some(a), Some(b)) =
            (self.tensors(Side::Source).get(m.reference.0), self.tensors(Side::Candidate).get(m.candidate.0))
        else {
            return;
        };
        if a.dtype.kind() == DTypeKind::Integer && a.dtype == b.dtype {
            return self.push_bytes(&m, a);
        }
        if let Some(bad) = [a, b].into_iter().find(|t| !measurable(t)) {
            let detail = format!("{} cannot be decoded", bad.dtype);
            self.findings.push(finding("unsupported_dtype", &m.name, detail));
            return;
        }
        // Both sides stored alike are alike without their scales too.
        let scale = |(set, t)| unscaled(set, t).filter(|_| a.dtype != b.dtype);
        if let Some(detail) = self.names.iter().zip([a, b]).find_map(scale) {
            self.findings.push(finding("unsupported_dtype", &m.name, detail));
            return;
        }
        let (ask, finish) = match (self.choose)(a.dtype, b.dtype) {
            Ok(chosen) => chosen,
            Err(detail) => {
                self.findings.push(finding("not_comparable", &m.name, detail));
                return;
            }
        };
        let plain = |o: &Operand| o.map == RowMap::Identity && o.ops.is_empty();
        if (finish != OutputOp::Measure || !ask.identity.is_empty())
            && !(plain(&m.reference.1) && plain(&m.candidate.1))
        {
            let detail = "its converter rearranged the values, so bytes cannot be held against bytes";
            self.findings.push(finding("not_comparable", &m.name, detail));
            return;
        }
        if finish == OutputOp::Copy && a.bytes.len() == b.bytes.len() {
            return self.push_bytes(&m, a);
        }
        let shaped = if m.shape_of == Side::Source { a } else { b };
        let grid = Grid::of(&shaped.shape);
        let reason = measured_reason(&m.name, &shaped.shape);
        let mut output = Output {
            name: m.name,
            dtype: b.dtype,
            shape: shaped.shape.clone(),
            grid,
            place: None,
            segments: Segment {
                rows: 0..grid.rows,
                from: m.reference.1,
                against: Some(m.candidate.1.into()),
                importance: None,
                gain: None,
                op: finish,
            }
            .into(),
            metrics: ask,
            reason,
        };
        match self.weighing.verify(a, &mut output) {
            Ok(()) => self.outputs.push(output),
            Err(e) => self.findings.push(finding("not_comparable", &output.name, &e.detail().message)),
        }
    }

    /// Integers are no weights: they are equal byte for byte or they are not.
    fn push_bytes(&mut self, m: &Match, a: &TensorInfo) {
        let grid = Grid { rows: 1, cols: a.bytes.len() };
        let as_bytes = |o: &Operand| Operand { dtype: DType::U8, ..o.clone() };
        self.outputs.push(Output {
            name: m.name.clone(),
            dtype: a.dtype,
            shape: a.shape.clone(),
            grid,
            place: None,
            segments: Segment {
                rows: 0..1,
                from: as_bytes(&m.reference.1),
                against: Some(as_bytes(&m.candidate.1).into()),
                importance: None,
                gain: None,
                op: OutputOp::Copy,
            }
            .into(),
            metrics: MetricSet::default(),
            reason: measured_reason(&m.name, &a.shape),
        });
    }

    fn finish(mut self) -> Pairing {
        for (slot, kind) in [(0, "only_in_reference"), (1, "only_in_candidate")] {
            let tensors = if slot == 0 { &self.reference.tensors } else { &self.candidate.tensors };
            for (index, tensor) in tensors.iter().enumerate() {
                if !self.used[slot].contains(&index) {
                    self.findings.push(finding(
                        kind,
                        &tensor.name,
                        format!("{} on one side only", tensor.dtype),
                    ));
                }
            }
        }
        if self.outputs.is_empty() {
            let detail = "no tensor of the two sides could be compared".to_string();
            self.findings.push(Finding { kind: "no_overlap", tensor: None, detail });
        }
        self.findings.sort();
        let plan = Plan { outputs: self.outputs, files: Vec::new(), conversion: None, warnings: Vec::new() };
        Pairing { plan, findings: self.findings }
    }
}

fn unmapped(name: &str, why: Unmapped) -> Finding {
    match why {
        Unmapped::Architecture => finding(
            "unknown_architecture",
            name,
            "how this architecture's converter lays tensors out is not known",
        ),
        Unmapped::Tensor => finding("unmapped_tensor", name, "this tensor has no known counterpart"),
    }
}

/// Axes without leading ones, so that a scalar and one element are the same.
fn trimmed(axes: &[u64]) -> &[u64] {
    let ones = axes.iter().take_while(|&&n| n == 1).count();
    axes.get(ones..).unwrap_or_default()
}

/// Equal shapes; with `loose`, leading ones do not count (GGUF drops them, and writes a scalar as one element).
fn same_shape(a: &TensorInfo, b: &TensorInfo, loose: bool) -> bool {
    a.shape == b.shape || loose && trimmed(a.shape.axes()) == trimmed(b.shape.axes())
}
