//! How an embedding model makes one vector of many: `modules.json` of sentence-transformers.

use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;
use serde_json::Value;

/// The modes that an engine knows, and their numbers.
const MODES: &[(&str, u32)] =
    &[("pooling_mode_mean_tokens", 1), ("pooling_mode_cls_token", 2), ("pooling_mode_lasttoken", 3)];

/// The number of `pooling_type`, from `modules.json` and the file that its pooling module names.
///
/// # Errors
///
/// [`Code::BadJson`] if a file is no JSON, [`Code::BadValue`] if it asks for another mode.
pub fn pooling_type<'a>(
    modules: Option<&[u8]>,
    read: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Option<u32>> {
    let Some(modules) = modules else { return Ok(None) };
    let modules = parse("modules.json", modules)?;
    let is_pooling =
        |m: &&Value| m.get("type").and_then(Value::as_str) == Some("sentence_transformers.models.Pooling");
    let path =
        modules.as_array().and_then(|m| m.iter().find(is_pooling)).and_then(|m| m.get("path")?.as_str());
    let Some(path) = path else { return Ok(None) };
    let name = format!("{path}/config.json");
    let Some(config) = read(&name) else {
        return Err(Error::new(Code::NotFound, format!("modules.json names {name:?}, which is not there")));
    };
    let config = parse(&name, config)?;
    let chosen = |(mode, _): &&(&str, u32)| config.get(*mode).and_then(Value::as_bool) == Some(true);
    match MODES.iter().find(chosen) {
        Some((_, number)) => Ok(Some(*number)),
        None => {
            let message = "the pooling is none of mean, cls and last token, the modes of a GGUF";
            Err(Error::new(Code::BadValue, message).in_file(&name))
        }
    }
}

fn parse(name: &str, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| {
        let message: String = format!("invalid JSON: {e}");
        Error::new(Code::BadJson, message).in_file(name)
    })
}
