//! Keys of a GGUF in the order in which they are first written.

use crate::tensor::{MetaArray, MetaValue};
use alloc::string::String;
use alloc::vec::Vec;

/// Type numbers of array elements.
const ELEMENT_I32: u32 = 5;
const ELEMENT_BOOL: u32 = 7;
const ELEMENT_TEXT: u32 = 8;

/// An ordered map of keys. A key that is written again keeps its place and takes the new value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufKeys(Vec<(String, MetaValue)>);

impl GgufKeys {
    /// Writes a key. Empty texts and empty arrays are not written.
    pub fn set(&mut self, key: impl Into<String>, value: MetaValue) {
        let empty = match &value {
            MetaValue::String(text) => text.is_empty(),
            MetaValue::Array(array) => array.len == 0,
            _ => false,
        };
        if empty {
            return;
        }
        let key = key.into();
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Writes all of a list.
    pub fn extend(&mut self, keys: impl IntoIterator<Item = (String, MetaValue)>) {
        for (key, value) in keys {
            self.set(key, value);
        }
    }

    /// The keys in order.
    pub fn into_vec(self) -> Vec<(String, MetaValue)> {
        self.0
    }
}

/// An array of 32-bit integers.
pub(super) fn integers(values: &[i32]) -> MetaValue {
    let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    MetaValue::Array(MetaArray { element: ELEMENT_I32, len: values.len() as u64, raw })
}

/// An array of flags.
pub(super) fn flags(values: &[bool]) -> MetaValue {
    let raw = values.iter().map(|v| u8::from(*v)).collect();
    MetaValue::Array(MetaArray { element: ELEMENT_BOOL, len: values.len() as u64, raw })
}

/// An array of texts.
pub fn texts<T: AsRef<str>>(values: &[T]) -> MetaValue {
    let mut raw = Vec::new();
    for text in values.iter().map(AsRef::as_ref) {
        raw.extend_from_slice(&(text.len() as u64).to_le_bytes());
        raw.extend_from_slice(text.as_bytes());
    }
    MetaValue::Array(MetaArray { element: ELEMENT_TEXT, len: values.len() as u64, raw })
}
