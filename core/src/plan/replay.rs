//! Plans that make a rotated artefact again and hold it against what stands: its own recipe says how.

use super::convert;
use super::pair::{Finding, Pairing};
use super::{MetricSet, Operand, Output, OutputOp, Plan, Segment, Side};
use crate::dtype::DType;
use crate::error::Result;
use crate::format::{Checkpoint, Container};
use crate::quant::Encoding;
use crate::recipe::Recipe;
use crate::recipe::rotation::RotationOptions;
use crate::tensor::{MetaValue, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The recipe that an artefact was made by, where it rotates. A lattice directory names only the seed of its stream.
pub fn recorded(artefact: &Checkpoint) -> Option<Recipe> {
    let text = artefact.metadata.0.iter().find_map(|(key, value)| match value {
        MetaValue::String(text) if key == super::metadata::RECIPE => Some(text.as_str()),
        _ => None,
    });
    let recipe = text.and_then(|t| serde_json::from_str::<Recipe>(t).ok());
    let lattice = || {
        let wish =
            RotationOptions { stream: true, heads: false, fold: false, block: None, seed: artefact.q4_seed? };
        Some(Recipe { rotate: Some(wish), ..Recipe::new(Container::LatticeQ4, None) })
    };
    recipe.or_else(lattice).filter(|r| r.rotate.is_some())
}

/// Plans to make `artefact` of `source` again by `recipe`, and to hold bytes against bytes.
pub fn verify(source: &Checkpoint, artefact: &Checkpoint, recipe: &Recipe) -> Result<Pairing> {
    let made = convert::plan(source, recipe, None, false)?;
    let mut there: BTreeMap<&str, (usize, &TensorInfo)> =
        artefact.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), (i, t))).collect();
    let (mut outputs, mut findings) = (Vec::new(), Vec::new());
    for output in made.outputs {
        let Some((index, tensor)) = there.remove(output.name.as_str()) else {
            findings.push(finding("only_in_reference", &output.name, "the artefact lacks it".into()));
            continue;
        };
        if tensor.shape != output.shape || tensor.dtype != output.dtype {
            let (is, must) = (&tensor.shape, &output.shape);
            let detail = format!(
                "{} {:?}, and its recipe makes {} {:?}",
                tensor.dtype,
                is.axes(),
                output.dtype,
                must.axes()
            );
            findings.push(finding("shape_mismatch", &output.name, detail));
            continue;
        }
        outputs.push(held(output, index, tensor));
    }
    findings
        .extend(there.keys().map(|n| finding("only_in_candidate", n, "its recipe does not make it".into())));
    if outputs.is_empty() {
        let detail = "no tensor of the two sides could be compared".to_string();
        findings.push(Finding { kind: "no_overlap", tensor: None, detail });
    }
    findings.sort();
    let plan = Plan::of_measurements(outputs, made.warnings);
    Ok(Pairing { plan, findings })
}

fn finding(kind: &'static str, tensor: &str, detail: String) -> Finding {
    Finding { kind, tensor: Some(tensor.into()), detail }
}

/// Makes the grid of a copy that of its bytes, which are compared one by one.
fn as_bytes(output: &mut Output) {
    let Some(piece) = output.segments.first_mut() else { return };
    output.grid.cols = output.grid.cols.saturating_mul(piece.from.dtype.block_bytes());
    piece.from.dtype = DType::U8;
}

/// The output, measured against the artefact's tensor in place of being written.
fn held(mut output: Output, index: usize, tensor: &TensorInfo) -> Output {
    let finish = output.segments.first().map_or(OutputOp::Measure, |p| p.op);
    let identity = match finish {
        // The index of a lattice directory does not say which form its blocks have.
        OutputOp::Encode(e) if e.dtype() == DType::LATTICE_Q4 => {
            vec![Encoding::LatticeAsym, Encoding::LatticeSym]
        }
        OutputOp::Encode(e) => vec![e],
        _ => Vec::new(),
    };
    output.place = None;
    if finish == OutputOp::Copy {
        as_bytes(&mut output);
    }
    output.metrics =
        MetricSet { error: !identity.is_empty(), identity: identity.into(), ..MetricSet::default() };
    let against = |piece: &Segment| {
        let all = Operand::whole(Side::Candidate, index, tensor);
        let dtype = if finish == OutputOp::Copy { DType::U8 } else { tensor.dtype };
        Operand { row: piece.rows.start, dtype, ..all }
    };
    for piece in &mut output.segments {
        piece.against = Some(against(piece).into());
        if matches!(finish, OutputOp::Encode(_)) {
            piece.op = OutputOp::Measure;
        }
    }
    output
}
