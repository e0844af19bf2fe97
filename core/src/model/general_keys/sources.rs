//! Metadata from its sources: the model card, then the name in the configuration, then that of the folder; what the
//! user gives overrides all.

use super::card;
use super::model_id::{ModelId, title};
use super::size_label::{ParameterCount, size_label};
use crate::error::{Code, Error, Result};
use alloc::borrow::ToOwned;
use alloc::string::String;
use serde_json::{Map, Value};

/// What the general keys come from.
#[derive(Clone, Copy, Debug)]
pub struct GeneralInput<'a> {
    /// `README.md`.
    pub card: Option<&'a [u8]>,
    /// `config.json` as it stands.
    pub config: &'a Value,
    /// `generation_config.json`.
    pub generation_config: Option<&'a Value>,
    /// The name of the folder.
    pub folder: &'a str,
    /// The file of `--metadata`: an object with whole keys, such as `general.name`.
    pub overrides: Option<&'a Value>,
    /// `--model-name`.
    pub model_name: Option<&'a str>,
    /// The size of the model.
    pub parameters: ParameterCount,
}

/// Whole keys of a file of metadata, and the members that they override.
const OVERRIDES: &[(&str, &str)] = &[
    ("general.name", "name"),
    ("general.author", "author"),
    ("general.version", "version"),
    ("general.organization", "organization"),
    ("general.finetune", "finetune"),
    ("general.basename", "basename"),
    ("general.description", "description"),
    ("general.quantized_by", "quantized_by"),
    ("general.size_label", "size_label"),
    ("general.license", "license"),
    ("general.license.name", "license_name"),
    ("general.license.link", "license_link"),
    ("general.url", "url"),
    ("general.doi", "doi"),
    ("general.uuid", "uuid"),
    ("general.repo_url", "repo_url"),
    ("general.source.url", "source_url"),
    ("general.source.doi", "source_doi"),
    ("general.source.uuid", "source_uuid"),
    ("general.source.repo_url", "source_repo_url"),
    ("general.base_models", "base_models"),
    ("general.datasets", "datasets"),
    ("general.tags", "tags"),
    ("general.languages", "languages"),
];

/// The metadata by member; a size label where anything is written.
///
/// # Errors
///
/// [`Code::BadValue`] if the card cannot be read, or the file of metadata is not an object.
pub fn metadata(input: &GeneralInput<'_>) -> Result<Map<String, Value>> {
    let mut metadata = card::metadata(input.card)?;
    let configured = input.config.get("_name_or_path").and_then(Value::as_str);
    let configured = configured.filter(|id| !id.is_empty() && id.matches('/').count() <= 1);
    for id in configured.into_iter().chain([input.folder]) {
        fill(&mut metadata, &ModelId::parse(id, input.parameters.total));
    }
    if let Some(overrides) = input.overrides {
        let Value::Object(overrides) = overrides else {
            return Err(Error::new(Code::BadValue, "the file of metadata is not a JSON object"));
        };
        for (key, member) in OVERRIDES {
            if let Some(value) = overrides.get(*key) {
                metadata.insert((*member).to_owned(), value.clone());
            }
        }
    }
    if let Some(name) = input.model_name {
        metadata.insert("name".to_owned(), name.into());
    }
    metadata.retain(|_, value| !value.is_null());
    if input.parameters.total > 0 {
        metadata.entry("size_label").or_insert_with(|| size_label(&input.parameters).into());
    }
    Ok(metadata)
}

/// Members that are absent, from an id.
fn fill(metadata: &mut Map<String, Value>, id: &ModelId) {
    let organization = id.organization.as_deref().map(title);
    for (member, value) in [
        ("name", Some(title(&id.name))),
        ("organization", organization),
        ("basename", id.basename.clone()),
        ("finetune", id.finetune.clone()),
        ("version", id.version.clone()),
        ("size_label", id.size_label.clone()),
    ] {
        if let Some(value) = value
            && metadata.get(member).is_none_or(Value::is_null)
        {
            metadata.insert(member.to_owned(), value.into());
        }
    }
}
