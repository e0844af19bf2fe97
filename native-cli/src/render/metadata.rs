//! Metadata of a GGUF, as text that `metadata set` reads, or as JSON.

use super::clean;
use crate::verbs::metadata::{ChangeMethod, ChangedMetadata};
use quantoscope_core::bytes::Cursor;
use quantoscope_core::error::{Code, Error, Result};
use quantoscope_core::report::SCHEMA_VERSION;
use quantoscope_core::tensor::{MetaArray, MetaValue, Metadata};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Elements of an array that the list of all keys shows.
const SHOWN: usize = 6;
/// Characters of a text that the list of all keys shows.
const SHOWN_TEXT: usize = 100;

/// Prints the values of `keys`, or all metadata: one key alone as its value, several as `KEY=TYPE:VALUE`.
///
/// # Errors
///
/// `usage` for a key that is not there, `io` if standard output cannot be written to.
pub fn print(metadata: &Metadata, keys: &[String], as_json: bool) -> Result<()> {
    let find = |key: &String| {
        let missing = || Error::new(Code::Usage, format!("there is no key {key:?}"));
        let found = metadata.0.iter().find(|(k, _)| k == key);
        found.map(|(key, value)| (key.as_str(), value)).ok_or_else(missing)
    };
    let all = || metadata.0.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let chosen: Vec<(&str, &MetaValue)> =
        if keys.is_empty() { all() } else { keys.iter().map(find).collect::<Result<_>>()? };
    if as_json {
        let values: Map<String, Value> =
            chosen.iter().map(|(key, value)| ((*key).into(), typed_json(value))).collect();
        return super::json(&json!({ "schema_version": SCHEMA_VERSION, "metadata": values }));
    }
    super::stream(|out| {
        for (key, value) in &chosen {
            match keys.len() {
                0 => writeln!(out, "{}={}:{}", clean(key), type_name(value), clean(&short(value)))?,
                1 => writeln!(out, "{}", text(value))?,
                _ => writeln!(out, "{}={}:{}", clean(key), type_name(value), text(value))?,
            }
        }
        Ok(())
    })
}

/// Prints what changed, and how it was written.
///
/// # Errors
///
/// `io` if standard output cannot be written to.
pub fn print_changed(changed: &ChangedMetadata, path: &Path, dry_run: bool, as_json: bool) -> Result<()> {
    let method = match changed.method {
        ChangeMethod::Unchanged => "unchanged",
        ChangeMethod::InPlace => "in_place",
        ChangeMethod::Rewritten => "rewritten",
        ChangeMethod::Copied => "copied",
    };
    if as_json {
        let keys: Vec<Value> = changed
            .keys
            .iter()
            .map(|(key, before, after)| {
                let json = |value: &Option<MetaValue>| value.as_ref().map(typed_json);
                json!({ "key": key, "before": json(before), "after": json(after) })
            })
            .collect();
        let file = path.to_string_lossy();
        return super::json(&json!({
            "schema_version": SCHEMA_VERSION, "dry_run": dry_run, "file": file, "method": method, "keys": keys,
        }));
    }
    super::stream(|out| {
        for (key, before, after) in &changed.keys {
            let shown = |value: &MetaValue| format!("{}:{}", type_name(value), clean(&short(value)));
            match (before, after) {
                (Some(before), Some(after)) => {
                    writeln!(out, "{}: {} -> {}", clean(key), shown(before), shown(after))?;
                }
                (None, Some(after)) => writeln!(out, "{}: new: {}", clean(key), shown(after))?,
                (_, None) => writeln!(out, "{}: removed", clean(key))?,
            }
        }
        let would = if dry_run { "would be " } else { "" };
        let how = match changed.method {
            ChangeMethod::Unchanged => "unchanged".to_string(),
            ChangeMethod::InPlace => format!("{would}changed in place"),
            ChangeMethod::Rewritten => format!("{would}written again, because the header has another length"),
            ChangeMethod::Copied => format!("{would}written"),
        };
        writeln!(out, "{}: {how}", clean(&path.to_string_lossy()))
    })
}

/// The type of a value as `metadata set` takes it.
fn type_name(value: &MetaValue) -> String {
    match value {
        MetaValue::U8(_) => "u8",
        MetaValue::I8(_) => "i8",
        MetaValue::U16(_) => "u16",
        MetaValue::I16(_) => "i16",
        MetaValue::U32(_) => "u32",
        MetaValue::I32(_) => "i32",
        MetaValue::U64(_) => "u64",
        MetaValue::I64(_) => "i64",
        MetaValue::F32(_) => "f32",
        MetaValue::F64(_) => "f64",
        MetaValue::Bool(_) => "bool",
        MetaValue::String(_) => "str",
        MetaValue::Bytes(_) => "bytes",
        MetaValue::Array(array) => return format!("[{}]", element_name(array.element)),
    }
    .into()
}

fn element_name(element: u32) -> &'static str {
    const NAMES: [&str; 13] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "array", "u64", "i64", "f64"];
    NAMES.get(element as usize).copied().unwrap_or("unknown")
}

/// A value in full.
fn text(value: &MetaValue) -> String {
    match value {
        MetaValue::F32(v) => v.to_string(),
        MetaValue::F64(v) => v.to_string(),
        value => match value_json(value) {
            Value::String(text) => text,
            other => other.to_string(),
        },
    }
}

/// A value with at most the first elements of an array, or the first characters of a text.
fn short(value: &MetaValue) -> String {
    let MetaValue::Array(array) = value else {
        let whole = text(value);
        let cut: String = whole.chars().take(SHOWN_TEXT).collect();
        let more = whole.chars().count().saturating_sub(SHOWN_TEXT);
        return if more > 0 { format!("{cut}... ({more} more characters)") } else { cut };
    };
    let shown: Vec<String> = elements(array, SHOWN).iter().map(Value::to_string).collect();
    if array.len <= SHOWN as u64 {
        return format!("[{}]", shown.join(","));
    }
    format!("[{},...] ({} elements)", shown.join(","), array.len)
}

fn typed_json(value: &MetaValue) -> Value {
    json!({ "type": type_name(value), "value": value_json(value) })
}

/// A value as JSON. Floats have the shortest text that is read back as the same float; NaN and infinities are texts, and bytes
/// that are not UTF-8 are hexadecimal.
fn value_json(value: &MetaValue) -> Value {
    match value {
        MetaValue::U8(v) => (*v).into(),
        MetaValue::I8(v) => (*v).into(),
        MetaValue::U16(v) => (*v).into(),
        MetaValue::I16(v) => (*v).into(),
        MetaValue::U32(v) => (*v).into(),
        MetaValue::I32(v) => (*v).into(),
        MetaValue::U64(v) => (*v).into(),
        MetaValue::I64(v) => (*v).into(),
        MetaValue::F32(v) => float(v.to_string()),
        MetaValue::F64(v) => float(v.to_string()),
        MetaValue::Bool(v) => (*v).into(),
        MetaValue::String(v) => v.as_str().into(),
        MetaValue::Bytes(v) => hex(v).into(),
        MetaValue::Array(array) => elements(array, usize::MAX).into(),
    }
}

fn float(text: String) -> Value {
    serde_json::from_str(&text).ok().filter(Value::is_number).unwrap_or(Value::String(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The first elements of an array, at most `most`.
fn elements(array: &MetaArray, most: usize) -> Vec<Value> {
    read_elements(&mut Cursor::new(&array.raw, 0), array.element, array.len, most).unwrap_or_default()
}

/// Elements of a checked array, one after the other; `None` where the bytes end.
fn read_elements(cursor: &mut Cursor<'_>, element: u32, len: u64, most: usize) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for _ in 0..len.min(most as u64) {
        values.push(match element {
            0 => cursor.u8().ok()?.into(),
            1 => cursor.i8().ok()?.into(),
            2 => cursor.u16().ok()?.into(),
            3 => cursor.i16().ok()?.into(),
            4 => cursor.u32().ok()?.into(),
            5 => cursor.i32().ok()?.into(),
            6 => float(cursor.f32().ok()?.to_string()),
            7 => (cursor.u8().ok()? != 0).into(),
            8 => {
                let len = cursor.u64().ok()?;
                let bytes = cursor.take(len).ok()?;
                std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), String::from).into()
            }
            9 => {
                let (element, len) = (cursor.u32().ok()?, cursor.u64().ok()?);
                read_elements(cursor, element, len, usize::MAX)?.into()
            }
            10 => cursor.u64().ok()?.into(),
            11 => cursor.i64().ok()?.into(),
            12 => float(cursor.f64().ok()?.to_string()),
            _ => return None,
        });
    }
    Some(values)
}
