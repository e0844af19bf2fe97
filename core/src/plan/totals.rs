//! The totals of a conversion: bytes read and written, and numbers of tensors.

use super::{OutFile, Output};
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use alloc::collections::BTreeSet;
use serde::Serialize;

/// The totals of a conversion. Bytes are exact; what cannot be computed is absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Bytes of the tensors that are read, each counted once.
    pub total_bytes_in: u64,
    /// Lengths of all source files, in bytes.
    pub source_file_bytes: u64,
    /// Lengths of all files that are written, in bytes.
    pub total_bytes_out: u64,
    /// Bytes of all tensors that are written, without headers and padding.
    pub tensor_bytes_out: u64,
    /// Tensors that are quantized (stored as a block type).
    pub planned_quantized: u64,
    /// Tensors that are copied or stored as a plain type.
    pub kept: u64,
    /// `total_bytes_in / total_bytes_out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Stored bits of all output tensors per parameter of the source: a head that was copied from a tied embedding adds to
    /// the bits, not to the parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_weight: Option<f64>,
    /// Bytes of the head that was copied from a tied embedding: what untying costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untied_head_bytes: Option<u64>,
}

/// A head that was copied from a tied embedding.
#[derive(Clone, Copy, Debug)]
pub(super) struct UntiedHeadSize {
    weights: u64,
    bytes: Option<u64>,
}

impl UntiedHeadSize {
    /// The head that `output` is.
    pub(super) fn of(output: &Output) -> UntiedHeadSize {
        let weights = output.shape.numel();
        UntiedHeadSize { weights, bytes: output.dtype.bytes_for(weights) }
    }
}

impl Totals {
    /// The totals of a plan of `checkpoint`, with the `head` that was copied from a tied embedding, if one was.
    ///
    /// # Errors
    ///
    /// `overflow` if a sum does not fit 64 bits.
    pub(super) fn of(
        checkpoint: &Checkpoint,
        outputs: &[Output],
        files: &[OutFile],
        head: Option<UntiedHeadSize>,
    ) -> Result<Totals> {
        let operands = outputs.iter().flat_map(|o| &o.segments).map(|s| &s.from);
        let read: BTreeSet<u32> = operands.filter(|o| !o.is_generated()).map(|o| o.tensor).collect();
        let span = |&i: &u32| checkpoint.tensors.get(i as usize).map_or(0, |t| t.stored_bytes());
        let total_bytes_in = sum(read.iter().map(span))?;
        let total_bytes_out = sum(files.iter().map(|f| f.len))?;
        let quantized = outputs.iter().filter(|o| o.dtype.is_quantized()).count() as u64;
        let stored = sum(outputs.iter().filter_map(Output::bytes_out))?;
        let written = sum(outputs.iter().map(|o| o.shape.numel()))?;
        let weights = written.saturating_sub(head.map_or(0, |h| h.weights));
        let over = |a: u64, b: u64| (a != 0 && b != 0).then(|| a as f64 / b as f64);
        Ok(Totals {
            total_bytes_in,
            source_file_bytes: sum(checkpoint.files.iter().map(|f| f.len))?,
            total_bytes_out,
            tensor_bytes_out: stored,
            planned_quantized: quantized,
            kept: outputs.len() as u64 - quantized,
            ratio: over(total_bytes_in, total_bytes_out),
            bits_per_weight: over(stored, weights).map(|r| r * 8.0),
            untied_head_bytes: head.and_then(|h| h.bytes),
        })
    }
}

/// A sum of sizes that a hostile file cannot make wrap.
fn sum(mut sizes: impl Iterator<Item = u64>) -> Result<u64> {
    let overflow = || Error::new(Code::Overflow, "the sizes of this plan do not fit 64 bits");
    sizes.try_fold(0_u64, u64::checked_add).ok_or_else(overflow)
}
