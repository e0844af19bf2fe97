//! Fused tensors: query, key and value projections as one, and the gate and up projections of experts as one. They stand where
//! the last of their parts would stand.

use super::{GgufTensor, Order, Part, ValueStep, View};
use crate::tensor::Shape;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

type Result<T> = core::result::Result<T, String>;

/// Architectures of GGUF without `attn_qkv`, among those that are converted.
const WITHOUT_QKV: &[&str] =
    &["deepseek2", "cohere2moe", "mamba2", "t5", "t5encoder", "granite_swa", "mistral4", "minicpm3"];

/// Architectures of GGUF with `ffn_gate_up_exps`.
const WITH_GATE_UP_EXPS: &[&str] = &[
    "qwen3next",
    "qwen35moe",
    "qwen4exp",
    "gemma4",
    "cohere2moe",
    "deepseek2-ocr",
    "granite_swa",
    "mistral4",
];

/// Whether the architecture called `arch` in a GGUF has `attn_qkv`.
pub(super) fn has_qkv(arch: &str) -> bool {
    !WITHOUT_QKV.contains(&arch)
}

/// Whether the architecture called `arch` in a GGUF has `ffn_gate_up_exps`.
pub(super) fn has_gate_up_exps(arch: &str) -> bool {
    WITH_GATE_UP_EXPS.contains(&arch)
}

/// Fuses queries, keys and values of each layer that has all three weights, and all three biases or none.
pub(super) fn qkv(tensors: Vec<GgufTensor>) -> Result<Vec<GgufTensor>> {
    let names: BTreeSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    let count = |layer: &str, tail: &str| {
        ["q", "k", "v"]
            .iter()
            .filter(|part| names.contains(format!("{layer}.attn_{part}.{tail}").as_str()))
            .count()
    };
    let layers = names.iter().filter_map(|name| name.strip_suffix(".attn_q.weight"));
    let fused = |layer: &&str| count(layer, "weight") == 3 && matches!(count(layer, "bias"), 0 | 3);
    let layers: Vec<String> = layers.filter(fused).map(String::from).collect();
    let groups = layers.iter().flat_map(|layer| {
        ["weight", "bias"].map(|tail| Group {
            members: ["q", "k", "v"].map(|part| format!("{layer}.attn_{part}.{tail}")).into(),
            name: format!("{layer}.attn_qkv.{tail}"),
            stacked: false,
        })
    });
    let groups: Vec<Group> = groups.collect();
    replace(tensors, &groups)
}

/// Fuses the gate and up projections of the experts of each layer: of every expert, the gate's rows come first.
pub(super) fn gate_up_exps(tensors: Vec<GgufTensor>) -> Result<Vec<GgufTensor>> {
    const GATE: &str = ".ffn_gate_exps.weight";
    let layers = tensors.iter().filter_map(|t| t.name.strip_suffix(GATE));
    let groups = layers.map(|layer| Group {
        members: Vec::from([format!("{layer}{GATE}"), format!("{layer}.ffn_up_exps.weight")]),
        name: format!("{layer}.ffn_gate_up_exps.weight"),
        stacked: true,
    });
    let groups: Vec<Group> = groups.collect();
    replace(tensors, &groups)
}

/// Tensors that become one.
struct Group {
    /// Their names, in the order of the rows.
    members: Vec<String>,
    /// The name of the fused tensor.
    name: String,
    /// Whether they are joined within each matrix of a stack.
    stacked: bool,
}

/// The tensors with each complete group in place of its last member.
fn replace(tensors: Vec<GgufTensor>, groups: &[Group]) -> Result<Vec<GgufTensor>> {
    let of_name: BTreeMap<&str, usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(at, group)| group.members.iter().map(move |m| (m.as_str(), at)))
        .collect();
    let mut waiting: BTreeMap<usize, Vec<GgufTensor>> = BTreeMap::new();
    let mut out = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let group = of_name.get(tensor.name.as_str()).and_then(|at| Some((*at, groups.get(*at)?)));
        let Some((at, group)) = group else {
            out.push(tensor);
            continue;
        };
        let members = waiting.entry(at).or_default();
        members.push(tensor);
        if members.len() == group.members.len() {
            let mut members = waiting.remove(&at).unwrap_or_default();
            members.sort_by_key(|t| group.members.iter().position(|m| *m == t.name));
            out.push(fused(group, &members)?);
        }
    }
    match waiting.into_values().flatten().next() {
        Some(alone) => Err(format!("{} has no counterpart to be fused with", alone.name)),
        None => Ok(out),
    }
}

/// One tensor of all members of a group.
fn fused(group: &Group, members: &[GgufTensor]) -> Result<GgufTensor> {
    let first = members.first().ok_or("nothing to fuse")?;
    let misfit = || format!("{}: the shapes of its parts do not fit each other", group.name);
    // The axis along which they are joined.
    let axis = usize::from(group.stacked);
    let mut axes = first.shape.axes().to_vec();
    let mut joined = 0_u64;
    for member in members {
        let other = member.shape.axes();
        let same = |at: usize| at == axis || axes.get(at) == other.get(at);
        if other.len() != axes.len() || !(0..axes.len()).all(same) || member.step != ValueStep::None {
            return Err(misfit());
        }
        joined = other.get(axis).and_then(|n| joined.checked_add(*n)).ok_or_else(misfit)?;
    }
    *axes.get_mut(axis).ok_or_else(misfit)? = joined;
    let matrices = if group.stacked { axes.first().copied().unwrap_or(0) } else { 1 };
    let mut pieces = Vec::with_capacity(members.len());
    for member in members {
        pieces.push(pieces_of(member, matrices).ok_or_else(misfit)?.into_iter());
    }
    let mut parts = Vec::new();
    for _ in 0..matrices {
        pieces.iter_mut().for_each(|of_member| parts.extend(of_member.next().into_iter().flatten()));
    }
    let cols = if axes.len() == 1 { 1 } else { first.cols };
    let shape = Shape::new(&axes).ok_or_else(misfit)?;
    Ok(GgufTensor {
        name: group.name.to_string(),
        shape,
        cols,
        parts,
        step: ValueStep::None,
        generated: Vec::new(),
    })
}

/// The parts of each of `matrices` equal groups of rows. The elements of a vector are rows of their own.
fn pieces_of(tensor: &GgufTensor, matrices: u64) -> Option<Vec<Vec<Part>>> {
    let vector = tensor.shape.axes().len() == 1;
    let as_rows = |part: &Part| match part.view {
        View { row: 0, col: 0, cols, order: Order::Rows } if vector && part.rows == 1 => {
            Part { rows: cols, view: View { cols: 1, ..part.view }, ..*part }
        }
        _ => *part,
    };
    let parts: Vec<Part> = tensor.parts.iter().map(as_rows).collect();
    let rows = parts.iter().try_fold(0_u64, |sum, p| sum.checked_add(p.rows))?;
    let each = rows.checked_div(matrices).filter(|each| *each > 0 && each * matrices == rows)?;
    let mut pieces: Vec<Vec<Part>> = Vec::new();
    let mut left = 0;
    for mut part in parts {
        while part.rows > 0 {
            if left == 0 {
                pieces.push(Vec::new());
                left = each;
            }
            let (taken, rest) = cut(part, left)?;
            left -= taken.rows;
            pieces.last_mut()?.push(taken);
            part = rest;
        }
    }
    Some(pieces)
}

/// The first `rows` rows of a part, and the others. A part of interleaved heads cannot be cut.
fn cut(part: Part, rows: u64) -> Option<(Part, Part)> {
    if part.rows <= rows {
        return Some((part, Part { rows: 0, ..part }));
    }
    let view = match part.view.order {
        Order::Rows | Order::SwapColumns { .. } => {
            View { row: part.view.row.checked_add(rows)?, ..part.view }
        }
        Order::Transpose { step } => {
            View { col: part.view.col.checked_add(rows.checked_mul(step)?)?, ..part.view }
        }
        Order::Permute { .. } => return None,
    };
    Some((Part { rows, ..part }, Part { rows: part.rows - rows, view, ..part }))
}
