//! Chat templates and normalizer flags.

use super::files::{TokenizerFiles, object};
use super::keys::{KeyList, strings};
use crate::error::{Code, Error, Result};
use crate::tensor::MetaValue;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde_json::Value;

/// A chat template, or several by name.
enum Templates {
    One(String),
    Named(Vec<(String, String)>),
}

/// Writes the chat templates. Several go in the order of the file.
///
/// # Errors
/// `bad_json` or `bad_utf8` in the file that is wrong; `too_many` templates.
pub(super) fn write_templates(files: &TokenizerFiles<'_>, keys: &mut KeyList) -> Result<()> {
    // Without a configuration, the reference reads no template at all.
    let Some(config) = &files.config else { return Ok(()) };
    let found = match config.get("chat_template") {
        Some(value) => templates(value),
        None => of_files(files)?,
    };
    match found {
        None => {}
        Some(Templates::One(text)) => keys.text("tokenizer.chat_template", &text),
        Some(Templates::Named(list)) => write_named(&list, keys)?,
    }
    Ok(())
}

/// Most named chat templates: thirty times those of any model.
const MAX_TEMPLATES: usize = 256;

fn write_named(list: &[(String, String)], keys: &mut KeyList) -> Result<()> {
    if list.len() > MAX_TEMPLATES {
        let message = format!("{} chat templates; the limit is {MAX_TEMPLATES}", list.len());
        return Err(Error::new(Code::TooMany, message));
    }
    let mut names: Vec<String> = Vec::new();
    let mut default = None;
    for (name, template) in list {
        if name == "default" {
            default = Some(template);
        } else {
            let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let name: String = name.chars().map(clean).collect();
            keys.text(&format!("tokenizer.chat_template.{name}"), template);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if !names.is_empty() {
        keys.set("tokenizer.chat_templates", strings(names.iter().map(String::as_str)));
    }
    if let Some(template) = default {
        keys.text("tokenizer.chat_template", template);
    }
    Ok(())
}

fn templates(value: &Value) -> Option<Templates> {
    match value {
        Value::String(text) => Some(Templates::One(text.clone())),
        Value::Array(list) => Some(Templates::Named(list.iter().filter_map(named).collect())),
        _ => None,
    }
}

fn named(entry: &Value) -> Option<(String, String)> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    text("name").zip(text("template"))
}

fn of_files(files: &TokenizerFiles<'_>) -> Result<Option<Templates>> {
    let Some(main) = files.all.get("chat_template.jinja") else {
        let json = object(files.all, "chat_template.json")?;
        return Ok(json.as_ref().and_then(|j| j.get("chat_template")).and_then(templates));
    };
    let main = text("chat_template.jinja", main)?;
    let mut more = Vec::new();
    for (path, content) in &files.all.0 {
        let name = path.strip_prefix("additional_chat_templates/").and_then(|n| n.strip_suffix(".jinja"));
        if let Some(name) = name {
            more.push((name.to_owned(), text(path, content)?));
        }
    }
    if more.is_empty() {
        return Ok(Some(Templates::One(main)));
    }
    more.sort();
    more.insert(0, ("default".to_owned(), main));
    Ok(Some(Templates::Named(more)))
}

fn text(name: &str, content: &[u8]) -> Result<String> {
    let text = core::str::from_utf8(content)
        .map_err(|_| Error::new(Code::BadUtf8, "the chat template is not UTF-8").in_file(name))?;
    // TokenizerFiles are read as text, where every end of a line is one character.
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

/// Writes `normalizer.lowercase` and `normalizer.strip_accents`.
pub(super) fn write_normalizer(files: &TokenizerFiles<'_>, keys: &mut KeyList) {
    let Some(json) = &files.json else { return };
    let one = core::slice::from_ref(&json.normalizer);
    let several = json.normalizer.get("normalizers").and_then(Value::as_array);
    let (mut lowercase, mut strip) = (None, None);
    for normalizer in several.map_or(one, Vec::as_slice) {
        match normalizer.get("type").and_then(Value::as_str) {
            Some("Lowercase") => lowercase = Some(true),
            Some("StripAccents") => strip = Some(true),
            Some("BertNormalizer") => {
                let flag = |key: &str| normalizer.get(key).and_then(Value::as_bool);
                lowercase = flag("lowercase").or(lowercase);
                strip = flag("strip_accents").or(strip);
            }
            _ => {}
        }
    }
    for (key, value) in [("normalizer.lowercase", lowercase), ("normalizer.strip_accents", strip)] {
        if let Some(on) = value {
            keys.ggml(key, MetaValue::Bool(on));
        }
    }
}
