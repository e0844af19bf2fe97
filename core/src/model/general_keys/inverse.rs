//! The model card and `generation_config.json` from the `general.*` keys of a GGUF.

use super::card::{LISTS, ORIGINS, SINGLE};
use super::model_id::{ModelId, title};
use super::sampling;
use super::{KEYS, ORIGIN};
use crate::model::hf_config::{decimal, texts};
use crate::tensor::{MetaValue, Metadata};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Most base models or data sets.
const MAX_ORIGINS: u64 = 1 << 10;

/// `README.md`: a card with the names, the licence, the origins, tags and languages of a model.
pub fn card(metadata: &Metadata) -> Vec<u8> {
    let mut card = String::from("---\n");
    for (member, key) in KEYS {
        let names = SINGLE.iter().find(|(m, _)| m == member).map(|(_, names)| *names);
        if let (Some([name, ..]), Some(text)) = (names, metadata.text(key)) {
            card.push_str(&format!("{name}: {}\n", quoted(text)));
        }
    }
    for (list, names) in LISTS {
        let values = match metadata.get(&format!("general.{list}")) {
            Some(MetaValue::Array(array)) => texts(array).unwrap_or_default(),
            _ => Vec::new(),
        };
        // The hub knows the language under its last name.
        let name = if *list == "languages" { names.last() } else { names.first() };
        if let Some(name) = name.filter(|_| !values.is_empty()) {
            card.push_str(&format!("{name}:\n"));
            values.iter().for_each(|value| card.push_str(&format!("- {}\n", quoted(value))));
        }
    }
    for ((_, names), key) in ORIGINS.iter().zip(["general.base_model", "general.dataset"]) {
        origins(metadata, key, names, &mut card);
    }
    card.push_str("---\n");
    if let Some(name) = metadata.text("general.name") {
        card.push_str(&format!("\n# {name}\n"));
    }
    card.push_str("\nMade of a GGUF file by Quantoscope.\n");
    card.push_str(&seal(&card));
    card.into_bytes()
}

/// Whether `text` is a card that [`card`] made and that was not changed since.
pub fn is_unchanged_card(text: &[u8]) -> bool {
    let text = core::str::from_utf8(text).unwrap_or_default();
    text.rfind(SEAL).and_then(|at| text.split_at_checked(at)).is_some_and(|(card, rest)| rest == seal(card))
}

/// The beginning of the comment at the end of a card.
const SEAL: &str = "<!-- SHA-256 of the text before: ";

/// The last line of a card: a comment by which a later run knows that it may replace the file.
fn seal(card: &str) -> String {
    let digest: String = Sha256::digest(card.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    format!("{SEAL}{digest} -->\n")
}

/// A scalar in double quotes: JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn origins(metadata: &Metadata, key: &str, names: &[&str], card: &mut String) {
    let count = metadata.uint(&format!("{key}.count")).unwrap_or(0).min(MAX_ORIGINS);
    let origin = |i: u64| -> Vec<(&str, &str)> {
        let part = |part: &&'static str| Some((*part, metadata.text(&format!("{key}.{i}.{part}"))?));
        ORIGIN.iter().filter_map(part).collect()
    };
    let origins: Vec<Vec<(&str, &str)>> = (0..count).map(origin).collect();
    let ids: Option<Vec<String>> = origins.iter().map(|o| hub_id(o)).collect();
    let ([first, ..], false) = (names, origins.is_empty()) else { return };
    card.push_str(&format!("{first}:\n"));
    if let Some(ids) = ids {
        return ids.iter().for_each(|id| card.push_str(&format!("- {}\n", quoted(id))));
    }
    for origin in &origins {
        let mut bullet = "- ";
        for (part, value) in origin {
            card.push_str(&format!("{bullet}{part}: {}\n", quoted(value)));
            bullet = "  ";
        }
        if origin.is_empty() {
            card.push_str("- {}\n");
        }
    }
}

/// The id of a model of the hub, if that is all that the origin has.
fn hub_id(origin: &[(&str, &str)]) -> Option<String> {
    let of = |part: &str| origin.iter().find(|(p, _)| *p == part).map(|(_, value)| *value);
    let id = of("repo_url")?.strip_prefix("https://huggingface.co/")?;
    let (organization, name) = id.split_once('/')?;
    let parsed = ModelId::parse(id, 0);
    let alike = of("name") == Some(title(name).as_str())
        && of("organization") == Some(title(organization).as_str())
        && of("version") == parsed.version.as_deref();
    let parts = 3 + usize::from(parsed.version.is_some());
    (alike && origin.len() == parts).then(|| id.to_string())
}

/// `generation_config.json`, where the file has values for it.
pub fn generation_config(metadata: &Metadata, eot_of_generation: bool) -> Option<Vec<u8>> {
    let mut config = Map::new();
    if let Some(sequence) = metadata.text("general.sampling.sequence") {
        config.insert("sequence".into(), sequence.into());
    }
    for (name, _, from) in sampling::KEYS {
        let value = match metadata.get(&format!("general.sampling.{name}")) {
            Some(MetaValue::I32(n)) => Some(Value::from(*n)),
            Some(MetaValue::U32(n)) => Some(Value::from(*n)),
            Some(MetaValue::F32(x)) => decimal(*x),
            _ => None,
        };
        if let (Some(value), Some(key)) = (value, from.last()) {
            config.insert((*key).to_string(), value);
        }
    }
    if !config.is_empty() {
        config.insert("do_sample".into(), true.into());
    }
    let id = |key: &str| metadata.uint(&format!("tokenizer.ggml.{key}_token_id")).map(Value::from);
    if let Some(eot) = id("eot").filter(|_| eot_of_generation) {
        let eos = id("eos").filter(|eos| *eos != eot);
        config.insert("eos_token_id".into(), Value::Array([eot].into_iter().chain(eos).collect()));
    }
    (!config.is_empty()).then(|| serde_json::to_vec_pretty(&config).unwrap_or_default())
}
