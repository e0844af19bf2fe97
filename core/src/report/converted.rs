//! The report of a conversion, planned or done.

use super::{ErrorView, RotationChoiceView, SCHEMA_VERSION, TargetView, nonfinite};
use crate::dtype::DType;
use crate::float::Spacing;
use crate::format::Checkpoint;
use crate::job::ALGEBRA_LIMIT;
use crate::metric::Tally;
use crate::model_equivalence::Equivalence;
use crate::plan::rotate::tied_head::TiedHead;
use crate::plan::{Conversion, OutFile, Output, OutputOp, Plan, Warning};
use crate::recipe::Reason;
use crate::run::PlanMeasurements;
use crate::tensor::{Name, Shape};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Serialize, Serializer};

/// One tensor of a conversion.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ConvertedTensor {
    pub name: Name,
    pub action: &'static str,
    pub dtype_in: DType,
    pub dtype_out: DType,
    pub shape: Shape,
    pub numel: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
    /// NaN and infinities that were written, which happens only where they are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_finite: Option<Tally>,
}

/// What a conversion makes, planned or done.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ConvertReport<'a> {
    pub schema_version: u32,
    #[serde(flatten)]
    pub conversion: Conversion,
    pub tensors: ConvertedTensors<'a>,
    /// The rounding of rotated weights as they are written, by type; absent where nothing was rotated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rounding: Vec<RoundingView>,
    /// SHA-256 of the files that a rotated artefact was made from, each read whole; absent where nothing was rotated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_sha256: Vec<(String, String)>,
    /// What a rotation was held against; absent where nothing was rotated, and for a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<EquivalenceView>,
    /// What types were chosen for, if a size was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetView>,
    /// What decided the rotation, if that was left to the model's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_choice: Option<RotationChoiceView>,
    /// The files of a split output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split_files: Vec<SplitFileView>,
    pub warnings: Vec<Warning>,
}

/// A file of a split output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitFileView {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The number of its tensors.
    pub tensors: u64,
}

/// A row for each tensor of a conversion, in the order of the plan. Each is made when it is looked at: the rows of a
/// million tensors take no memory.
#[derive(Clone, Copy, Debug)]
pub struct ConvertedTensors<'a> {
    checkpoint: &'a Checkpoint,
    outputs: &'a [Output],
    gathered: Option<&'a PlanMeasurements>,
}

impl ConvertReport<'_> {
    /// The same without the rows of its tensors.
    #[must_use]
    pub fn without_rows(&self) -> ConvertReport<'_> {
        ConvertReport { tensors: ConvertedTensors { outputs: &[], ..self.tensors }, ..self.clone() }
    }
}

impl<'a> ConvertedTensors<'a> {
    /// The rows.
    pub fn iter(self) -> impl Iterator<Item = ConvertedTensor> + Clone + use<'a> {
        self.outputs.iter().enumerate().filter_map(move |(index, o)| self.row(index, o))
    }

    /// The names of the rows, each with the index of its output.
    pub fn names(self) -> impl Iterator<Item = (usize, &'a Name)> {
        self.outputs.iter().map(|o| &o.name).enumerate()
    }

    /// The row of an output.
    pub fn get(self, index: usize) -> Option<ConvertedTensor> {
        self.row(index, self.outputs.get(index)?)
    }

    fn row(self, index: usize, o: &Output) -> Option<ConvertedTensor> {
        let source = self.checkpoint.tensors.get(o.segments.first()?.from.tensor as usize)?;
        let error = self.gathered.filter(|_| o.metrics.error).and_then(|c| c.output(index)?.error());
        Some(ConvertedTensor {
            name: o.name.clone(),
            action: action(o),
            dtype_in: source.dtype,
            dtype_out: o.dtype,
            shape: o.shape.clone(),
            numel: o.shape.numel(),
            bytes_in: bytes_in(self.checkpoint, o),
            bytes_out: o.bytes_out()?,
            reason: Reason::clone(&o.reason),
            error: error.map(ErrorView::from),
            non_finite: self.gathered.and_then(|c| nonfinite(c.output(index)?, o)),
        })
    }
}

/// Stored bytes of the source tensors of an output: of several where they are stacked or joined.
pub fn bytes_in(checkpoint: &Checkpoint, output: &Output) -> u64 {
    let sources: BTreeSet<u32> = output.segments.iter().map(|s| s.from.tensor).collect();
    let bytes = sources.iter().filter_map(|i| checkpoint.tensors.get(*i as usize)).map(|t| t.stored_bytes());
    bytes.fold(0, u64::saturating_add)
}

impl Serialize for ConvertedTensors<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

/// The rounding of rotated weights to a type that is written. The algebra and the logits are compared before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundingView {
    /// The type.
    pub dtype: DType,
    /// Rotated tensors of this type.
    pub tensors: u64,
    /// Elements of these.
    pub elements: u64,
    /// The largest relative rounding error of a value of normal magnitude: half of the distance of neighbouring values.
    /// Absent for block types, whose error depends on the values of the block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_bound: Option<f64>,
}

/// The rounding of the rotated outputs of a plan, by type in order of the catalogue.
fn rounding(plan: &Plan) -> Vec<RoundingView> {
    let mut all: BTreeMap<DType, (u64, u64)> = BTreeMap::new();
    let changes = |o: &&Output| o.segments.iter().flat_map(|s| &s.from.ops).any(|op| op.axis().is_some());
    for output in plan.outputs.iter().filter(changes) {
        let (tensors, elements) = all.entry(output.dtype).or_default();
        *tensors += 1;
        *elements = elements.saturating_add(output.shape.numel());
    }
    let view = |(dtype, (tensors, elements))| RoundingView {
        dtype,
        tensors,
        elements,
        relative_bound: Spacing::of(dtype).map(|s| s.half(1.0)),
    };
    all.into_iter().map(view).collect()
}

/// What held before a rotated artefact was written.
#[derive(Clone, Debug, Serialize)]
pub struct EquivalenceView {
    /// Elements that were held against the algebra: all that were rotated.
    pub algebra_elements: u64,
    /// A stored head that `config.json` ties to the embedding, compared with it; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied_head: Option<TiedHead>,
    /// By how many units of rounding each comparison might be off.
    pub algebra_limit: f64,
    /// The logits of source and rotated model, the latter before its weights are rounded to the types that are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Equivalence>,
    /// Why they were not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unprobed: Option<String>,
}

impl EquivalenceView {
    /// Of a rotated model that was tried.
    pub fn probed(elements: u64, probe: Equivalence) -> EquivalenceView {
        EquivalenceView {
            algebra_elements: elements,
            tied_head: None,
            algebra_limit: ALGEBRA_LIMIT,
            probe: Some(probe),
            unprobed: None,
        }
    }

    /// Of one that was not.
    pub fn unprobed(elements: u64, why: String) -> EquivalenceView {
        EquivalenceView {
            algebra_elements: elements,
            tied_head: None,
            algebra_limit: ALGEBRA_LIMIT,
            probe: None,
            unprobed: Some(why),
        }
    }
}

/// The report of a conversion; without `gathered`, that of its plan.
pub fn converted<'a>(
    checkpoint: &'a Checkpoint,
    plan: &'a Plan,
    gathered: Option<&'a PlanMeasurements>,
) -> Option<ConvertReport<'a>> {
    let tensors = ConvertedTensors { checkpoint, outputs: &plan.outputs, gathered };
    // What was written is known only once something was gathered.
    let rows = gathered.map(|_| tensors.iter().filter_map(|t| nonfinite_warning(&t)));
    let warnings = plan.warnings.iter().cloned().chain(rows.into_iter().flatten()).collect();
    Some(ConvertReport {
        schema_version: SCHEMA_VERSION,
        conversion: plan.conversion.clone()?,
        tensors,
        rounding: rounding(plan),
        source_sha256: Vec::new(),
        gate: None,
        target: None,
        rotation_choice: None,
        split_files: split_files(plan),
        warnings,
    })
}

/// The files of a split output; none if the output is not split.
fn split_files(plan: &Plan) -> Vec<SplitFileView> {
    let split = plan.conversion.as_ref().is_some_and(|c| !c.recipe.split.is_none()) && plan.files.len() > 1;
    let mut tensors: BTreeMap<u32, u64> = BTreeMap::new();
    let stored = plan.outputs.iter().filter(|_| split).flat_map(|o| o.stored());
    for place in stored.filter_map(|s| s.place) {
        *tensors.entry(place.file).or_default() += 1;
    }
    let all = plan.files.iter().zip(0..).filter(|_| split);
    let view = |(file, index): (&OutFile, u32)| SplitFileView {
        name: file.name.clone(),
        bytes: file.len,
        tensors: tensors.get(&index).copied().unwrap_or(0),
    };
    all.map(view).collect()
}

/// The warning about a tensor that was written with values that are no numbers.
fn nonfinite_warning(tensor: &ConvertedTensor) -> Option<Warning> {
    let Tally { count, first } = tensor.non_finite?;
    let message = format!(
        "{:?} holds NaN or infinity in {count} of {} elements, the first at element {}",
        tensor.name, tensor.numel, first?
    );
    Some(Warning { code: "non_finite", message })
}

/// The word for what happens to an output.
pub fn action(output: &Output) -> &'static str {
    match output.segments.first().map(|p| p.op) {
        Some(OutputOp::Transcode(_)) => "transcode",
        Some(OutputOp::Encode(_)) if output.dtype.is_quantized() => "quantize",
        Some(OutputOp::Encode(_)) if output.is_rotated() => "rotate",
        Some(OutputOp::Encode(_)) => "convert",
        Some(OutputOp::Copy | OutputOp::Measure) | None => "keep",
    }
}
