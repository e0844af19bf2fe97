//! Plans of two checkpoints: `compare` by value, `verify` by byte.

mod aliases;
mod builder;
mod maps;
mod names;
mod unpaired;

use super::{MetricSet, OutputOp, Plan, provenance, target};
use crate::dtype::DType;
use crate::error::Result;
use crate::float::Spacing;
use crate::format::Checkpoint;
use crate::format::imatrix::Imatrix;
use crate::quant::gaussian_error::scale_floor;
use crate::quant::{Encoding, has_encoder, transcoder};
use crate::recipe::tensor_filter::TensorFilter;
use crate::tensor::Name;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use builder::PairBuilder;
use serde::Serialize;

/// A difference between two checkpoints that is not a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The stable code: `only_in_reference`, `only_in_candidate`, `shape_mismatch`, `unsupported_dtype`,
    /// `unknown_architecture`, `unmapped_tensor`, `no_overlap`, `non_finite`, `not_comparable`, `values_differ`,
    /// `row_differs`, `beyond_rounding`.
    pub kind: &'static str,
    /// The tensor, by its name on its side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<Name>,
    /// The sentence for people.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(kind: &'static str, tensor: &str, detail: impl Into<String>) -> Finding {
        Finding { kind, tensor: Some(tensor.into()), detail: detail.into() }
    }

    pub(super) fn no_overlap() -> Finding {
        let detail = "no tensor of the two sides could be compared".to_string();
        Finding { kind: "no_overlap", tensor: None, detail }
    }
}

/// The common tensors of two checkpoints as a plan, and their differences as findings.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// One output per pair; nothing is written.
    pub plan: Plan,
    /// Everything that could not be paired.
    pub findings: Vec<Finding>,
}

/// Plans the error of `candidate` against `reference`, on the tensors that `filter` selects.
///
/// # Errors
///
/// `unsupported_dtype` if a tensor is quantized in a form that is not decoded yet, `no_such_tensor` if the filter selects
/// nothing, or one of its patterns matches nothing.
pub fn compare(reference: &Checkpoint, candidate: &Checkpoint, filter: &TensorFilter) -> Result<Pairing> {
    filter.check(&[reference, candidate])?;
    let choose = |from: DType, to: DType| {
        let metrics = MetricSet {
            error: true,
            rounding: Spacing::of(from).is_some() && Spacing::of(to).is_some(),
            row_floor: scale_floor(from).max(scale_floor(to)),
            ..MetricSet::default()
        };
        Ok((metrics, OutputOp::Measure))
    };
    PairBuilder::new(reference, candidate, None, &choose).with_maps().filtered(filter).build()
}

/// Plans the comparison of `artefact`, byte by byte, with `source` encoded again. `imatrix` is the importance matrix that
/// it was made with. Tensors that the recorded recipe leaves out are not expected.
///
/// # Errors
///
/// `unsupported_dtype` if a tensor is quantized in a form that is not decoded yet.
pub fn verify(source: &Checkpoint, artefact: &Checkpoint, imatrix: Option<&Imatrix>) -> Result<Pairing> {
    let recipe = provenance::recorded_recipe(artefact);
    let filter = recipe.and_then(|r| r.filter().ok()).unwrap_or_default();
    let target = target::of(artefact.container.into());
    let choose = |from, to| choose_verification(from, to, target.encodings(to));
    PairBuilder::new(source, artefact, imatrix, &choose).filtered(&filter).build()
}

/// How a tensor stored as `from` is verified against one stored as `to`, which one of `encodings` made.
fn choose_verification(
    from: DType,
    to: DType,
    encodings: Vec<Encoding>,
) -> core::result::Result<(MetricSet, OutputOp), String> {
    if from == to {
        return Ok((MetricSet::default(), OutputOp::Copy));
    }
    if transcoder(from, to).is_some() {
        // A recipe may ask for the symmetric form, or for Q4_0 of blocks with a minimum: then the values were encoded.
        let encoded = match to {
            DType::LATTICE_Q4 => Some(Encoding::LatticeSym),
            DType::Q4_0 => Some(Encoding::Type(to)),
            _ => None,
        };
        let metrics = MetricSet { identity: encoded.into_iter().collect(), ..MetricSet::default() };
        return Ok((metrics, OutputOp::Transcode(to)));
    }
    if encodings.iter().all(|e| !has_encoder(*e)) {
        return Err(format!("{to} cannot be encoded, so {from} cannot be held against it"));
    }
    let metrics = MetricSet { identity: encodings.into(), error: true, ..MetricSet::default() };
    Ok((metrics, OutputOp::Measure))
}
