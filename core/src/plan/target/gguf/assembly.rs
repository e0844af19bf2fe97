//! The metadata of a GGUF that is made of a Hugging Face checkpoint, in the order of llama.cpp's converter: architecture,
//! general keys, keys of the architecture, quantization version, tokenizer.

use super::Contents;
use crate::error::{Code, Error, Result};
use crate::format::companions;
use crate::model::config::hyperparameters::{Hyperparameters, hyperparameters};
use crate::model::general_keys::{GeneralInput, ParameterCount, general_keys};
use crate::model::gguf_keys::{
    GgufKeys, TensorFacts, architecture_keys, architecture_name, early_keys, pooling_type,
};
use crate::model::tokenizer::pre;
use crate::plan::Warning;
use crate::plan::gguf_mapping::{GgufMapping, tokenizer_keys_of};
use crate::tensor::{MetaValue, Metadata};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// The metadata of the file, without the keys that only Quantoscope writes.
pub(in crate::plan) fn metadata(
    contents: &Contents<'_>,
    mapping: &GgufMapping,
    warnings: &mut Vec<Warning>,
) -> Result<Metadata> {
    let hyper = hyperparameters(&mapping.config)?;
    let name = architecture_name(mapping.arch.name, mapping.arch.gguf.unwrap_or_default(), &hyper)?;
    let mut keys = GgufKeys::default();
    keys.set("general.architecture", MetaValue::String(name.into()));
    if !contents.recipe.gguf.vocab_only {
        keys.extend(early_keys(name, &hyper)?);
    }
    keys.extend(general(contents, mapping)?);
    let facts = facts(contents, mapping, &hyper)?;
    keys.extend(architecture_keys(name, mapping.arch.gguf_keys, &hyper, &facts)?);
    if let Some(flag) = mapping.arch.tokenizer.add_bos_first {
        // The converter of Phi-2 writes it among its own keys.
        keys.set("tokenizer.ggml.add_bos_token", MetaValue::Bool(flag));
    }
    keys.set("general.quantization_version", MetaValue::U32(2));
    keys.extend(tokenizer(contents, mapping, warnings)?);
    Ok(Metadata(keys.into_vec()))
}

/// `general.*` behind the architecture.
fn general(contents: &Contents<'_>, mapping: &GgufMapping) -> Result<Vec<(String, MetaValue)>> {
    let files = &contents.checkpoint.companion_files;
    let generation =
        files.get("generation_config.json").and_then(|b| serde_json::from_slice::<Value>(b).ok());
    let options = &contents.recipe.gguf;
    let metadata = options.metadata_override()?;
    let written = mapping.tensors.tensors.iter().filter(|_| !options.vocab_only);
    let dims: Vec<(&str, Vec<u64>)> =
        written.map(|t| (t.name.as_str(), t.shape.axes().iter().rev().copied().collect())).collect();
    general_keys(&GeneralInput {
        card: files.get("README.md"),
        config: &mapping.config,
        generation_config: generation.as_ref(),
        folder: contents.checkpoint.folder.as_deref().unwrap_or_default(),
        overrides: metadata.as_ref(),
        model_name: options.model_name.as_deref(),
        parameters: ParameterCount::of(dims.iter().map(|(name, dims)| (*name, dims.as_slice()))),
    })
}

/// What the keys of the architecture depend on beside the configuration.
fn facts(contents: &Contents<'_>, mapping: &GgufMapping, hyper: &Hyperparameters) -> Result<TensorFacts> {
    let files = &contents.checkpoint.companion_files;
    let blocks = u32::try_from(mapping.tensors.blocks).unwrap_or(u32::MAX);
    Ok(TensorFacts {
        file_type: super::file_type_of(contents).unwrap_or_default(),
        mtp_blocks: blocks.saturating_sub(hyper.layers()?),
        no_mtp: contents.recipe.gguf.no_mtp,
        pooling: pooling_type(files.get("modules.json"), |name| files.get(name))?,
    })
}

/// `tokenizer.*`.
fn tokenizer(
    contents: &Contents<'_>,
    mapping: &GgufMapping,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(String, MetaValue)>> {
    if !companions::has_tokenizer(contents.checkpoint) {
        let message = "the folder has no tokenizer, so none is written: engines do not load this GGUF";
        warnings.push(Warning::new("not_runnable", message));
        return Ok(Vec::new());
    }
    let made = tokenizer_keys_of(contents.checkpoint, contents.recipe, mapping.arch, &mapping.config)?;
    let rows = mapping.tensors.tensors.iter().find(|t| t.name == "token_embd.weight").map(|t| t.shape.rows());
    if let Some(rows) = rows.filter(|rows| *rows != made.tokens as u64 && !contents.recipe.compat) {
        let message = format!(
            "the tokenizer has {} tokens and the embedding {rows} rows: engines do not load such a file; give \
             config.json the vocab_size of the embedding, or --compat llama.cpp to write what its converter writes",
            made.tokens
        );
        return Err(Error::new(Code::UnmappedTensors, message));
    }
    let code = |text: &str| if text == pre::NO_ENCODER { "no_encoder" } else { "tokenizer" };
    warnings.extend(made.warnings.into_iter().map(|text| Warning::new(code(&text), text)));
    Ok(made.keys)
}
