//! Metadata of a model card: the YAML at the beginning of `README.md`.

use super::model_id::{ModelId, title};
use super::yaml;
use crate::error::{Code, Error, Result};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::{Map, Value};

/// Members and the keys of a card that they come from; the first that is present counts.
pub(super) const SINGLE: &[(&str, &[&str])] = &[
    ("name", &["name", "model_name"]),
    ("author", &["author", "model_author", "model_creator"]),
    ("version", &["version"]),
    ("organization", &["organization"]),
    ("description", &["description"]),
    ("finetune", &["finetune"]),
    ("basename", &["basename", "model_basename", "model_type"]),
    ("size_label", &["size_label"]),
    ("source_url", &["url"]),
    ("source_doi", &["doi"]),
    ("source_uuid", &["uuid"]),
    ("source_repo_url", &["repo_url"]),
    ("license", &["license"]),
    ("license_name", &["license_name"]),
    ("license_link", &["license_link"]),
];
/// Lists, and the keys whose values follow each other in them.
pub(super) const LISTS: &[(&str, &[&str])] =
    &[("tags", &["tags", "pipeline_tag"]), ("languages", &["languages", "language"])];
/// Lists of models and data sets.
pub(super) const ORIGINS: &[(&str, &[&str])] = &[
    ("base_models", &["base_model", "base_models", "base_model_sources"]),
    ("datasets", &["datasets", "dataset", "dataset_sources"]),
];

/// The metadata of a card; empty without one.
///
/// # Errors
///
/// [`Code::BadValue`] with the line that cannot be read.
pub(super) fn metadata(card: Option<&[u8]>) -> Result<Map<String, Value>> {
    let mut metadata = Map::new();
    let Some(card) = card else { return Ok(metadata) };
    let text = core::str::from_utf8(card)
        .map_err(|_| Error::new(Code::BadUtf8, "the model card is not UTF-8").in_file("README.md"))?;
    let Some(front) = front_matter(text) else { return Ok(metadata) };
    let parsed = yaml::parse(&front).map_err(|e| e.in_file("README.md"))?;
    let Value::Object(card) = parsed else { return Ok(metadata) };
    for (member, keys) in SINGLE {
        let value = keys.iter().find_map(|key| card.get(*key).filter(|v| !v.is_null()));
        if let Some(value) = value {
            metadata.insert((*member).to_owned(), value.clone());
        }
    }
    for (member, keys) in LISTS {
        let values: Vec<Value> = keys.iter().filter_map(|key| card.get(*key)).flat_map(listed).collect();
        if !values.is_empty() {
            metadata.insert((*member).to_owned(), Value::Array(values));
        }
    }
    for (member, keys) in ORIGINS {
        let values = keys.iter().filter_map(|key| card.get(*key)).flat_map(listed);
        let origins: Vec<Value> = values.map(origin).collect();
        if !origins.is_empty() {
            metadata.insert((*member).to_owned(), Value::Array(origins));
        }
    }
    Ok(metadata)
}

/// The lines between the first line, which is `---`, and the next such line or the end.
fn front_matter(text: &str) -> Option<String> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    if lines.next()? != "---" {
        return None;
    }
    let mut front = String::new();
    for line in lines.take_while(|line| *line != "---") {
        let line = line.replace('\t', "  ");
        // The language code of Norwegian is no boolean.
        if line.trim() == "- no" {
            front.push_str(&line.replace("- no", "- \"no\""));
        } else {
            front.push_str(&line);
        }
        front.push('\n');
    }
    Some(front)
}

fn listed(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        other => Vec::from([other.clone()]),
    }
}

/// A base model or data set: an object stays as it is, a URL is kept, and an id has its parts.
fn origin(value: Value) -> Value {
    let Value::String(text) = value else { return value };
    let is_url = ["http://", "https://", "ssh://"].iter().any(|scheme| text.starts_with(scheme));
    let mut members = Map::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            members.insert(key.to_owned(), value.into());
        }
    };
    let id = if is_url { hub_id(&text) } else { Some(text.as_str()) };
    if let Some(id) = id.map(|id| ModelId::parse(id, 0)) {
        put("name", Some(title(&id.name)));
        let url = id.organization.as_deref().map(|o| format!("https://huggingface.co/{o}/{}", id.name));
        put("organization", id.organization.as_deref().map(title));
        put("version", id.version);
        put("repo_url", url);
    }
    if is_url {
        put("repo_url", Some(text));
    }
    Value::Object(members)
}

/// The id in the URL of a model of the hub.
fn hub_id(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let id = rest.strip_prefix("huggingface.co/")?;
    let (organization, name) = id.split_once('/')?;
    (!organization.is_empty() && !name.is_empty() && !name.contains('/')).then_some(id)
}
