//! Forward passes of picked models: evaluation, sensitivities, and types for a size, with the functions of the command line.
//!
//! A pass asks for weights and multiplies them at once, so files are read synchronously, which a worker may do. Between the
//! steps of a pass the worker takes its messages, a cancel among them.

mod evaluation;
mod pass_runner;
mod sensitivity;
mod sized_types;
mod tokens;

pub use evaluation::EvaluationRun;
pub use sensitivity::Sensitivity;
pub use sized_types::SizedTypes;

use crate::driver::sync_files::SyncFiles;
use crate::model::Model;
use quantoscope_core::error::Result;
use quantoscope_core::format::{Checkpoint, Container};
use quantoscope_core::model::arch;
use quantoscope_core::model::stored_quantization::StoredQuantization;
use quantoscope_core::model::tokenizer::inverse::encoder_file;
use quantoscope_core::model_pass::{ModelTensors, of_model};
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
        let tensors = ModelTensors::of(&checkpoint).map_err(|e| of_model(e, &name))?;
        tensors.check_runs(&name)?;
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
