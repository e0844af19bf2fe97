//! Properties of source tensors that several plans depend on.

use crate::dtype::DTypeKind;
use crate::model::tensor_role::{TensorRole, role};
use crate::recipe::Reason;
use crate::tensor::{Shape, TensorInfo};

/// Whether a tensor holds weights on which an encoding can be measured.
pub(super) fn is_measurable(tensor: &TensorInfo) -> bool {
    tensor.dtype.kind() != DTypeKind::Integer && crate::quant::has_decoder(tensor.dtype)
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
