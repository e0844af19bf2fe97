//! Plans the conversion of a GGUF to a Hugging Face folder: its tensors, its configuration, its tokenizer, its card.
//!
//! The folder is converted back to a GGUF, on headers only, before anything is planned. A tokenizer that would come back as
//! another one is refused; keys that describe the model only are named in a warning.

use super::gguf_mapping::GgufMapping;
use super::hf_mapping::{HfMapping, asked};
use super::target::{self, Contents};
use super::totals::Totals;
use super::{Conversion, OutFile, Plan, Warning};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, Companions, Container};
use crate::model::general_keys::inverse::{card, generation_config};
use crate::model::hf_config::same;
use crate::model::tokenizer::inverse::tokenizer_files;
use crate::plan::provenance::{RECIPE, ROTATION};
use crate::recipe::presets::Preset;
use crate::recipe::{Recipe, TargetName, TensorNaming};
use crate::tensor::{MetaValue, Metadata};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::json;

/// The folder's name in messages and in keys that come from it.
const FOLDER: &str = "model";

/// Most keys that a warning lists.
const SHOWN: usize = 8;

/// Plans the folder.
///
/// # Errors
///
/// Those of [`HfMapping::of`]; `usage` for options that such a folder does not have; `unsupported_container` if the tokenizer
/// would not come back as it is.
pub(super) fn plan(checkpoint: &Checkpoint, recipe: &Recipe, measure: bool) -> Result<Plan> {
    check_options(recipe)?;
    let mut warnings = checkpoint.warnings.clone();
    let mut beside = Companions::default();
    let mapping = HfMapping::choose(checkpoint, asked(recipe), &mut |mapping| {
        let files = files(checkpoint, recipe, mapping)?;
        warnings.extend(check_keys(checkpoint, recipe, &folder(checkpoint, mapping, &files))?);
        beside = files;
        Ok(())
    })?;
    let mut outputs = mapping.outputs(checkpoint, recipe, measure)?;
    let contents = Contents { checkpoint, recipe, imatrix: None, rotation: None, mapping: None };
    let literal = |(name, bytes): (String, Vec<u8>)| OutFile::literal(&name, bytes);
    let beside: Vec<OutFile> = beside.0.into_iter().map(literal).collect();
    let files = target::lay_out_files(&contents, &mut outputs, beside)?;
    let totals = Totals::of(checkpoint, &outputs, &files, None)?;
    let conversion = Conversion {
        recipe: recipe.clone(),
        container: Container::Safetensors,
        directory: true,
        importance: None,
        rotation: None,
        left_out: Vec::new(),
        totals,
    };
    Ok(Plan { outputs, files, conversion: Some(conversion), warnings })
}

/// Refuses options that choose among tensors: a folder without some of them is no model.
fn check_options(recipe: &Recipe) -> Result<()> {
    let some = !recipe.include.is_empty() || !recipe.exclude.is_empty() || !recipe.overrides.is_empty();
    if some || recipe.output_type.is_some() || recipe.embedding_type.is_some() {
        let message = "a folder for transformers has all tensors in one type: --include, --exclude and types of single \
                       tensors need --names source";
        return Err(Error::new(Code::Usage, message));
    }
    Ok(())
}

/// The files beside the weights.
fn files(checkpoint: &Checkpoint, recipe: &Recipe, mapping: &HfMapping) -> Result<Companions> {
    let arch = mapping.candidate.arch;
    let named = named(&checkpoint.metadata, recipe.pre_tokenizer.as_deref());
    let metadata = named.as_ref().unwrap_or(&checkpoint.metadata);
    let mut files = Vec::new();
    let config = serde_json::to_vec_pretty(&mapping.config)
        .map_err(|e| Error::new(Code::BadJson, e.to_string()).in_file("config.json"))?;
    files.push(("config.json".to_string(), config));
    let generation = generation_config(metadata, arch.tokenizer.eot_of_generation);
    files.extend(generation.map(|bytes| ("generation_config.json".to_string(), bytes)));
    files.extend(tokenizer_files(metadata, arch)?);
    files.push(("README.md".to_string(), card(metadata)));
    files.extend(pooling(checkpoint));
    Ok(Companions(files))
}

/// The metadata with another name of the pre-tokenizer, if the user gives one.
fn named(metadata: &Metadata, pre: Option<&str>) -> Option<Metadata> {
    let pre = pre?;
    let mut named = metadata.clone();
    named.0.retain(|(key, _)| key != PRE);
    named.0.push((PRE.into(), MetaValue::String(pre.into())));
    Some(named)
}

const PRE: &str = "tokenizer.ggml.pre";

/// The modules of sentence-transformers, where the model makes one vector of a text.
fn pooling(checkpoint: &Checkpoint) -> Vec<(String, Vec<u8>)> {
    let architecture = checkpoint.metadata.text("general.architecture").unwrap_or_default();
    let mode = match checkpoint.metadata.uint(&format!("{architecture}.pooling_type")) {
        Some(1) => "pooling_mode_mean_tokens",
        Some(2) => "pooling_mode_cls_token",
        Some(3) => "pooling_mode_lasttoken",
        _ => return Vec::new(),
    };
    let module = |i: usize, path: &str, kind: &str| json!({"idx": i, "name": i.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]);
    let length = checkpoint.metadata.uint(&format!("{architecture}.embedding_length"));
    let config = json!({"word_embedding_dimension": length, mode: true});
    let text = |value: &serde_json::Value| serde_json::to_vec_pretty(value).unwrap_or_default();
    Vec::from([
        ("modules.json".to_string(), text(&modules)),
        ("1_Pooling/config.json".to_string(), text(&config)),
    ])
}

/// The folder as a checkpoint.
fn folder(checkpoint: &Checkpoint, mapping: &HfMapping, files: &Companions) -> Checkpoint {
    Checkpoint {
        container: Container::Safetensors,
        files: checkpoint.files.clone(),
        tensors: mapping.tensors.clone(),
        metadata: Metadata::default(),
        alignment: 1,
        gguf_version: None,
        config: files.get("config.json").map(<[u8]>::to_vec),
        companions: Vec::new(),
        folder: Some(FOLDER.into()),
        check_text_ids: None,
        computed_tensors: Default::default(),
        exact_floats: Default::default(),
        companion_files: files.clone(),
        q4_index: None,
        q4_seed: None,
        unknown_types: Vec::new(),
        packing: Default::default(),
        warnings: Vec::new(),
    }
}

/// Keys that a conversion of the folder writes by itself, or that are of the file and not of the model.
fn is_of_the_file(key: &str) -> bool {
    const OWN: [&str; 6] = [
        "general.file_type",
        "general.quantization_version",
        "general.alignment",
        "general.type",
        RECIPE,
        ROTATION,
    ];
    OWN.contains(&key) || key.starts_with("split.") || key.starts_with("quantize.imatrix.")
}

/// Converts the folder to a GGUF and compares its keys with those of the source.
fn check_keys(checkpoint: &Checkpoint, recipe: &Recipe, folder: &Checkpoint) -> Result<Vec<Warning>> {
    let pre = recipe.pre_tokenizer.clone();
    let back = Recipe {
        to: TargetName::Gguf,
        names: TensorNaming::Gguf,
        compat: false,
        pre_tokenizer: pre.clone().or_else(|| checkpoint.metadata.text(PRE).map(String::from)),
        ..Recipe::of_preset(Preset::F32)
    };
    let none = || Error::new(Code::UnsupportedArchitecture, "the folder's configuration cannot be converted");
    let mapping = GgufMapping::of(folder, &back)?.ok_or_else(none)?;
    let contents = Contents {
        checkpoint: folder,
        recipe: &back,
        imatrix: None,
        rotation: None,
        mapping: Some(&mapping),
    };
    let mut said = Vec::new();
    let made = target::gguf_metadata(&contents, &mapping, &mut said)?;
    let (mut lost, mut warned, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in checkpoint.metadata.0.iter().filter(|(key, _)| !is_of_the_file(key)) {
        if key == PRE && pre.is_some() || made.get(key).is_some_and(|made| same(made, value)) {
            continue;
        }
        let describes = key.starts_with("general.") || !needed(checkpoint, key);
        let list = if describes { &mut warned } else { &mut lost };
        list.push(key.as_str());
    }
    let file = |key: &&str| checkpoint.metadata.get(key).is_none() && !is_of_the_file(key);
    added.extend(made.0.iter().map(|(key, _)| key.as_str()).filter(file));
    if !lost.is_empty() {
        let message = format!(
            "these keys of the GGUF cannot be given back by files of a Hugging Face folder: {}",
            listed(&lost)
        );
        return Err(Error::new(Code::UnsupportedContainer, message));
    }
    let mut warnings = Vec::new();
    if !warned.is_empty() {
        let message = format!("keys of the GGUF that the folder has no place for: {}", listed(&warned));
        warnings.push(Warning::new("metadata_left_out", message));
    }
    if !added.is_empty() {
        let message = format!(
            "a conversion of the folder back to a GGUF adds keys that this file lacks: {}",
            listed(&added)
        );
        warnings.push(Warning::new("metadata_added", message));
    }
    Ok(warnings)
}

/// Whether engines read a key, so that a folder without it is another model.
fn needed(checkpoint: &Checkpoint, key: &str) -> bool {
    let architecture = checkpoint.metadata.text("general.architecture").unwrap_or_default();
    let own = key.strip_prefix(architecture).is_some_and(|rest| rest.starts_with('.'));
    // Engines look at no scores of BPE.
    let scores =
        key == "tokenizer.ggml.scores" && checkpoint.metadata.text("tokenizer.ggml.model") == Some("gpt2");
    // Engines find the tokens that end a turn by their text, too.
    let turn = matches!(key, "tokenizer.ggml.eot_token_id" | "tokenizer.ggml.eom_token_id");
    (own || key.starts_with("tokenizer.")) && !scores && !turn
}

fn listed(keys: &[&str]) -> String {
    let shown = keys.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match keys.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
