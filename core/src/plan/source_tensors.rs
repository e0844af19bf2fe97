//! Properties of source tensors that several plans depend on: whether a tensor can be measured, and whether its scale is
//! another tensor.

use crate::dtype::{DType, DTypeKind};
use crate::format::Checkpoint;
use crate::model::tensor_role::{TensorRole, role};
use crate::recipe::Reason;
use crate::tensor::{Shape, TensorInfo};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

/// The tensor names of a checkpoint, in order.
pub(super) struct TensorNames<'a>(BTreeSet<&'a str>);

impl<'a> TensorNames<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint) -> TensorNames<'a> {
        TensorNames(checkpoint.tensors.iter().map(|t| t.name.as_str()).collect())
    }

    /// A sentence, if `tensor` is an 8-bit float whose scale is another tensor: decoded alone it is not the weight.
    pub(super) fn missing_scale(&self, tensor: &TensorInfo) -> Option<String> {
        if !matches!(tensor.dtype, DType::F8_E4M3 | DType::F8_E5M2) {
            return None;
        }
        // Names with a common prefix are neighbours in the set, so the first one is enough.
        let prefix = format!("{}_scale", tensor.name);
        let scale = self.0.range(prefix.as_str()..).next().filter(|n| n.starts_with(&prefix))?;
        Some(format!("{} needs its scale {scale:?}, which is not applied yet", tensor.dtype))
    }
}

/// Whether a tensor holds weights on which an encoding can be measured.
pub(super) fn is_measurable(tensor: &TensorInfo) -> bool {
    tensor.dtype.kind() != DTypeKind::Integer && crate::quant::decoder(tensor.dtype).is_some()
}

/// The reason of an output that is only measured: its role.
pub(super) fn role_reason(name: &str, shape: &Shape) -> Reason {
    let code = match role(name, shape) {
        TensorRole::Weight => "weight",
        TensorRole::Embedding => "embedding",
        TensorRole::Output => "output",
        TensorRole::Norm => "norm",
        TensorRole::Bias => "bias",
        TensorRole::Router => "router",
        TensorRole::Positional => "positional",
        TensorRole::Conv => "conv",
        TensorRole::Vector => "vector",
        TensorRole::Other => "not_a_weight",
    };
    Reason { code, text: "".into() }
}
