//! Refusals of models that cannot be run, with the name of the model.

use super::ModelTensors;
use crate::error::{Code, Error, ErrorKind, Result};
use crate::model::arch::module::Module;
use crate::model::forward::ForwardSpec;
use crate::tensor::TensorInfo;
use crate::tensor::packed::Packed;
use alloc::format;

/// An error of the forward pass of the model `name`, or of its configuration. Other errors are unchanged.
pub fn of_model(error: Error, name: &str) -> Error {
    let of_model = matches!(error.code().kind(), ErrorKind::File | ErrorKind::Limit | ErrorKind::Unsupported);
    let error = match error.code() {
        Code::UnsupportedRotation | Code::UnsupportedForward => {
            let message = format!("{name}: the model cannot be evaluated: {}", error.detail().message);
            error.explained(Code::UnsupportedForward, message)
        }
        _ => error,
    };
    if of_model { error.in_file(name) } else { error }
}

impl ModelTensors {
    /// Checks that the model `name` can be evaluated.
    ///
    /// # Errors
    ///
    /// `unsupported_architecture` if there is no forward pass, `unsupported_forward` for a configuration that a pass computes
    /// only approximately.
    pub fn check_runs(&self, name: &str) -> Result<()> {
        if ForwardSpec::of(&self.config).is_none() {
            let message = format!(
                "{name}: there is no forward pass for the architecture {:?}, so the model cannot be evaluated",
                self.config.model_type
            );
            return Err(Error::new(Code::UnsupportedArchitecture, message));
        }
        self.config.check_exact().map_err(|e| of_model(e, name))
    }

    /// Checks that the divergence of the model `name` with a tensor quantized can be measured: rows must be what is quantized.
    ///
    /// # Errors
    ///
    /// Those of [`ModelTensors::check_runs`]; `unsupported_architecture` if matrices are stored `[in, out]`.
    pub fn check_sensitivity(&self, name: &str) -> Result<()> {
        self.check_runs(name)?;
        let Some((arch, spec)) = ForwardSpec::of(&self.config) else { return Ok(()) };
        // Of a GGUF, and of packed weights, stacks are `[out, in]`.
        let is_stack = |t: &TensorInfo| {
            let plain = !t.packed.as_deref().is_some_and(Packed::is_transposed_stack);
            plain && arch.parse_hf(&t.name).is_some_and(|id| id.module == Module::FfnGateUpExps)
        };
        let stacks = spec.experts.is_some_and(|e| e.columns) && self.tensors.iter().any(is_stack);
        if !spec.columns && !stacks {
            return Ok(());
        }
        let message = format!(
            "{name}: matrices of {:?} are stored [in, out]: what quantization does to its output cannot be measured yet",
            self.config.model_type
        );
        Err(Error::new(Code::UnsupportedArchitecture, message))
    }
}
