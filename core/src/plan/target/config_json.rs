//! `config.json` beside the output: the source's, changed where a rotation changes the model or weights are decoded.

use super::of;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::format::Checkpoint;
use crate::model::config::CONFIG;
use crate::model::json_file::JsonFile;
use crate::recipe::Recipe;
use alloc::format;
use alloc::vec::Vec;
use serde_json::Value;

/// The bytes of `config.json`; `None` if the source has none. A rotated residual stream has an untied head, and no
/// multi-token prediction.
pub(super) fn config(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Option<Vec<u8>>> {
    let Some(bytes) = &checkpoint.config else { return Ok(None) };
    let decoded = checkpoint.tensors.iter().any(|t| t.packed.is_some());
    let stream = recipe.rotate.is_some_and(|rotation| rotation.stream);
    let typed = recipe.rotate.is_some() && recipe.dtype.is_some();
    if !stream && !typed && !decoded {
        return Ok(Some(bytes.clone()));
    }
    let mut config = JsonFile::parse(CONFIG, bytes)?.value;
    if decoded {
        no_longer_quantized(&mut config);
        config.get_mut("text_config").into_iter().for_each(no_longer_quantized);
    }
    if stream {
        untie(&mut config, true);
        if let Some(inner) = config.get_mut("text_config") {
            untie(inner, false);
        }
    }
    if of(recipe.to).config_sets_dtype()
        && let Some(dtype) = recipe.dtype.filter(|dtype| !dtype.is_quantized())
    {
        set_dtype(&mut config, dtype);
    }
    text(&config).map(Some)
}

/// The text of a configuration.
pub(super) fn text(config: &Value) -> Result<Vec<u8>> {
    let unwritable =
        |e| Error::new(Code::BadJson, format!("config.json cannot be written again: {e}")).in_file(CONFIG);
    let mut text = serde_json::to_vec_pretty(config).map_err(unwritable)?;
    text.push(b'\n');
    Ok(text)
}

/// Removes the quantization of the source, whose weights are decoded.
fn no_longer_quantized(config: &mut Value) {
    for key in ["quantization_config", "compression_config", "quantization"] {
        config.as_object_mut().and_then(|map| map.remove(key));
    }
}

/// Replaces the type of the tensors, where one is named.
fn set_dtype(config: &mut Value, dtype: DType) {
    let name = match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        _ => "bfloat16",
    };
    let set = |config: &mut Value| {
        for key in ["torch_dtype", "dtype"] {
            if let Some(value) = config.get_mut(key) {
                *value = Value::from(name);
            }
        }
    };
    set(config);
    if let Some(text) = config.get_mut("text_config") {
        set(text);
    }
}

/// Unties the head. The outer flag is written even if it is absent, because it has a default.
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
