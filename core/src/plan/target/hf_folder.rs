//! A folder that transformers loads: `model.safetensors`, `config.json`, and the tokenizer and similar files of the source.

use super::safetensors::{self, Safetensors, check_types};
use super::{Contents, Target, config_json};
use crate::dtype::DType;
use crate::error::Result;
use crate::format::{Companion, Container};
use crate::model::config::CONFIG;
use crate::plan::{OutFile, Output, Warning};
use crate::recipe::Recipe;
use alloc::vec::Vec;

/// The file of the weights.
const WEIGHTS: &str = "model.safetensors";

/// What the names of shards begin with.
const STEM: &str = "model";

pub(super) struct HfFolder;

impl Target for HfFolder {
    fn container(&self) -> Container {
        Container::Safetensors
    }

    fn is_directory(&self) -> bool {
        true
    }

    fn check(&self, recipe: &Recipe) -> Result<()> {
        // A GGUF decides by itself which type its tensors get; other sources need one.
        check_types(recipe)
    }

    fn holds(&self, dtype: DType) -> bool {
        Safetensors.holds(dtype)
    }

    fn config_sets_dtype(&self) -> bool {
        true
    }

    fn lay_out(
        &self,
        contents: &Contents<'_>,
        outputs: &mut [Output],
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<OutFile>> {
        let mut weights = Safetensors.lay_out(contents, outputs, warnings)?;
        if weights.len() > 1 {
            safetensors::name_shards(&mut weights, outputs, STEM)?;
        }
        let config = config_json::config(contents.checkpoint, contents.recipe)?;
        let config = config.map(|bytes| OutFile::literal(CONFIG, bytes));
        Ok(folder(WEIGHTS, weights, config, &contents.checkpoint.companions))
    }
}

/// Lays out a folder of `model.safetensors` and files whose bytes are known.
pub(in crate::plan) fn lay_out_files(
    contents: &Contents<'_>,
    outputs: &mut [Output],
    beside: Vec<OutFile>,
) -> Result<Vec<OutFile>> {
    let mut files = Safetensors.lay_out(contents, outputs, &mut Vec::new())?;
    files.iter_mut().for_each(|weights| weights.name = WEIGHTS.into());
    files.extend(beside);
    Ok(files)
}

/// Lays out a folder of one safetensors file named `name`, a configuration, and copies of `companions`.
pub(in crate::plan) fn lay_out_folder(
    contents: &Contents<'_>,
    outputs: &mut [Output],
    name: &str,
    config: OutFile,
    companions: &[Companion],
) -> Result<Vec<OutFile>> {
    let weights = Safetensors.lay_out(contents, outputs, &mut Vec::new())?;
    Ok(folder(name, weights, Some(config), companions))
}

fn folder(
    name: &str,
    mut files: Vec<OutFile>,
    config: Option<OutFile>,
    companions: &[Companion],
) -> Vec<OutFile> {
    if let [weights] = files.as_mut_slice() {
        weights.name = name.into();
    }
    files.extend(config);
    files.extend(companions.iter().map(OutFile::copy_of));
    files
}
