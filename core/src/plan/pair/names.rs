//! Lookup of the tensor on the other side by its name, its axes, and its form in GGUF.

use super::Finding;
use super::aliases::{StackedExpert, canonical, stacked_expert};
use crate::format::{Checkpoint, Container, q4};
use crate::model::hf_source::Unmapped;
use crate::plan::{Operand, Side};
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

/// The tensors of one side by name.
pub(super) struct NameLookup<'a> {
    checkpoint: &'a Checkpoint,
    /// Loose `.q4` files have lost their names: only the sanitised form is left.
    sanitised: bool,
    /// `None` if several tensors have the same sanitised name: none of them can be chosen.
    by_name: BTreeMap<String, Option<usize>>,
    /// The same by canonical name.
    by_canonical: BTreeMap<&'a str, Option<usize>>,
}

/// A tensor, or the rows of a stack of experts that are one expert's matrix.
#[derive(Clone, Copy)]
pub(super) struct PairPartner<'a> {
    pub(super) index: usize,
    pub(super) tensor: &'a TensorInfo,
    /// The first row of the part, and its number of rows; `None` for the whole tensor.
    pub(super) part: Option<(u64, u64)>,
}

impl PairPartner<'_> {
    /// The rows of the tensor that are meant, as an operand.
    pub(super) fn operand(&self, side: Side) -> Operand {
        let mut operand = Operand::whole(side, self.index, self.tensor);
        operand.row = self.part.map_or(0, |(row, _)| row);
        operand
    }

    /// The shape of what is meant.
    pub(super) fn shape(&self) -> Shape {
        let part = self.part.and_then(|(_, rows)| Shape::new([rows, self.tensor.shape.cols()]));
        part.unwrap_or_else(|| self.tensor.shape.clone())
    }
}

impl<'a> NameLookup<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, sanitised: bool) -> NameLookup<'a> {
        let key = |t: &TensorInfo| if sanitised { q4::file_stem(&t.name) } else { t.name.to_string() };
        let (mut by_name, mut by_canonical) = (BTreeMap::new(), BTreeMap::new());
        for (index, tensor) in checkpoint.tensors.iter().enumerate() {
            by_name.entry(key(tensor)).and_modify(|i| *i = None).or_insert(Some(index));
            by_canonical.entry(canonical(&tensor.name)).and_modify(|i| *i = None).or_insert(Some(index));
        }
        NameLookup { checkpoint, sanitised, by_name, by_canonical }
    }

    /// The tensor of this name, or the only one with the same canonical name.
    pub(super) fn find_alias(&self, name: &str) -> Option<(usize, &'a TensorInfo)> {
        if let Some(found) = self.find(name) {
            return Some(found);
        }
        // Names of files have lost the dots that prefixes end with.
        let by_canonical = (!self.sanitised).then_some(&self.by_canonical)?;
        let index = (*by_canonical.get(canonical(name))?)?;
        Some((index, self.checkpoint.tensors.get(index)?))
    }

    /// The tensor of this name or an equal one, or the part of a stack of experts that it is.
    pub(super) fn locate(&self, name: &str) -> Option<PairPartner<'a>> {
        if let Some((index, tensor)) = self.find_alias(name) {
            return Some(PairPartner { index, tensor, part: None });
        }
        let StackedExpert { stack, expert, half } = stacked_expert(name)?;
        let (index, tensor) = self.find_alias(&stack)?;
        let [experts, rows, _] = *tensor.shape.axes() else { return None };
        if expert >= experts || (half.is_some() && !rows.is_multiple_of(2)) {
            return None;
        }
        let (share, at) = half.map_or((rows, 0), |h| (rows / 2, h * (rows / 2)));
        // Below the number of rows of the tensor, which fits 64 bits.
        Some(PairPartner { index, tensor, part: Some((expert * rows + at, share)) })
    }

    pub(super) fn find(&self, name: &str) -> Option<(usize, &'a TensorInfo)> {
        let key = if self.sanitised { q4::file_stem(name) } else { name.to_string() };
        let index = (*self.by_name.get(&key)?)?;
        Some((index, self.checkpoint.tensors.get(index)?))
    }

    /// Number of distinct names.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// Whether the tensors of a checkpoint have the names of their files.
pub(super) fn has_file_names(checkpoint: &Checkpoint) -> bool {
    checkpoint.container == Container::LatticeQ4 && checkpoint.q4_index.is_none()
}

/// The finding for a GGUF tensor without a counterpart.
pub(super) fn unmapped(name: &str, why: Unmapped) -> Finding {
    match why {
        Unmapped::Architecture => Finding::new(
            "unknown_architecture",
            name,
            "how this architecture's converter lays tensors out is not known",
        ),
        Unmapped::Tensor => Finding::new("unmapped_tensor", name, "this tensor has no known counterpart"),
    }
}

/// Axes without leading ones, so that a scalar and one element are the same.
pub(super) fn trimmed(axes: &[u64]) -> &[u64] {
    let ones = axes.iter().take_while(|&&n| n == 1).count();
    axes.get(ones..).unwrap_or_default()
}

/// Whether the shapes are equal; with `loose`, leading ones do not count (GGUF drops them, and writes a scalar as one
/// element).
pub(super) fn same_shape(a: &TensorInfo, b: &TensorInfo, loose: bool) -> bool {
    a.shape == b.shape || loose && trimmed(a.shape.axes()) == trimmed(b.shape.axes())
}
