//! `general.*` keys of a GGUF from the model card, the configuration and the name of the folder, as llama.cpp's
//! converter derives them. Knows no architecture.

mod card;
mod file_name;
pub mod inverse;
mod model_id;
mod sampling;
mod size_label;
mod sources;
mod yaml;

pub use file_name::{FileNameParts, file_stem};
pub use model_id::{ModelId, title};
pub use size_label::{ParameterCount, size_label};
pub use sources::{GeneralInput, metadata};

use super::gguf_keys::{GgufKeys, texts};
use crate::error::Result;
use crate::tensor::MetaValue;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// Members of the metadata and their keys, before the lists.
const KEYS: &[(&str, &str)] = &[
    ("name", "general.name"),
    ("author", "general.author"),
    ("version", "general.version"),
    ("organization", "general.organization"),
    ("finetune", "general.finetune"),
    ("basename", "general.basename"),
    ("description", "general.description"),
    ("quantized_by", "general.quantized_by"),
    ("size_label", "general.size_label"),
    ("license", "general.license"),
    ("license_name", "general.license.name"),
    ("license_link", "general.license.link"),
    ("url", "general.url"),
    ("doi", "general.doi"),
    ("uuid", "general.uuid"),
    ("repo_url", "general.repo_url"),
    ("source_url", "general.source.url"),
    ("source_doi", "general.source.doi"),
    ("source_uuid", "general.source.uuid"),
    ("source_repo_url", "general.source.repo_url"),
];
/// Members of a base model or data set.
const ORIGIN: &[&str] =
    &["name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"];

/// The keys after `general.architecture`: type, sampling, names, licence, origins, tags, languages.
///
/// # Errors
///
/// [`Code::BadValue`](crate::Code::BadValue) if a card or a file of metadata cannot be read, or has a value that no key
/// can hold.
pub fn general_keys(input: &GeneralInput<'_>) -> Result<Vec<(String, MetaValue)>> {
    let metadata = metadata(input)?;
    let mut keys = GgufKeys::default();
    keys.set("general.type", MetaValue::String("model".into()));
    sampling::keys(input.generation_config, input.overrides, &mut keys)?;
    for (member, key) in KEYS {
        if let Some(text) = metadata.get(*member).and_then(text) {
            keys.set(*key, MetaValue::String(text));
        }
    }
    origins(&metadata, "base_models", "general.base_model", &mut keys);
    origins(&metadata, "datasets", "general.dataset", &mut keys);
    for list in ["tags", "languages"] {
        let values: Vec<String> =
            metadata.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(text).collect();
        keys.set(format!("general.{list}"), texts(&values));
    }
    Ok(keys.into_vec())
}

/// A value as text; a list of licences is joined.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(values) => {
            let parts: Vec<String> = values.iter().filter_map(text).collect();
            (!parts.is_empty()).then(|| parts.join(","))
        }
        _ => None,
    }
}

fn origins(metadata: &Map<String, Value>, member: &str, key: &str, keys: &mut GgufKeys) {
    let Some(origins) = metadata.get(member).and_then(Value::as_array).filter(|o| !o.is_empty()) else {
        return;
    };
    let count = u32::try_from(origins.len()).unwrap_or(u32::MAX);
    keys.set(format!("{key}.count"), MetaValue::U32(count));
    for (i, origin) in origins.iter().enumerate() {
        for part in ORIGIN {
            if let Some(value) = origin.get(part).and_then(text) {
                keys.set(format!("{key}.{i}.{part}"), MetaValue::String(value));
            }
        }
    }
}
