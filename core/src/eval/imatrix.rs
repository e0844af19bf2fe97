//! The entries of an importance matrix: the tensors of a GGUF, and the inputs of a forward pass that each is made of.
//!
//! A forward pass has the names and shapes of a Hugging Face checkpoint, an importance matrix those of the GGUF that it
//! becomes. Both sides are joined by the map of the conversion ([`gguf_tensors`]), also for models that are a GGUF already.
//! Covered are the tensors that llama-imatrix covers: matrices of layers, and the head on request. Reads no values.

use crate::error::Result;
use crate::format::Checkpoint;
use crate::format::imatrix::{EntrySize, EntryTotals};
use crate::model::arch;
use crate::model::forward::{InputPart, InputSums};
use crate::model::gguf_tensors::{self, GgufTensor, GgufTensorOptions, Order, Part};
use crate::plan::{Warning, decoded};
use crate::tensor::TensorInfo;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde_json::Value;

/// Most matrices of a stack.
const MAX_STACK: u64 = 1 << 16;
/// The tensor that is covered on request.
const OUTPUT: &str = "output.weight";

/// An entry, and the inputs that it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct EntrySource {
    /// The name of the tensor.
    pub name: String,
    /// The matrices of a stack, or one.
    matrices: Vec<MatrixSource>,
    /// Whether one count is for all matrices.
    one_count: bool,
    /// Number of sums; by the names alone, an estimate.
    values: u64,
    exact: bool,
}

/// A matrix of the forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MatrixSource {
    tensor: String,
    part: InputPart,
    columns: Columns,
}

/// The order of the columns of a GGUF tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    /// That of the input channels.
    Same,
    /// Channels `[outer, inner, width]` as `[inner, outer, width]`.
    Swapped { outer: usize, inner: usize, width: usize },
}

/// The tensors that an importance matrix of a model covers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// The tensors by name; those whose matrices the forward pass does not multiply with have no sums in the end.
    pub entries: Vec<EntrySource>,
    /// What a user should know of the names.
    pub warnings: Vec<Warning>,
}

impl Coverage {
    /// The coverage of a model; with `process_output`, of its head too.
    ///
    /// # Errors
    ///
    /// Those of [`decoded::tensors`].
    pub fn of(checkpoint: &Checkpoint, process_output: bool) -> Result<Coverage> {
        let (config, tensors, arch) = match decoded::tensors(checkpoint)? {
            Some(model) => {
                let first = checkpoint.tensors.first();
                let made = model.outputs.iter().filter_map(|o| {
                    Some(TensorInfo {
                        name: o.name.clone(),
                        shape: o.shape.clone(),
                        packed: None,
                        ..first?.clone()
                    })
                });
                (Some(model.config), made.collect(), Some(model.arch))
            }
            None => (checkpoint.config.clone(), checkpoint.tensors.clone(), None),
        };
        let config = config.and_then(|c| serde_json::from_slice::<Value>(&c).ok()).unwrap_or_default();
        let options = GgufTensorOptions::default();
        let made = gguf_tensors::convertible(&config)
            .and_then(|found| gguf_tensors::gguf_tensors(arch.unwrap_or(found), &config, &tensors, options));
        let mut found = match made {
            Ok(made) => Coverage {
                entries: made.tensors.iter().filter_map(|t| EntrySource::of(t, &tensors)).collect(),
                warnings: Vec::new(),
            },
            Err(why) => Coverage::by_names(checkpoint, &tensors, &why.detail().message),
        };
        found.entries.retain(|e| covered(&e.name, process_output));
        if process_output && found.entries.iter().all(|e| e.name != OUTPUT) {
            let message = "the model's head is its embedding, which an importance matrix does not cover: \
                           --process-output adds nothing";
            found.warnings.push(Warning { code: "tied_head", message: message.to_string() });
        }
        Ok(found)
    }

    /// The coverage of a folder that cannot be converted to a GGUF: one entry for each tensor, or for each stack of experts.
    fn by_names(checkpoint: &Checkpoint, tensors: &[TensorInfo], why: &str) -> Coverage {
        let arch = arch::of_model(&checkpoint.metadata, checkpoint.config.as_deref());
        let mut found: BTreeMap<String, BTreeMap<u64, MatrixSource>> = BTreeMap::new();
        let mut values: BTreeMap<String, u64> = BTreeMap::new();
        for tensor in tensors {
            let gguf = arch.gguf_name(&tensor.name);
            let expert = gguf.as_ref().and_then(|g| g.expert);
            let name = gguf.map_or_else(|| tensor.name.to_string(), |g| g.name);
            let axes = tensor.shape.axes();
            let stack = if axes.len() > 2 { axes.first().copied().unwrap_or(1) } else { 1 };
            let each = tensor.shape.rows().checked_div(stack).unwrap_or(0);
            if stack > MAX_STACK || expert.is_some_and(|e| e >= MAX_STACK) {
                continue;
            }
            let entry = found.entry(name.clone()).or_default();
            for index in 0..stack {
                let (tensor, part) = (tensor.name.to_string(), InputPart::Rows(index * each));
                entry.insert(expert.unwrap_or(index), MatrixSource { tensor, part, columns: Columns::Same });
            }
            let sum = values.entry(name).or_default();
            *sum = sum.saturating_add(stack.saturating_mul(tensor.shape.cols()));
        }
        let entry = |(name, matrices): (String, BTreeMap<u64, MatrixSource>)| {
            let values = values.get(&name).copied().unwrap_or(0);
            let matrices = matrices.into_values().collect();
            EntrySource { name, matrices, one_count: false, values, exact: false }
        };
        let message = format!(
            "entries are named by the tensor map of the architecture, because the model cannot be converted to a GGUF: {why}"
        );
        Coverage {
            entries: found.into_iter().map(entry).collect(),
            warnings: Vec::from([Warning { code: "imatrix_names", message }]),
        }
    }

    /// Bytes of all sums.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|e| e.values.saturating_mul(8)).fold(0, u64::saturating_add)
    }

    /// The stacks with matrices that no vector reached, and how many of how many.
    pub fn unreached(&self, sums: &InputSums) -> Vec<(String, usize, usize)> {
        let of = |entry: &EntrySource| {
            let missing = entry.matrices.iter().filter(|m| sums.get(&m.tensor, m.part).is_none()).count();
            let all = entry.matrices.len();
            (missing > 0 && missing < all).then(|| (entry.name.clone(), missing, all))
        };
        self.entries.iter().filter_map(of).collect()
    }
}

/// Whether llama-imatrix covers a tensor of this name that is multiplied with.
fn covered(name: &str, process_output: bool) -> bool {
    match name {
        OUTPUT => process_output,
        "token_embd.weight" => false,
        _ => true,
    }
}

impl EntrySource {
    /// Whether it is of several matrices with a count each.
    pub fn is_stack(&self) -> bool {
        self.matrices.len() > 1 && !self.one_count
    }

    /// The entry for a GGUF tensor; `None` if its columns are not input channels of its sources.
    fn of(gguf: &GgufTensor, tensors: &[TensorInfo]) -> Option<EntrySource> {
        let axes = gguf.shape.axes();
        let (cols, rows) =
            (*axes.last()?, axes.len().checked_sub(2).and_then(|i| axes.get(i)).copied().unwrap_or(1));
        let stack = gguf.shape.rows().checked_div(rows)?;
        let is_layer = gguf.name.starts_with("blk.") || gguf.name == OUTPUT;
        if !is_layer || gguf.cols != cols || stack > MAX_STACK || rows == 0 || cols == 0 {
            return None;
        }
        let latent = |end: &str| gguf.name.ends_with(end);
        let (keys, values) = (latent(".attn_k_b.weight"), latent(".attn_v_b.weight"));
        let mut parts = gguf.parts.iter();
        let (mut part, mut end) = (parts.next()?, 0);
        end += part.rows;
        let mut matrices = Vec::new();
        for index in 0..stack {
            let row = index.checked_mul(rows)?;
            while row >= end {
                part = parts.next()?;
                end += part.rows;
            }
            let tensor = tensors.get(part.source)?;
            let head = usize::try_from(index).ok()?;
            matrices.push(match (keys, values) {
                (true, _) => MatrixSource::latent(tensor, InputPart::LatentKeys(head)),
                (_, true) => MatrixSource::latent(tensor, InputPart::LatentValues(head)),
                _ => MatrixSource::of(part, row - (end - part.rows), cols, tensor)?,
            });
        }
        let (one_count, name) = (keys || values, gguf.name.clone());
        Some(EntrySource { name, matrices, one_count, values: stack.checked_mul(cols)?, exact: true })
    }

    /// Matrices with a count each; 1 if one count is for all.
    pub fn matrices(&self) -> usize {
        if self.one_count { 1 } else { self.matrices.len() }
    }

    /// Number of sums; `None` if only the collected ones tell.
    pub fn values(&self) -> Option<u64> {
        self.exact.then_some(self.values)
    }

    /// Input channels, by the first matrix that was reached.
    fn channels(&self, sums: &InputSums) -> Option<usize> {
        self.matrices.iter().find_map(|m| sums.get(&m.tensor, m.part)).map(|s| s.sums.len())
    }

    /// Name and size of the entry; `None` if no vector reached it.
    pub fn size(&self, sums: &InputSums) -> Option<EntrySize> {
        let values = (self.channels(sums)? as u64).checked_mul(self.matrices.len() as u64)?;
        Some(EntrySize { name: self.name.clone(), values, counts: self.matrices() as u64 })
    }

    /// Sums and counts of the entry, in the order of the GGUF tensor's columns. `None` if no vector reached it.
    pub fn totals(&self, sums: &InputSums) -> Option<EntryTotals> {
        let channels = self.channels(sums)?;
        let mut totals = EntryTotals::default();
        for matrix in &self.matrices {
            let found = sums.get(&matrix.tensor, matrix.part).filter(|s| s.sums.len() == channels);
            match found {
                Some(found) => totals.sums.extend(matrix.columns.of(&found.sums)),
                None => totals.sums.extend(vec![0.0; channels]),
            }
            totals.counts.push(found.map_or(0.0, |s| s.count as f64));
        }
        if self.one_count {
            totals.counts.truncate(1);
        }
        Some(totals)
    }
}

impl MatrixSource {
    fn latent(tensor: &TensorInfo, part: InputPart) -> MatrixSource {
        MatrixSource { tensor: tensor.name.to_string(), part, columns: Columns::Same }
    }

    /// The matrix of the source that row `row` of a part with `cols` columns comes from.
    fn of(part: &Part, row: u64, cols: u64, tensor: &TensorInfo) -> Option<MatrixSource> {
        let (view, axes, width) = (part.view, tensor.shape.axes(), tensor.shape.cols());
        let (first_row, channels, columns) = match view.order {
            Order::Transpose { .. } => (view.row, cols, Columns::Same),
            Order::Rows | Order::Permute { .. } => (view.row.checked_add(row)?, width, Columns::Same),
            Order::SwapColumns { outer, inner, width: together } => {
                let size = |n: u64| usize::try_from(n).ok();
                let columns =
                    Columns::Swapped { outer: size(outer)?, inner: size(inner)?, width: size(together)? };
                (view.row.checked_add(row)?, width, columns)
            }
        };
        if channels != cols {
            return None;
        }
        let element = first_row.checked_mul(view.cols)?.checked_add(view.col)?;
        let stack = if axes.len() > 2 { *axes.first()? } else { 1 };
        let index = element.checked_div(tensor.shape.numel().checked_div(stack)?)?;
        let part = InputPart::Rows(index.checked_mul(tensor.shape.rows().checked_div(stack)?)?);
        Some(MatrixSource { tensor: tensor.name.to_string(), part, columns })
    }
}

impl Columns {
    /// Sums of input channels in the order of the columns.
    fn of(self, sums: &[f64]) -> Vec<f64> {
        match self {
            Columns::Swapped { outer, inner, width }
                if outer.checked_mul(inner).and_then(|n| n.checked_mul(width)) == Some(sums.len()) =>
            {
                let runs = |i: usize| (0..outer).map(move |o| (o * inner + i) * width);
                let at = (0..inner).flat_map(runs);
                at.flat_map(|at| sums.get(at..at + width).unwrap_or_default()).copied().collect()
            }
            _ => sums.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_columns_are_those_of_the_conversion() {
        let sums = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        // Channels [3, 2] of one value each: column (i, o) is channel (o, i).
        let columns = Columns::Swapped { outer: 3, inner: 2, width: 1 };
        assert_eq!(columns.of(&sums), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(Columns::Same.of(&sums), sums);
    }
}
