//! The tensors of a GGUF under the names of a Hugging Face checkpoint and in its order of rows, decoded to F32: what a forward
//! pass reads.

use super::Output;
use super::hf_mapping::{self, HfMapping};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::model::arch::Arch;
use crate::recipe::{Recipe, TargetName};
use alloc::string::ToString;
use alloc::vec::Vec;

/// A model as a Hugging Face checkpoint of F32 tensors.
#[derive(Clone, Debug)]
pub struct DecodedModel {
    /// The bytes of its `config.json`.
    pub config: Vec<u8>,
    /// The architecture whose tensor map names the tensors.
    pub arch: &'static Arch,
    /// Its tensors.
    pub outputs: Vec<Output>,
}

/// The recipe whose input a driver opens for [`tensors`]: it reads the small tensors that decide the configuration.
pub fn recipe() -> Recipe {
    Recipe::new(TargetName::HfFolder, Some(DType::F32))
}

/// The tensors of a GGUF with llama.cpp's names; `None` for any other checkpoint, whose tensors have their names already.
///
/// # Errors
///
/// `unsupported_architecture` or `unmapped_tensors` if the GGUF cannot be given back as a Hugging Face checkpoint;
/// `unsupported_dtype` if a tensor cannot be decoded.
pub fn tensors(checkpoint: &Checkpoint) -> Result<Option<DecodedModel>> {
    let recipe = recipe();
    if !hf_mapping::applies(checkpoint, &recipe) {
        return Ok(None);
    }
    let mapping = HfMapping::of_pass(checkpoint)?;
    let unwritable = |e: serde_json::Error| Error::new(Code::BadJson, e.to_string());
    let config = serde_json::to_vec(&mapping.config).map_err(unwritable)?;
    let arch = mapping.candidate.arch;
    Ok(Some(DecodedModel { config, arch, outputs: mapping.outputs(checkpoint, &recipe, false)? }))
}
