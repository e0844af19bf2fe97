//! The metadata of a GGUF that is made of a Hugging Face checkpoint, in the order of llama.cpp's converter: architecture,
//! general keys, keys of the architecture, quantization version, tokenizer.

use super::Contents;
use crate::error::Result;
use crate::format::companions;
use crate::model::config::hyperparameters::{Hyperparameters, hyperparameters};
use crate::model::general_keys::{GeneralInput, ParameterCount, general_keys};
use crate::model::gguf_keys::{
    GgufKeys, TensorFacts, architecture_keys, architecture_name, early_keys, pooling_type,
};
use crate::model::tokenizer::{Encoder, TokenizerInput, tokenizer_keys};
use crate::plan::Warning;
use crate::plan::gguf_mapping::GgufMapping;
use crate::tensor::{MetaValue, Metadata};
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
    keys.extend(early_keys(name, &hyper)?);
    keys.extend(general(contents, mapping)?);
    let facts = facts(contents, mapping, &hyper)?;
    keys.extend(architecture_keys(name, mapping.arch.gguf_keys, &hyper, &facts)?);
    if let Some(flag) = mapping.arch.tokenizer.add_bos_first {
        // The converter of Phi-2 writes it among its own keys.
        keys.set("tokenizer.ggml.add_bos_token", MetaValue::Bool(flag));
    }
    keys.set("general.quantization_version", MetaValue::U32(2));
    keys.extend(tokenizer(contents, mapping, &hyper, warnings)?);
    Ok(Metadata(keys.into_vec()))
}

/// `general.*` behind the architecture.
fn general(contents: &Contents<'_>, mapping: &GgufMapping) -> Result<Vec<(String, MetaValue)>> {
    let files = &contents.checkpoint.companion_files;
    let generation =
        files.get("generation_config.json").and_then(|b| serde_json::from_slice::<Value>(b).ok());
    let dims: Vec<(&str, Vec<u64>)> = mapping
        .tensors
        .tensors
        .iter()
        .map(|t| (t.name.as_str(), t.shape.axes().iter().rev().copied().collect()))
        .collect();
    general_keys(&GeneralInput {
        card: files.get("README.md"),
        config: &mapping.config,
        generation_config: generation.as_ref(),
        folder: contents.checkpoint.folder.as_deref().unwrap_or_default(),
        overrides: None,
        model_name: None,
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
        pooling: pooling_type(files.get("modules.json"), |name| files.get(name))?,
    })
}

/// The encoder of a driver that has encoded the check text already.
struct Encoded<'a>(&'a [u32]);

impl Encoder for Encoded<'_> {
    fn encode(&self, _: &[u8], _: &str) -> Result<Vec<u32>> {
        Ok(self.0.to_vec())
    }
}

/// `tokenizer.*`.
fn tokenizer(
    contents: &Contents<'_>,
    mapping: &GgufMapping,
    hyper: &Hyperparameters,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(String, MetaValue)>> {
    if !companions::has_tokenizer(contents.checkpoint) {
        let message = "the folder has no tokenizer, so none is written: engines do not load this GGUF";
        warnings.push(Warning::new("not_runnable", message));
        return Ok(Vec::new());
    }
    let encoded = contents.checkpoint.check_text_ids.as_deref().map(Encoded);
    let values = Value::Object(hyper.values().clone());
    let made = tokenizer_keys(&TokenizerInput {
        companions: &contents.checkpoint.companion_files,
        config: &mapping.config,
        hyper: &values,
        arch: mapping.arch,
        pre_tokenizer: contents.recipe.pre_tokenizer.as_deref(),
        encoder: encoded.as_ref().map(|e| e as &dyn Encoder),
        compat: contents.recipe.compat,
    })?;
    warnings.extend(made.warnings.into_iter().map(|text| Warning::new("tokenizer", text)));
    Ok(made.keys)
}
