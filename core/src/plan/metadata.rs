//! What a conversion's file says beside its tensors: what the source said, and how the file was made.

use super::Warning;
use super::rotate::AppliedRotation;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::imatrix::Imatrix;
use crate::format::{Checkpoint, Container};
use crate::model::config::CONFIG;
use crate::model::json_file::JsonFile;
use crate::recipe::Recipe;
use crate::recipe::presets::Preset;
use crate::tensor::{MetaValue, Metadata};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde_json::Value;

/// Where an artefact records what it was made by.
pub(super) const RECIPE: &str = "quantoscope.recipe";

/// Where a rotated artefact records by which rules, and what it was made from.
pub(super) const ROTATION: &str = "quantoscope.rotation";

/// What is recorded of a rotation.
pub(super) fn rotation(rotated: &AppliedRotation) -> String {
    // A plain struct always serialises.
    serde_json::to_string(rotated).unwrap_or_default()
}

/// What llama.cpp says of the importance matrix that a file was made with begins so.
const IMATRIX: &str = "quantize.imatrix.";

/// Longest text about an importance matrix: llama.cpp reads no longer ones.
const LONGEST: usize = 127;

pub(super) fn recipe_json(recipe: &Recipe) -> String {
    // A plain struct always serialises.
    serde_json::to_string(recipe).unwrap_or_default()
}

/// `general.file_type` as llama.cpp numbers it, of one type throughout: the mix that is called so, or of several the one
/// of small size, which is closest to it.
fn file_type(dtype: DType) -> Option<u32> {
    let mix = match dtype {
        DType::Q3_K => Preset::Q3_K_S,
        DType::Q4_K => Preset::Q4_K_S,
        DType::Q5_K => Preset::Q5_K_S,
        d => Preset::parse(d.name()).ok()?,
    };
    Some(mix.file_type())
}

/// The metadata of a GGUF file.
pub(super) fn of_gguf(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    imatrix: Option<&Imatrix>,
    warnings: &mut Vec<Warning>,
) -> Metadata {
    let mut metadata = match checkpoint.container {
        Container::Gguf => carried(&checkpoint.metadata, imatrix.is_some()),
        _ => {
            let message = "the tensors keep their own names and no tokenizer is written: \
                           this GGUF can be inspected, compared and converted, but not yet run by llama.cpp";
            warnings.push(Warning::new("not_runnable", message));
            named(checkpoint)
        }
    };
    metadata.0.push(("general.quantization_version".into(), MetaValue::U32(2)));
    if let Some(id) = recipe.preset.map(Preset::file_type).or(recipe.dtype.and_then(file_type)) {
        metadata.0.push(("general.file_type".into(), MetaValue::U32(id)));
    }
    if let Some(imatrix) = imatrix {
        metadata.0.extend(of_imatrix(imatrix));
    }
    metadata.0.push((RECIPE.into(), MetaValue::String(recipe_json(recipe))));
    metadata
}

/// What llama-quantize writes of an importance matrix. The file goes by its name alone: where it lay is nobody's business.
fn of_imatrix(imatrix: &Imatrix) -> Vec<(String, MetaValue)> {
    let text = |t: &str| MetaValue::String(t.get(..t.floor_char_boundary(LONGEST)).unwrap_or(t).to_string());
    let count = |n: u64| u32::try_from(n).ok().map(MetaValue::U32);
    let all = [
        ("file", Some(text(&imatrix.file))),
        ("dataset", imatrix.datasets.first().map(|d| text(d))),
        ("entries_count", count(imatrix.entries.len() as u64)),
        ("chunks_count", imatrix.chunks.and_then(count)),
    ];
    all.into_iter().filter_map(|(key, value)| Some((format!("{IMATRIX}{key}"), value?))).collect()
}

/// All of a GGUF's metadata but what the conversion changes: split keys would be stale, the rest is written anew.
fn carried(source: &Metadata, weighted: bool) -> Metadata {
    let stale = |key: &str| {
        key.starts_with("split.")
            || (weighted && key.starts_with(IMATRIX))
            || matches!(key, "general.quantization_version" | "general.file_type" | RECIPE | ROTATION)
    };
    Metadata(source.0.iter().filter(|(k, _)| !stale(k)).cloned().collect())
}

/// A GGUF carries its configuration and tokenizer as metadata, for which other containers have no place.
pub(super) fn lost(checkpoint: &Checkpoint, to: Container) -> Option<Warning> {
    let n = checkpoint.metadata.0.len();
    let message = format!("{n} metadata values of the GGUF (configuration, tokenizer) are not carried over");
    let lost = checkpoint.container == Container::Gguf && to != Container::Gguf && n > 0;
    lost.then(|| Warning::new("metadata_left_out", message))
}

/// `general.*` for a checkpoint that has no GGUF metadata of its own.
fn named(checkpoint: &Checkpoint) -> Metadata {
    let config = checkpoint.config.as_deref().and_then(|c| serde_json::from_slice::<Value>(c).ok());
    let text = |key: &str| config.as_ref()?.get(key)?.as_str().filter(|s| !s.is_empty()).map(String::from);
    let mut pairs = vec![(
        "general.architecture".to_string(),
        MetaValue::String(text("model_type").unwrap_or_else(|| "unknown".into())),
    )];
    pairs.push(("general.type".into(), MetaValue::String("model".into())));
    if let Some(name) = text("_name_or_path") {
        pairs.push(("general.name".into(), MetaValue::String(name)));
    }
    pairs.push(("quantoscope.tensor_names".into(), MetaValue::String("source".into())));
    Metadata(pairs)
}

/// The `__metadata__` of a safetensors file.
pub(super) fn of_safetensors(checkpoint: &Checkpoint, recipe: &Recipe) -> Vec<(String, String)> {
    let mut metadata: Vec<(String, String)> = Vec::new();
    if checkpoint.container == Container::Safetensors {
        for (key, value) in &checkpoint.metadata.0 {
            if let MetaValue::String(text) = value {
                metadata.push((key.clone(), text.clone()));
            }
        }
    }
    if !metadata.iter().any(|(k, _)| k == "format") {
        // Without it transformers refuses the file.
        metadata.push(("format".into(), "pt".into()));
    }
    metadata.retain(|(k, _)| k != RECIPE && k != ROTATION);
    metadata.push((RECIPE.into(), recipe_json(recipe)));
    metadata
}

/// `config.json` as it must be beside what the recipe makes: a rotated stream has a head of its own, and nobody that
/// predicts further tokens.
pub(super) fn config(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Option<Vec<u8>>> {
    let (Some(bytes), Some(wish)) = (&checkpoint.config, recipe.rotate) else {
        return Ok(checkpoint.config.clone());
    };
    if !wish.stream && recipe.dtype.is_none() {
        return Ok(Some(bytes.clone()));
    }
    let mut config = JsonFile::parse(CONFIG, bytes)?.value;
    if wish.stream {
        untie(&mut config, true);
        if let Some(inner) = config.get_mut("text_config") {
            untie(inner, false);
        }
    }
    if recipe.to == Container::Safetensors
        && let Some(dtype) = recipe.dtype
    {
        stored_as(&mut config, dtype);
    }
    let unwritable =
        |e| Error::new(Code::BadJson, format!("config.json cannot be written again: {e}")).in_file(CONFIG);
    let mut text = serde_json::to_vec_pretty(&config).map_err(unwritable)?;
    text.push(b'\n');
    Ok(Some(text))
}

/// Loaders bring all tensors to the type that stands here, where it stands.
fn stored_as(config: &mut Value, dtype: DType) {
    let name = match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        _ => "bfloat16",
    };
    let inner = |config: &mut Value| {
        for key in ["torch_dtype", "dtype"] {
            if let Some(value) = config.get_mut(key) {
                *value = Value::from(name);
            }
        }
    };
    inner(config);
    if let Some(text) = config.get_mut("text_config") {
        inner(text);
    }
}

/// Both flags count, and one that is absent has a default.
fn untie(config: &mut Value, outer: bool) {
    let Some(map) = config.as_object_mut() else { return };
    if outer || map.contains_key("tie_word_embeddings") {
        map.insert("tie_word_embeddings".into(), Value::Bool(false));
    }
    for key in ["num_nextn_predict_layers", "mtp_num_hidden_layers"] {
        if map.contains_key(key) {
            map.insert(key.into(), Value::from(0));
        }
    }
}
