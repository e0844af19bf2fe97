//! Findings about tensors that one side alone has, each with its likely partner.

use super::Finding;
use crate::format::Checkpoint;
use crate::tensor::TensorInfo;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// Axes and the last two parts of a name: equal for tensors that are likely the same.
type Likeness<'a> = (&'a [u64], &'a str);

fn likeness(tensor: &TensorInfo) -> Likeness<'_> {
    let name = tensor.name.as_str();
    let tail = name.rmatch_indices('.').nth(1).and_then(|(at, _)| name.get(at..)).unwrap_or(name);
    (tensor.shape.axes(), tail)
}

/// The findings about the tensors of `sides` that are not in `used`, in the order of the sides.
pub(super) fn findings(sides: [&Checkpoint; 2], used: &[BTreeSet<usize>; 2]) -> Vec<Finding> {
    let unpaired = sides.map(|c| c.tensors.iter().enumerate());
    let [reference, candidate] = used;
    let [a, b] = unpaired;
    let a: Vec<&TensorInfo> = a.filter(|(i, _)| !reference.contains(i)).map(|(_, t)| t).collect();
    let b: Vec<&TensorInfo> = b.filter(|(i, _)| !candidate.contains(i)).map(|(_, t)| t).collect();
    let mut all = of_side("only_in_reference", &a, &b);
    all.extend(of_side("only_in_candidate", &b, &a));
    all
}

fn of_side(kind: &'static str, alone: &[&TensorInfo], others: &[&TensorInfo]) -> Vec<Finding> {
    let mut partners: BTreeMap<Likeness<'_>, Option<&TensorInfo>> = BTreeMap::new();
    for other in others {
        partners.entry(likeness(other)).and_modify(|p| *p = None).or_insert(Some(other));
    }
    let detail = |t: &TensorInfo| match partners.get(&likeness(t)).copied().flatten() {
        Some(partner) => {
            format!("{} on one side only; the other has {:?} of the same shape", t.dtype, partner.name)
        }
        None => format!("{} on one side only", t.dtype),
    };
    alone.iter().map(|t| Finding::new(kind, &t.name, detail(t))).collect()
}
