//! An ordered list of GGUF keys and the arrays in it.

use crate::tensor::{MetaArray, MetaValue};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Keys in the order of their first writing, each with the value of its last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeyList(pub Vec<(String, MetaValue)>);

impl KeyList {
    /// Sets `tokenizer.ggml.{name}`.
    pub(super) fn ggml(&mut self, name: &str, value: MetaValue) {
        self.set(&format!("tokenizer.ggml.{name}"), value);
    }

    /// Sets a key; one that is there keeps its place.
    pub(super) fn set(&mut self, key: &str, value: MetaValue) {
        match self.0.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// True if `tokenizer.ggml.{name}` is there.
    pub(super) fn has_ggml(&self, name: &str) -> bool {
        self.0.iter().any(|(k, _)| k.strip_prefix("tokenizer.ggml.") == Some(name))
    }

    /// Sets a text unless it is empty.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.set(key, MetaValue::String(value.to_owned()));
        }
    }
}

/// An array of strings.
pub(super) fn strings<'a>(items: impl Iterator<Item = &'a str>) -> MetaValue {
    let (mut raw, mut len) = (Vec::new(), 0);
    for item in items {
        raw.extend_from_slice(&(item.len() as u64).to_le_bytes());
        raw.extend_from_slice(item.as_bytes());
        len += 1;
    }
    MetaValue::Array(MetaArray { element: 8, len, raw })
}

/// An array of `i32`.
pub(super) fn integers(items: impl Iterator<Item = i32>) -> MetaValue {
    let raw: Vec<u8> = items.flat_map(i32::to_le_bytes).collect();
    MetaValue::Array(MetaArray { element: 5, len: (raw.len() / 4) as u64, raw })
}

/// An array of `f32`.
pub(super) fn floats(items: impl Iterator<Item = f32>) -> MetaValue {
    let raw: Vec<u8> = items.flat_map(f32::to_le_bytes).collect();
    MetaValue::Array(MetaArray { element: 6, len: (raw.len() / 4) as u64, raw })
}

/// An array of bytes.
pub(super) fn bytes(items: &[u8]) -> MetaValue {
    MetaValue::Array(MetaArray { element: 0, len: items.len() as u64, raw: items.to_vec() })
}
