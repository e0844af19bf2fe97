//! Forward passes of picked models: evaluation, sensitivities, and types for a size, with the functions of the command line.
//!
//! A pass asks for weights and multiplies them at once, so files are read synchronously, which a worker may do. Between the
//! steps of a pass the worker takes its messages, a cancel among them.

mod choice;
mod evaluation;
mod pass_runner;
mod sensitivity;
mod tokens;

pub use choice::TypeChoice;
pub use evaluation::Evaluation;
pub use sensitivity::Sensitivity;

use crate::driver::sync_files::SyncFiles;
use crate::model::Model;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::model::arch;
use quantoscope_core::model::forward::ForwardSpec;
use quantoscope_core::model::stored_quantization::StoredQuantization;
use quantoscope_core::model::tokenizer::inverse::encoder_file;
use quantoscope_core::model_pass::ModelTensors;
use quantoscope_core::plan::decoded;
use std::rc::Rc;

/// A model that runs.
pub(crate) struct PassModel {
    name: String,
    checkpoint: Rc<Checkpoint>,
    tensors: ModelTensors,
    files: SyncFiles,
}

impl PassModel {
    /// The model under a name for reports.
    ///
    /// # Errors
    /// `unsupported_architecture` if there is no forward pass for the model; those of its configuration and tensors.
    fn new(model: &Model, name: String) -> Result<PassModel> {
        let checkpoint = model.prepared(&decoded::recipe())?;
        checkpoint.packing.check()?;
        StoredQuantization::of(&checkpoint).check_all()?;
        let tensors = ModelTensors::of(&checkpoint)?;
        if ForwardSpec::of(&tensors.config).is_none() {
            let message = format!(
                "{name}: there is no forward pass for the architecture {:?}, so the model cannot be evaluated",
                tensors.config.model_type
            );
            return Err(Error::new(Code::UnsupportedArchitecture, message));
        }
        tensors.config.check_exact()?;
        Ok(PassModel { name, checkpoint, tensors, files: SyncFiles::new(model.files.clone())? })
    }
}

impl Model {
    /// `tokenizer.json`: of a GGUF, made of its metadata; else the file beside the weights.
    fn tokenizer_file(&self) -> Result<Option<Vec<u8>>> {
        let checkpoint = &self.checkpoint;
        if checkpoint.container == Container::Gguf {
            let arch = arch::of_model(&checkpoint.metadata, checkpoint.config.as_deref());
            if let Some(bytes) = encoder_file(&checkpoint.metadata, arch)? {
                return Ok(Some(bytes));
            }
        }
        Ok(checkpoint.companion_files.get("tokenizer.json").map(Into::into))
    }
}
