//! A metadata key with its value as text: `KEY=TYPE:VALUE`, as llama-quantize takes it, with more types.

use crate::error::{Code, Error, Result};
use crate::format::gguf::types;
use crate::tensor::{MetaArray, MetaValue};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::str::FromStr;
use serde_json::Value;

/// A metadata key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: MetaValue,
}

/// The types in words.
const TYPES: &str = "int (u32), float (f32), bool, str, u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, or an array such as \
                     [i32] with a JSON array as its value";

fn usage(message: String) -> Error {
    Error::new(Code::Usage, message)
}

impl KeyValue {
    /// Parses `KEY=TYPE:VALUE`, such as `llama.context_length=int:8192`, `general.tags=[str]:["a","b"]`.
    ///
    /// `int` is stored as u32 and `float` as f32, as llama-quantize does.
    ///
    /// # Errors
    ///
    /// `usage` if the text is not of this form, the value is not of its type, or the key is one that belongs to the
    /// layout of the file: `general.alignment`, `split.*`.
    pub fn parse(text: &str) -> Result<KeyValue> {
        let parts = text.split_once('=').and_then(|(key, rest)| Some((key, rest.split_once(':')?)));
        let form = || usage(format!("{text:?} is not KEY=TYPE:VALUE, such as general.name=str:Name"));
        let (key, (kind, value)) = parts.filter(|(key, _)| !key.is_empty()).ok_or_else(form)?;
        check_key(key)?;
        let value = value_of(kind, value).map_err(|why| usage(format!("{key}: {why}")))?;
        Ok(KeyValue { key: key.into(), value })
    }

    /// The key in this list of metadata gets this value. As in llama.cpp, it becomes the last key.
    pub fn append_to(self, keys: &mut Vec<(String, MetaValue)>) {
        keys.retain(|(key, _)| *key != self.key);
        keys.push((self.key, self.value));
    }
}

/// Refuses keys that the layout of a file decides.
///
/// # Errors
///
/// `usage`.
pub fn check_key(key: &str) -> Result<()> {
    if key == "general.alignment" || key.starts_with("split.") {
        return Err(usage(format!("{key} belongs to the layout of the file and cannot be changed")));
    }
    Ok(())
}

/// The value `text` of the type `kind`, or why it is none.
fn value_of(kind: &str, text: &str) -> core::result::Result<MetaValue, String> {
    if let Some(element) = kind.strip_prefix('[').and_then(|k| k.strip_suffix(']')) {
        return array(element, text).map(MetaValue::Array);
    }
    Ok(match kind {
        "int" | "u32" => MetaValue::U32(number(kind, text)?),
        "float" => MetaValue::F32(finite(number::<f64>(kind, text)? as f32)?),
        "f32" => MetaValue::F32(finite(number(kind, text)?)?),
        "f64" => MetaValue::F64(finite(number(kind, text)?)?),
        "u8" => MetaValue::U8(number(kind, text)?),
        "i8" => MetaValue::I8(number(kind, text)?),
        "u16" => MetaValue::U16(number(kind, text)?),
        "i16" => MetaValue::I16(number(kind, text)?),
        "i32" => MetaValue::I32(number(kind, text)?),
        "u64" => MetaValue::U64(number(kind, text)?),
        "i64" => MetaValue::I64(number(kind, text)?),
        "bool" => MetaValue::Bool(number(kind, text)?),
        "str" => MetaValue::String(text.into()),
        _ => return Err(format!("{kind:?} is not a type; the types are {TYPES}")),
    })
}

fn number<T: FromStr>(kind: &str, text: &str) -> core::result::Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a value of the type {kind}"))
}

fn finite<T: Copy + Into<f64>>(value: T) -> core::result::Result<T, String> {
    if value.into().is_finite() { Ok(value) } else { Err("the value is not finite in this type".into()) }
}

/// An array of `element` from a JSON array.
fn array(element: &str, text: &str) -> core::result::Result<MetaArray, String> {
    let Ok(Value::Array(values)) = serde_json::from_str(text) else {
        return Err(format!("{text:?} is not a JSON array"));
    };
    let mut raw = Vec::new();
    let mut code = type_number(element).filter(|t| *t != types::ARRAY);
    for value in &values {
        let text = match value {
            Value::String(text) if element == "str" => text.clone(),
            Value::Number(_) | Value::Bool(_) if element != "str" => value.to_string(),
            other => return Err(format!("{other} is not a value of the type {element}")),
        };
        code = Some(put(&mut raw, value_of(element, &text)?));
    }
    let element =
        code.ok_or_else(|| format!("{element:?} is not a type of elements; the types are {TYPES}"))?;
    Ok(MetaArray { element, len: values.len() as u64, raw })
}

/// The number of a type that is no array.
fn type_number(kind: &str) -> Option<u32> {
    Some(match kind {
        "u8" => types::U8,
        "i8" => types::I8,
        "u16" => types::U16,
        "i16" => types::I16,
        "int" | "u32" => types::U32,
        "i32" => types::I32,
        "u64" => types::U64,
        "i64" => types::I64,
        "float" | "f32" => types::F32,
        "f64" => types::F64,
        "bool" => types::BOOL,
        "str" => types::STRING,
        _ => return None,
    })
}

/// Appends an element of an array; returns the number of its type.
fn put(raw: &mut Vec<u8>, value: MetaValue) -> u32 {
    match value {
        MetaValue::U8(v) => with(raw, types::U8, &v.to_le_bytes()),
        MetaValue::I8(v) => with(raw, types::I8, &v.to_le_bytes()),
        MetaValue::U16(v) => with(raw, types::U16, &v.to_le_bytes()),
        MetaValue::I16(v) => with(raw, types::I16, &v.to_le_bytes()),
        MetaValue::U32(v) => with(raw, types::U32, &v.to_le_bytes()),
        MetaValue::I32(v) => with(raw, types::I32, &v.to_le_bytes()),
        MetaValue::U64(v) => with(raw, types::U64, &v.to_le_bytes()),
        MetaValue::I64(v) => with(raw, types::I64, &v.to_le_bytes()),
        MetaValue::F32(v) => with(raw, types::F32, &v.to_le_bytes()),
        MetaValue::F64(v) => with(raw, types::F64, &v.to_le_bytes()),
        MetaValue::Bool(v) => with(raw, types::BOOL, &[u8::from(v)]),
        MetaValue::String(v) => {
            raw.extend_from_slice(&(v.len() as u64).to_le_bytes());
            with(raw, types::STRING, v.as_bytes())
        }
        MetaValue::Bytes(v) => {
            raw.extend_from_slice(&(v.len() as u64).to_le_bytes());
            with(raw, types::STRING, &v)
        }
        // An element is never an array: `type_number` has none.
        MetaValue::Array(_) => types::ARRAY,
    }
}

fn with(raw: &mut Vec<u8>, kind: u32, bytes: &[u8]) -> u32 {
    raw.extend_from_slice(bytes);
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> MetaValue {
        KeyValue::parse(&format!("a.b={text}")).unwrap_or_else(|e| panic!("{text}: {e}")).value
    }

    #[test]
    fn values_of_every_type() {
        assert_eq!(value("int:8192"), MetaValue::U32(8192));
        assert_eq!(value("float:0.1"), MetaValue::F32(0.1));
        assert_eq!(value("f64:0.1"), MetaValue::F64(0.1));
        assert_eq!(value("bool:true"), MetaValue::Bool(true));
        assert_eq!(value("str:a=b:c"), MetaValue::String("a=b:c".to_string()));
        assert_eq!(value("str:"), MetaValue::String(String::new()));
        assert_eq!(value("i8:-5"), MetaValue::I8(-5));
        assert_eq!(value("u64:18446744073709551615"), MetaValue::U64(u64::MAX));
        assert_eq!(value("i64:-9223372036854775808"), MetaValue::I64(i64::MIN));
        let array = |element, len, raw: &[u8]| MetaValue::Array(MetaArray { element, len, raw: raw.into() });
        assert_eq!(value("[u16]:[1, 2]"), array(types::U16, 2, &[1, 0, 2, 0]));
        assert_eq!(value("[bool]:[true,false]"), array(types::BOOL, 2, &[1, 0]));
        assert_eq!(value("[str]:[\"a\"]"), array(types::STRING, 1, &[1, 0, 0, 0, 0, 0, 0, 0, b'a']));
        assert_eq!(value("[f32]:[]"), array(types::F32, 0, &[]));
    }

    #[test]
    fn texts_that_are_no_values_are_refused() {
        for bad in [
            "a.b",
            "a.b=",
            "a.b=int",
            "=int:1",
            "a.b=int:-1",
            "a.b=int:4294967296",
            "a.b=int:1.5",
            "a.b=float:1e99",
            "a.b=float:nan",
            "a.b=bool:yes",
            "a.b=u8:256",
            "a.b=novel:1",
            "a.b=[u8]:1",
            "a.b=[u8]:[256]",
            "a.b=[str]:[1]",
            "a.b=[u8]:[\"1\"]",
            "a.b=[[u8]]:[[1]]",
            "a.b=[novel]:[]",
            "general.alignment=int:32",
            "split.count=u16:2",
        ] {
            let error = KeyValue::parse(bad).expect_err(bad);
            assert_eq!(error.code(), Code::Usage, "{bad}");
        }
    }
}
