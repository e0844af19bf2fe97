//! Verification of a rotated output: its source is planned again by the recipe that the output records, and every tensor is
//! compared with the stored one.

use super::pair::{Finding, Pairing};
use super::{
    MetricSet, Operand, Output, OutputOp, Plan, Segment, Side, ThinVec, convert, provenance, target,
};
use crate::dtype::DType;
use crate::error::Result;
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container};
use crate::quant::Encoding;
use crate::recipe::rotation::RotationOptions;
use crate::recipe::{Recipe, TargetName, TensorNaming};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// The recipe that `artefact` records, if it rotates. A lattice directory of lattice's own records only the seed.
pub fn recorded(artefact: &Checkpoint) -> Option<Recipe> {
    let recipe = provenance::recorded_recipe(artefact);
    let lattice = || {
        let seed = artefact.q4_seed?;
        let rotate = RotationOptions { stream: true, heads: false, fold: false, block: None, seed, rules: 1 };
        Some(Recipe { rotate: Some(rotate), ..Recipe::new(Container::LatticeQ4, None) })
    };
    let mut recipe = recipe.or_else(lattice)?;
    recipe.rotate.as_mut()?.rules = rules(artefact);
    Some(recipe)
}

/// The recipe that `artefact` records, if it is a GGUF that may have been made of a Hugging Face folder, or an MLX folder.
pub fn recorded_conversion(artefact: &Checkpoint) -> Option<Recipe> {
    let recipe = provenance::recorded_recipe(artefact)?;
    let gguf = artefact.container == Container::Gguf
        && recipe.to == TargetName::Gguf
        && recipe.names != TensorNaming::Source;
    (gguf || is_mlx(artefact, &recipe)).then_some(recipe)
}

/// Whether `artefact` is an MLX folder that `recipe` made. Its tensors have other names and stacks than those of its source, and
/// parts that are compared as blocks.
pub fn is_mlx(artefact: &Checkpoint, recipe: &Recipe) -> bool {
    artefact.container == Container::Safetensors && recipe.to == TargetName::Mlx
}

/// The type of a stored tensor. A weight in the parts of MLX has the type of its blocks.
fn stored_type(tensor: &TensorInfo) -> DType {
    let blocks = tensor.packed.as_ref().and_then(|packed| packed.mlx_type());
    blocks.map_or(tensor.dtype, DType::MLX)
}

/// The version of the rules that the record of a rotation names; 1 if there is none.
fn rules(artefact: &Checkpoint) -> u32 {
    let text = artefact.metadata.text(provenance::ROTATION);
    let record = text.and_then(|t| serde_json::from_str::<Value>(t).ok());
    let version = record.as_ref().and_then(|r| r.get("rules")).and_then(Value::as_u64);
    version.map_or(1, |v| u32::try_from(v).unwrap_or(u32::MAX))
}

/// Plans the comparison of `artefact`, byte by byte, with `source` converted again by `recipe`.
///
/// # Errors
///
/// Those of [`convert::plan`].
pub fn verify(
    source: &Checkpoint,
    artefact: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
) -> Result<Pairing> {
    let made = convert::plan(source, recipe, imatrix, false)?;
    let mut stored: BTreeMap<&str, (usize, &TensorInfo)> =
        artefact.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), (i, t))).collect();
    let (mut outputs, mut findings) = (Vec::new(), Vec::new());
    for output in made.outputs {
        let Some((index, tensor)) = stored.remove(output.name.as_str()) else {
            findings.push(Finding::new("only_in_reference", &output.name, "the artefact lacks it"));
            continue;
        };
        let dtype = stored_type(tensor);
        if tensor.shape != output.shape || dtype != output.dtype {
            let detail = format!(
                "{dtype} {:?}, and its recipe makes {} {:?}",
                tensor.shape.axes(),
                output.dtype,
                output.shape.axes()
            );
            findings.push(Finding::new("shape_mismatch", &output.name, detail));
            continue;
        }
        outputs.push(compared(output, recipe, index, tensor));
    }
    let others = stored.keys();
    findings.extend(others.map(|n| Finding::new("only_in_candidate", n, "its recipe does not make it")));
    if outputs.is_empty() {
        findings.push(Finding::no_overlap());
    }
    findings.sort();
    Ok(Pairing { plan: Plan::of_measurements(outputs, made.warnings), findings })
}

/// Makes the grid of a copy that of its bytes, which are compared one by one.
fn bytes_of(output: &mut Output) {
    let Some(bytes) = output.segments.first().map(|s| s.from.dtype.block_bytes()) else { return };
    output.grid.cols = output.grid.cols.saturating_mul(bytes);
    output.segments.iter_mut().for_each(|segment| segment.from.dtype = DType::U8);
}

/// `output`, compared with the stored tensor number `index` instead of written.
fn compared(mut output: Output, recipe: &Recipe, index: usize, tensor: &TensorInfo) -> Output {
    let op = output.segments.first().map_or(OutputOp::Measure, |s| s.op);
    let identity: Vec<Encoding> = match op {
        OutputOp::Encode(e) => target::of(recipe.to).encodings(e.dtype()),
        _ => Vec::new(),
    };
    output.place = None;
    output.streams = ThinVec::new();
    // Blocks of packed weights are made of their parts first.
    let as_bytes = op == OutputOp::Copy && output.segments.iter().all(|s| s.from.packed.is_none());
    if as_bytes {
        bytes_of(&mut output);
    }
    output.metrics =
        MetricSet { error: !identity.is_empty(), identity: identity.into(), ..MetricSet::default() };
    let against = |segment: &Segment| {
        let whole = Operand::whole(Side::Candidate, index, tensor);
        let dtype = if as_bytes { DType::U8 } else { stored_type(tensor) };
        Operand { row: segment.rows.start, dtype, ..whole }
    };
    for segment in &mut output.segments {
        segment.against = Some(against(segment).into());
        if matches!(op, OutputOp::Encode(_)) {
            segment.op = OutputOp::Measure;
        }
    }
    output
}
