//! Lookup of the tensor on the other side by its name, its axes, and its form in GGUF.

use super::Finding;
use crate::format::{Checkpoint, Container, q4};
use crate::model::hf_names::Unmapped;
use crate::tensor::TensorInfo;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

/// The tensors of one side by name.
pub(super) struct NameLookup<'a> {
    checkpoint: &'a Checkpoint,
    /// Loose `.q4` files have lost their names: only the sanitised form is left.
    sanitised: bool,
    /// `None` if several tensors have the same sanitised name: none of them can be chosen.
    by_name: BTreeMap<String, Option<usize>>,
}

impl<'a> NameLookup<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, sanitised: bool) -> NameLookup<'a> {
        let key = |t: &TensorInfo| if sanitised { q4::file_stem(&t.name) } else { t.name.to_string() };
        let mut by_name = BTreeMap::new();
        for (index, tensor) in checkpoint.tensors.iter().enumerate() {
            by_name.entry(key(tensor)).and_modify(|i| *i = None).or_insert(Some(index));
        }
        NameLookup { checkpoint, sanitised, by_name }
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
